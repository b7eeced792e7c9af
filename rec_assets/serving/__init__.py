"""Serving: the released recommender of plain arrays, free of Dagster, Spark and Java."""
