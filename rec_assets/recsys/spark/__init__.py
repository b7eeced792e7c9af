"""Spark helpers: sums that do not depend on the order of rows, and rows that Python functions make."""
