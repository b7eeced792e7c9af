"""The online state as a whole: events, exposures, availability, API keys and erasure requests.

Version counters tell readers when their cached copy is out of date, so that each response costs one small query.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from rec_assets.serving.database.connection import BATCH
from rec_assets.serving.database.events import EventStore
from rec_assets.serving.database.keys import KeyStore
from rec_assets.serving.database.tables import AVAILABILITY, LANDED_TABLES, PROBE, events, exposures, metadata
from rec_assets.serving.database.tables import unavailable as _unavailable


class OnlineState(EventStore, KeyStore):
    """All tables behind one database URL. All workers share them."""

    def check_writable(self, extra_bytes: int = 0) -> None:
        """Test a write: increment a counter, and write `extra_bytes` that the same transaction deletes.

        Raises:
            SQLAlchemyError: the write failed, for example because the disk is full or another process holds the lock.
        """
        with self._begin_change(PROBE) as connection:
            if extra_bytes:
                items = [{"bytes": secrets.token_hex(extra_bytes // 2)}]
                probe: tuple[Any, ...] = ("probe", 0.0, None, None, {}, 0, "", 0.0, False, "", items, True)
                connection.execute(sa.insert(exposures).values(probe))
                connection.execute(sa.delete(exposures).where(exposures.c.recommendation_id == "probe"))

    def set_available(self, product_id: str, available: bool) -> None:
        """Set whether a product may be shown."""
        with self._begin_change(AVAILABILITY) as connection:
            if available:
                connection.execute(sa.delete(_unavailable).where(_unavailable.c.product_id == product_id))
            else:
                connection.execute(self._insert(_unavailable).values(product_id=product_id).on_conflict_do_nothing())

    def unavailable(self) -> frozenset[str]:
        """Products that must not be shown."""
        with self._reader.connect() as connection:
            return frozenset(connection.execute(sa.select(_unavailable.c.product_id)).scalars())

    def rows_between(self, name: str, first: dt.datetime, end: dt.datetime) -> Iterator[Mapping[str, Any]]:
        """Rows of one of LANDED_TABLES with `first` <= time < `end`, sorted by key."""
        table = metadata.tables[name]
        query = sa.select(table).where(table.c.time >= first.timestamp(), table.c.time < end.timestamp())
        # PostgreSQL streams rows only within a transaction.
        options = {"yield_per": BATCH} | ({} if self._is_sqlite else {"isolation_level": "READ COMMITTED"})
        with self._reader.connect().execution_options(**options) as connection:
            for row in connection.execute(query.order_by(*(table.c[each] for each in LANDED_TABLES[name]))):
                yield row._asdict()

    def oldest_event(self) -> dt.datetime | None:
        """Time of the oldest event or exposure; None if there is none."""
        with self._reader.connect() as connection:
            times = [connection.execute(sa.select(sa.func.min(each.c.time))).scalar() for each in (events, exposures)]
        oldest = min((each for each in times if each is not None), default=None)
        return None if oldest is None else dt.datetime.fromtimestamp(oldest, dt.timezone.utc)

    def delete_rows(self, name: str, keys: Sequence[tuple[str, ...]]) -> int:
        """Delete rows of one of LANDED_TABLES by key; returns the number."""
        table, deleted = metadata.tables[name], 0
        key = sa.tuple_(*(table.c[each] for each in LANDED_TABLES[name]))
        for first in range(0, len(keys), BATCH):
            is_in_batch = key.in_(keys[first : first + BATCH])
            with self._writer.begin() as connection:
                deleted += connection.execute(sa.delete(table).where(is_in_batch)).rowcount
        return deleted
