"""Preparation of MLflow's SQLite database under REC_HOME before MLflow opens it.

MLflow records absolute URIs of artifacts. After REC_HOME was moved or copied, these URIs would still point to the old
folder, and a copy would write into the original. This module rewrites them to the folder next to the database.

    REC_HOME/mlflow/mlflow.db      REC_HOME/mlflow/artifacts/
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from rec_assets.sqlite import sqlite_file

_URI_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
_BUSY_SECONDS = 30


def prepare_store(uri: str) -> None:
    """Create the database's folder and rewrite its artifact URIs to the folder next to it. Ignores a server.

    Also turns MLflow's progress bars off.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    database = sqlite_file(uri)
    if database is None:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    artifacts = database.parent / "artifacts"
    if database.exists() and artifacts.exists():
        with contextlib.closing(sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            _rewrite_uris(connection, artifacts.as_uri())


def _rewrite_uris(connection: sqlite3.Connection, current: str) -> None:
    try:
        found = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
    except sqlite3.OperationalError:  # MLflow has not created its tables yet
        return
    # Locations that a user chose for their own experiments stay.
    old = [uri for (uri,) in found if uri and uri != current and uri.endswith("/mlflow/artifacts")]
    if not old:
        return
    connection.execute("BEGIN IMMEDIATE")
    for table, column in _URI_COLUMNS:
        for uri in old:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (current, len(uri) + 1, uri, len(uri) + 1, f"{uri}/"),
            )
    connection.execute("COMMIT")
