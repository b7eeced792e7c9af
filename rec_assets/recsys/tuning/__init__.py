"""Hyper-parameter tuning: the search space and the resumable study."""
