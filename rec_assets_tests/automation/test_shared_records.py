"""Dagster's records and the plan lock in a real PostgreSQL that several machines share."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from dagster import DagsterRun, asset, materialize
from pydantic import SecretStr, ValidationError

from rec_assets.automation.instance import DATABASE_VARIABLE, open_instance
from rec_assets.automation.plan import ExecutionError
from rec_assets.automation.plan_lock import plan_lock
from rec_assets.settings import Settings

HOLD = """
import sys, time
from rec_assets.automation.plan_lock import plan_lock
from rec_assets.settings import Settings
with plan_lock(Settings(home=sys.argv[1])):
    print("holding", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the variables that `open_instance` sets."""
    monkeypatch.setenv(DATABASE_VARIABLE, "")
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv(DATABASE_VARIABLE)


def settings(home: Path, url: str) -> Settings:
    return Settings(home=home, dagster_database_url=SecretStr(url))


def hold(home: Path, url: str) -> subprocess.Popen[str]:
    """Start another process, with another home, that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], env={**os.environ, DATABASE_VARIABLE: url},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_runs_and_events_are_stored_in_postgres_and_the_url_in_no_file(tmp_path: Path, database: str) -> None:
    with open_instance(settings(tmp_path, database)) as instance:

        @asset
        def something() -> None: ...

        assert materialize([something], instance=instance).success
    engine = sa.create_engine(database)
    with engine.connect() as connection:
        runs, events = (connection.scalar(sa.text(f"select count(*) from {table}")) for table in ("runs", "event_logs"))
    engine.dispose()
    assert (runs, events > 5) == (1, True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix == ".db" and "schedules" not in path.name]
    assert not [path for path in files if database.encode() in path.read_bytes()]


def test_two_homes_with_one_database_see_the_same_runs(tmp_path: Path, database: str) -> None:
    with open_instance(settings(tmp_path / "one", database)) as one:
        one.add_run(DagsterRun(job_name="score_customers"))
    with open_instance(settings(tmp_path / "two", database)) as two:
        assert [run.job_name for run in two.get_runs()] == ["score_customers"]


def test_setting_or_removing_the_database_url_later_is_an_error(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_instance(Settings(home=tmp_path)):
        pass
    with pytest.raises(ExecutionError, match=r"DATABASE_URL is set, but .* stores runs in another place"):
        open_instance(settings(tmp_path, database))
    with open_instance(settings(tmp_path / "shared", database)):
        monkeypatch.delenv(DATABASE_VARIABLE)
    with pytest.raises(ExecutionError, match=r"DATABASE_URL is not set, but .* stores runs in that database"):
        open_instance(Settings(home=tmp_path / "shared"))


def test_a_url_of_another_database_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"must be a URL that begins with postgresql\+psycopg2://") as refused:
        settings(tmp_path, "mysql://user:geheim@host/dagster")
    assert "geheim" not in str(refused.value)


def test_processes_with_one_database_exclude_each_other(tmp_path: Path, database: str) -> None:
    ours, other = settings(tmp_path / "ours", database), hold(tmp_path / "other", database)
    try:
        held = rf"another plan is running \(rec_assets on .*, process {other.pid}, since"
        with pytest.raises(ExecutionError, match=held), plan_lock(ours):
            pass
        messages: list[str] = []

        def log(text: str) -> None:
            messages.append(text)
            other.send_signal(signal.SIGKILL)  # the lock is free as soon as its process is dead

        with plan_lock(ours, log=log):
            assert len(messages) == 1
            assert "waiting: another plan is running (rec_assets on" in messages[0] and str(other.pid) in messages[0]
    finally:
        other.kill()
        other.wait()


def test_the_lock_is_released_after_an_error(tmp_path: Path, database: str) -> None:
    ours = settings(tmp_path, database)
    for _ in range(2):
        with pytest.raises(ValueError, match="failed"), plan_lock(ours):
            raise ValueError("failed")


def test_locks_in_different_databases_are_independent(tmp_path: Path, database: str, postgres: str) -> None:
    other = hold(tmp_path / "other", database)
    try:
        with plan_lock(settings(tmp_path, postgres.replace("+psycopg:", "+psycopg2:"))):
            pass
    finally:
        other.kill()
        other.wait()
