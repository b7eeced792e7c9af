"""The plan lock: only one plan runs at a time in a deployment, on one machine or on several.

Dagster: run queue limits (`tag_concurrency_limits`) count only queued runs. `rec-assets bootstrap` runs its plan
without the queue, and a lock must be free as soon as its process is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rec_assets.automation.plan import ExecutionError
from rec_assets.settings import Settings

TryLock = Callable[[], str | None]
"""Tries to take the lock; returns None if it succeeds, else a text about the process that holds the lock."""

ADVISORY_KEY = 0x7265635F61737365
"""Key of the advisory lock: "rec_asse" as a number. A database holds the records of one deployment."""

_HOLDER = """select application_name, backend_start from pg_stat_activity join pg_locks using (pid)
where locktype = 'advisory' and classid = :high and objid = :low and granted
and database = (select oid from pg_database where datname = current_database())"""


@contextlib.contextmanager
def plan_lock(settings: Settings, *, log: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the plan lock of the deployment. The operating system or the database frees it if the process dies.

    Args:
        settings: REC_HOME, or the URL of Dagster's database.
        log: If given, wait for the lock and log that; else the lock must be free.

    Raises:
        ExecutionError: another process holds the lock.
    """
    url = settings.dagster_database_url
    with _database_lock(url.get_secret_value()) if url else _file_lock(settings.root / ".bootstrap.lock") as try_lock:
        waiting = False
        while holder := try_lock():
            if log is None:
                raise ExecutionError(f"another plan is running {holder}: wait for it, or stop it")
            if not waiting:
                log(f"waiting: another plan is running {holder}")
            waiting = True
            time.sleep(2)
        yield


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[TryLock]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:

        def try_lock() -> str | None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return f"in {path.parent}"
            return None

        yield try_lock


@contextlib.contextmanager
def _database_lock(url: str) -> Iterator[TryLock]:
    """An advisory lock of PostgreSQL, which the server frees when the connection ends.

    If a machine is lost, the server notices it by its own TCP keepalives (`tcp_keepalives_idle`).
    """
    import sqlalchemy as sa

    name = f"rec_assets on {socket.gethostname()}, process {os.getpid()}"
    engine = sa.create_engine(
        url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT",
        connect_args={"application_name": name, "keepalives_idle": 30},
    )  # fmt: skip
    with engine.connect() as connection:

        def try_lock() -> str | None:
            if connection.scalar(sa.text("select pg_try_advisory_lock(:key)"), {"key": ADVISORY_KEY}):
                return None
            parts = {"high": ADVISORY_KEY >> 32, "low": ADVISORY_KEY & 0xFFFFFFFF}
            holder = connection.execute(sa.text(_HOLDER), parts).first()
            return f"({holder[0]}, since {holder[1]:%Y-%m-%d %H:%M %Z})" if holder else "(and has just ended)"

        yield try_lock
