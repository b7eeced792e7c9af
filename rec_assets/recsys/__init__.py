"""The science: cleaning, models, candidates, ranking, metrics. Free of Dagster and MLflow."""
