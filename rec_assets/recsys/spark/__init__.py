"""Spark helpers that the science needs: sums that do not depend on row order, and rows made by tasks."""
