-- Run once, by an empty PostgreSQL: each part has a database of its own.
CREATE DATABASE dagster;
CREATE DATABASE mlflow;
CREATE DATABASE online;
