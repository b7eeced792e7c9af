"""Online experiments: what is compared, who sees what, and what the numbers say. Free of Dagster and of the API."""
