"""Evaluation of recommendation lists: metrics, baselines, backtests, reports, live accuracy and business KPIs."""
