"""How good the recommendations are: metrics, the judge that applies them, and the report people read."""
