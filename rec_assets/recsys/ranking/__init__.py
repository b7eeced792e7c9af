"""Ranking: features, the ranker, recommendation lists and their reasons."""
