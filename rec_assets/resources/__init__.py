"""What the assets run with: the lake, Spark, the MLflow tracker, the text encoder."""
