"""The Dagster instance under REC_HOME: its dagster.yaml, and its database.

Dagster: it reads a dagster.yaml but writes none, and can't tell when a changed setting would start new run records.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import dagster as dg

from rec_assets.automation.plan import ExecutionError
from rec_assets.resources.event_log import BATCH_SIZE
from rec_assets.settings import Settings

DAGSTER_YAML = Path(__file__).with_name("dagster.yaml")

DATABASE_VARIABLE = "REC_DAGSTER_DATABASE_URL"

SQLITE_YAML = """
# Events of many partitions are stored at once.
event_log_storage:
  module: rec_assets.resources.event_log
  class: BatchedEventLog
  config:
    home:
      env: DAGSTER_HOME
"""

POSTGRES_YAML = f"""
# Runs, events and schedules in PostgreSQL. The URL contains a password, so it stays in the environment.
storage:
  postgres:
    postgres_url:
      env: {DATABASE_VARIABLE}
"""


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """Open the Dagster instance under REC_HOME; create it if it doesn't exist.

    Raises:
        ExecutionError: dagster.yaml and REC_DAGSTER_DATABASE_URL contradict each other, or the driver is missing.
    """
    home, url = settings.dagster_home, settings.dagster_database_url
    home.mkdir(parents=True, exist_ok=True)
    configuration = home / "dagster.yaml"
    if not configuration.exists():
        configuration.write_text(DAGSTER_YAML.read_text() + (POSTGRES_YAML if url else SQLITE_YAML))
    if (DATABASE_VARIABLE in configuration.read_text()) != (url is not None):
        raise ExecutionError(
            f"{DATABASE_VARIABLE} is {'set' if url else 'not set'}, but {configuration} stores runs in "
            f"{'another place' if url else 'that database'}: restore the variable, or delete that file to start new "
            "records"
        )
    if url:
        if find_spec("dagster_postgres") is None:
            raise ExecutionError(f"{DATABASE_VARIABLE} needs dagster-postgres: pip install 'rec_assets[postgres]'")
        os.environ[DATABASE_VARIABLE] = url.get_secret_value()  # dagster.yaml reads it, in child processes too
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH_SIZE))
    return dg.DagsterInstance.get()
