"""The database of the online state: connections, table creation, transactions and version counters.

SQLite in WAL mode, or PostgreSQL. A committed write is durable when the call returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from rec_assets.files import restrict
from rec_assets.serving.database.tables import COUNTERS, PROBE, counters, metadata, upgrade

BATCH = 5000
"""Rows per statement or fetch. Databases limit the number of parameters of a statement."""

_POOL_SIZE = 40
_POSTGRES = {"connect_timeout": 2, "options": "-c statement_timeout=5000", "tcp_user_timeout": 2000}
_SELECT_COUNTERS = sa.select(counters.c.name, counters.c.value).where(
    counters.c.name != sa.literal_column(f"'{PROBE}'")
)


class OnlineDatabase:
    """Connections to a URL such as `sqlite:////data/online.db` or `postgresql+psycopg://user@host/shop`."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        names = [f"{parsed.database}{suffix}" for suffix in ("", "-wal", "-shm")]
        self._files = [Path(each) for each in names] if self._is_sqlite and parsed.database else []
        # After these timeouts, a database that hangs counts as unavailable.
        options: dict[str, Any] = {"pool_size": _POOL_SIZE, "pool_timeout": 2}
        if not self._is_sqlite:
            options |= {"pool_pre_ping": True, "connect_args": _POSTGRES}
        # Two pools: writers wait for one another and must not use up the connections of readers.
        self._writer = sa.create_engine(url, **options)
        # A request reads with single statements. Autocommit saves a BEGIN and a ROLLBACK for each.
        self._reader = sa.create_engine(url, **options, isolation_level="AUTOCOMMIT")
        if self._is_sqlite:
            # A reader waits only for a lock of the whole file.
            for engine, lock_seconds in ((self._writer, 10), (self._reader, 2)):
                sa.event.listen(engine, "connect", partial(_prepare_sqlite, lock_seconds))
            # A deferred transaction that reads first fails to write if another wrote in between: declare the intent.
            sa.event.listen(self._writer, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    def create(self) -> None:
        """Create missing tables and upgrade those of an earlier version. Several processes may do so at once.

        Only the owner and the group can read a SQLite file.
        """
        try:
            with self._writer.begin() as connection:
                if not self._is_sqlite:
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(20171231)"))
                upgrade(connection)
                metadata.create_all(connection)
                for name in (*COUNTERS, PROBE):
                    connection.execute(self._insert(counters).values(name=name, value=0).on_conflict_do_nothing())
        finally:
            restrict(self._files)

    def close(self) -> None:
        """Close all connections."""
        self._writer.dispose()
        self._reader.dispose()

    def counters(self) -> dict[str, int]:
        """The version counter of each of COUNTERS. Each change increments its counter."""
        with self._reader.connect() as connection:
            return dict(connection.execute(_SELECT_COUNTERS).all())

    @contextmanager
    def _begin_change(self, counter: str) -> Iterator[sa.Connection]:
        """A write transaction that increments a version counter."""
        with self._writer.begin() as connection:
            connection.execute(sa.update(counters).where(counters.c.name == counter).values(value=counters.c.value + 1))
            yield connection

    def _insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)


def _prepare_sqlite(lock_seconds: int, connection: Any, _: object) -> None:
    """Configure a connection, which waits up to `lock_seconds` for a lock."""
    connection.isolation_level = None  # the "begin" listeners start transactions
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={1000 * lock_seconds}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # on disk before a commit returns
    cursor.execute("PRAGMA secure_delete=ON")  # overwrite deleted rows
    cursor.close()
