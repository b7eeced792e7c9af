-- An empty PostgreSQL runs this once. Each service has its own database.
CREATE DATABASE dagster;
CREATE DATABASE mlflow;
CREATE DATABASE online;
