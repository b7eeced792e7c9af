"""The recommender: cleaning, models, candidates, ranking, metrics. It does not depend on Dagster or MLflow."""
