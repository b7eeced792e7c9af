"""The online state: the database that all workers of the API share (SQLite or PostgreSQL)."""
