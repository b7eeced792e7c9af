"""MLflow's own SQLite database under REC_HOME, before MLflow opens it.

MLflow writes absolute addresses of artifacts into its records. A home that was renamed, moved or copied would go on
looking for them in the old place, and a copy would write into the original's. So they follow the database.

    REC_HOME/mlflow/mlflow.db      REC_HOME/mlflow/artifacts/
"""

from __future__ import annotations

import contextlib
import sqlite3

from rec_assets.sqlite import sqlite_file

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
_BUSY_SECONDS = 30


def prepare_store(uri: str) -> None:
    """Make the database's folder, and have its addresses lead to the artifacts beside it; nothing for a server."""
    database = sqlite_file(uri)
    if database is None:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    artifacts = database.parent / "artifacts"
    if database.exists() and artifacts.exists():
        with contextlib.closing(sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            _move(connection, artifacts.as_uri())


def _move(connection: sqlite3.Connection, here: str) -> None:
    try:
        found = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    except sqlite3.OperationalError:  # MLflow is about to make its tables
        return
    # Of other places, those that the user chose for an experiment of their own stay.
    old = [place for (place,) in found if place and place != here and place.endswith("/mlflow/artifacts")]
    if not old:
        return
    connection.execute("BEGIN IMMEDIATE")
    for table, column in _ADDRESSES:
        for place in old:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (here, len(place) + 1, place, len(place) + 1, f"{place}/"),
            )
    connection.execute("COMMIT")
