"""Experiments on live traffic: assignment, randomized rankings, measurements, statistics and the report."""
