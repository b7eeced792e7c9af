"""Right to erasure in the online state: delete a customer's rows, and reject those rows if they are sent again."""

from __future__ import annotations

import datetime as dt
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.serving.database.connection import BATCH, OnlineDatabase
from rec_assets.serving.database.tables import FORGOTTEN, counters, events, exposures, forgotten

_LOCK_FORGOTTEN = sa.select(counters.c.value).where(counters.c.name == FORGOTTEN).with_for_update(read=True)
"""Serializes a write with `forget`, so that no row of a forgotten customer is written meanwhile."""


class ErasureStore(OnlineDatabase):
    """Erasure requests."""

    def forget(self, customer_id: str, now: dt.datetime) -> int:
        """Delete a customer's events and exposures and record the request; returns the number of deleted events."""
        request = {"customer": customer_digest(customer_id), "at": now.timestamp()}
        newest = {"index_elements": ["customer"], "set_": {"at": request["at"]}}
        with self._begin_change(FORGOTTEN) as connection:
            is_theirs = events.c.customer_id == customer_id
            was_exposed = exposures.c.customer_id == customer_id
            # Their sessions too: what the customer did before signing in is theirs as well.
            theirs = sa.union(
                sa.select(events.c.session_id).where(is_theirs), sa.select(exposures.c.session_id).where(was_exposed)
            )
            sessions = connection.execute(theirs).scalars().all()
            deleted = connection.execute(sa.delete(events).where(is_theirs)).rowcount
            connection.execute(sa.delete(exposures).where(was_exposed))
            for first in range(0, len(sessions), BATCH):
                batch = [each for each in sessions[first : first + BATCH] if each is not None]
                for table in (events, exposures):
                    is_anonymous = sa.and_(table.c.session_id.in_(batch), table.c.customer_id.is_(None))
                    count = connection.execute(sa.delete(table).where(is_anonymous)).rowcount
                    deleted += count if table is events else 0
            connection.execute(self._insert(forgotten).values(**request).on_conflict_do_update(**newest))
        if self._is_sqlite:
            self._truncate_write_ahead_log()
        return deleted

    def forgotten(self) -> dict[str, dt.datetime]:
        """`customer_digest` of each forgotten customer → time of the request."""
        with self._reader.connect() as connection:
            rows = connection.execute(sa.select(forgotten)).all()
        return {row.customer: dt.datetime.fromtimestamp(row.at, dt.timezone.utc) for row in rows}

    def _forgotten_rows(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Positions of the rows whose customer asked to be forgotten at or after the row's time."""
        digests = {row["customer_id"]: customer_digest(row["customer_id"]) for row in rows if row["customer_id"]}
        if digests and not self._is_sqlite:  # SQLite allows one writer at a time anyway
            connection.execute(_LOCK_FORGOTTEN)
        query = sa.select(forgotten).where(forgotten.c.customer.in_(list(digests.values())))
        until = {row.customer: row.at for row in connection.execute(query)} if digests else {}
        ends = [until.get(digests.get(row["customer_id"], ""), -math.inf) for row in rows]
        return [number for number, row in enumerate(rows) if row["time"] <= ends[number]]

    def _truncate_write_ahead_log(self) -> None:
        """Remove the deleted rows from SQLite's write-ahead log, which keeps them until it is overwritten."""
        connection = self._reader.raw_connection()  # outside of any transaction
        with suppress(sqlite3.Error):  # a full disk: the rows are deleted from the tables all the same
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
