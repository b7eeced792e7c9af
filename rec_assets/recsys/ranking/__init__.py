"""Ranking: features, the learned ranker, and the recommendation lists."""
