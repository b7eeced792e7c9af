"""rec_assets: a Dagster code location that turns a shop's purchase logs into recommendations."""

__version__ = "0.1.0"
