"""Experiments on live traffic: assignment, randomized rankings, outcomes, statistics and the report."""
