"""Hyper-parameter tuning with Optuna: the search space and the study."""
