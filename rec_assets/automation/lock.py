"""The lock that a plan holds: a file's on one machine, PostgreSQL's where several machines share Dagster's records.

Either goes with the process that holds it, however that ends. Each is a context that gives a function to try it with,
which returns None when the lock is ours, and else in words who has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

Try = Callable[[], str | None]

KEY = 0x7265635F61737365
"""Of the advisory lock ("rec_asse" as a number): one is enough, as a database holds the records of one deployment."""

_HOLDER = """select application_name, backend_start from pg_stat_activity join pg_locks using (pid)
where locktype = 'advisory' and classid = :high and objid = :low and granted
and database = (select oid from pg_database where datname = current_database())"""


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[Try]:
    """The lock of a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:

        def take() -> str | None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return f"in {path.parent}"
            return None

        yield take


@contextlib.contextmanager
def database_lock(url: str) -> Iterator[Try]:
    """An advisory lock of a PostgreSQL database; the server frees it when our connection ends.

    A machine that vanishes without a word is noticed after two minutes, by the server's keepalives where they are on.
    """
    import sqlalchemy as sa

    name = f"rec_assets on {socket.gethostname()}, process {os.getpid()}"
    engine = sa.create_engine(
        url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT",
        connect_args={"application_name": name, "keepalives_idle": 30},
    )  # fmt: skip
    with engine.connect() as connection:

        def take() -> str | None:
            if connection.scalar(sa.text("select pg_try_advisory_lock(:key)"), {"key": KEY}):
                return None
            holder = connection.execute(sa.text(_HOLDER), {"high": KEY >> 32, "low": KEY & 0xFFFFFFFF}).first()
            return f"({holder[0]}, since {holder[1]:%Y-%m-%d %H:%M %Z})" if holder else "(and has just ended)"

        yield take
