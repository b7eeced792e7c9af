"""Access to the online state that does not wait for a broken database, and a cached snapshot of it.

After a failure, reads and writes fail at once until a background probe succeeds. A database that hangs must not delay
responses that can do without it.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection

from rec_assets.serving.database.keys import Key
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.database.tables import AVAILABILITY, FORGOTTEN, KEYS

_PROBE_BYTES = 2**19
"""Bytes to write in a probe after a failed write: the default maximum size of a batch of events."""

_VALUE_ERRORS = (DataError, IntegrityError)
"""Errors of the values in a statement, not of the database."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class DatabaseUnavailable(SQLAlchemyError):
    """An earlier access failed, so the database is not accessed."""


@dataclass(frozen=True)
class OnlineSnapshot:
    """Cached availability, keys and forgotten customers, and the version counters at which they were read."""

    counters: dict[str, int]
    unavailable: frozenset[str]
    keys: dict[str, Key]
    forgotten: dict[str, dt.datetime]


class DatabaseGuard:
    """Guards the online state of one worker.

    Attributes:
        is_unavailable: Whether reads fail.
        write_error: Why writes fail; None if they don't.
    """

    def __init__(self, online: OnlineState) -> None:
        self.online = online
        self.is_unavailable = False
        self.write_error: str | None = None
        self._snapshot = OnlineSnapshot({}, frozenset(), {}, {})

    def snapshot(self) -> OnlineSnapshot:
        """The current snapshot; the last known one if the database is unavailable."""
        try:
            return self.read(self._refresh_snapshot)
        except SQLAlchemyError:
            return self._snapshot

    def read(self, query: Callable[[], T]) -> T:
        """Run a query.

        Raises:
            SQLAlchemyError: the database is unavailable.
        """
        if self.is_unavailable:
            raise DatabaseUnavailable
        try:
            return query()
        except (DatabaseError, InterfaceError, NoConnection) as error:
            if isinstance(error, _VALUE_ERRORS):
                raise
            _log.error("the database does not respond (%s); the API uses the data that it read last", _reason(error))
            self.is_unavailable = True
            raise

    def write(self, change: Callable[[], T]) -> T:
        """Run a change. When only writes fail, for example on a full disk, reads continue.

        Raises:
            SQLAlchemyError: nothing was written.
        """
        if self.is_unavailable or self.write_error:
            raise DatabaseUnavailable
        try:
            return change()
        except (DatabaseError, InterfaceError, NoConnection) as error:
            if not isinstance(error, _VALUE_ERRORS):
                self._set_write_error(error)
            raise

    def check(self) -> None:
        """Read from the database. Raises SQLAlchemyError if it is unavailable."""
        self.read(self._refresh_snapshot)

    def probe(self) -> None:
        """Test a write, and after a failure, whether the database is available again."""
        try:
            self.online.create()  # the database may have been replaced by an empty one
            # On a full disk, one small write may succeed although a batch of events does not.
            self.online.check_writable(_PROBE_BYTES if self.write_error else 0)
        except SQLAlchemyError as error:
            self._set_write_error(error)
        else:
            if self.write_error:
                _log.info("the database is writable again")
            self.write_error = None
        if self.is_unavailable:
            with suppress(SQLAlchemyError):
                self.online.counters()
                self.online.oldest_event()  # the tables of events may be locked separately
                self.is_unavailable = False
                _log.info("the database responds again")

    def _set_write_error(self, error: Exception) -> None:
        reason = _reason(error)
        if reason != self.write_error:
            _log.error("the database is not writable (%s): the API rejects events until it is", reason)
        self.write_error = reason

    def _refresh_snapshot(self) -> OnlineSnapshot:
        old, counters = self._snapshot, self.online.counters()
        if counters == old.counters:
            return old

        def refreshed(name: str, read: Callable[[], T], value: T) -> T:
            return read() if counters.get(name) != old.counters.get(name) else value

        self._snapshot = OnlineSnapshot(
            counters,
            refreshed(AVAILABILITY, self.online.unavailable, old.unavailable),
            refreshed(KEYS, self.online.keys, old.keys),
            refreshed(FORGOTTEN, self.online.forgotten, old.forgotten),
        )
        return self._snapshot


def _reason(error: Exception) -> str:
    """First line of an error, without the statement's parameters, which may contain customer ids."""
    return str(getattr(error, "orig", None) or error).partition("\n")[0] or type(error).__name__
