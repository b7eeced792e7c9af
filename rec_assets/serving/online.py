"""The online state: what visitors did and saw, what is out of stock, who may ask, whom to forget. All workers share it.

SQLite in WAL mode, or PostgreSQL by URL. What is written is durable before the call returns. Counters tell readers when
what they keep in memory is out of date, so that each answer costs one small look and none is stale.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from rec_assets.files import restrict
from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.recsys.events import IMPRESSION
from rec_assets.serving.tables import (
    ADMIN,
    AVAILABILITY,
    COUNTERS,
    FORGOTTEN,
    KEYS,
    LANDED_TABLES,
    SCOPES,
    SIMULATE,
    upgrade,
)
from rec_assets.serving.tables import counters as _counters
from rec_assets.serving.tables import events as _events
from rec_assets.serving.tables import exposures as _exposures
from rec_assets.serving.tables import forgotten as _forgotten
from rec_assets.serving.tables import keys as _keys
from rec_assets.serving.tables import metadata as _metadata
from rec_assets.serving.tables import unavailable as _unavailable

NEWEST_EVENTS = 200
"""So many of a shopper's events count at most in an answer."""

_BATCH = 5000
_THREADS = 40
_POSTGRES = {"connect_timeout": 2, "options": "-c statement_timeout=5000", "tcp_user_timeout": 2000}


def _tired_of(whose: sa.ColumnElement[bool]) -> sa.Select[Any]:
    is_seen = _events.c.type == IMPRESSION
    return (
        sa.select(_events.c.product_id)
        .where(whose, _events.c.time >= sa.bindparam("since"))
        .group_by(_events.c.product_id)
        .having(sa.func.count() >= sa.bindparam("most"), sa.func.count() == sa.func.sum(sa.case((is_seen, 1), else_=0)))
    )


def _newest_of(whose: sa.ColumnElement[bool]) -> sa.Select[Any]:
    columns = (_events.c.type, _events.c.product_id, _events.c.order_id, _events.c.session_id)
    return (
        sa.select(*columns)
        .where(whose, _events.c.time >= sa.bindparam("since"), _events.c.type != IMPRESSION)
        .order_by(_events.c.time.desc(), _events.c.event_id, _events.c.sender)
        .limit(NEWEST_EVENTS)
    )


_is_theirs = _events.c.customer_id == sa.bindparam("customer")
# A session alone proves nobody: what somebody signed in did in it is theirs, and told to them only.
_in_session = sa.and_(_events.c.session_id == sa.bindparam("session"), _events.c.customer_id.is_(None))
# By whether a customer and whether a session is asked for; built once, as each answer asks.
_WHOSE = {
    (True, False): _is_theirs,
    (False, True): _in_session,
    (True, True): sa.or_(_is_theirs, _in_session),
}
_NEWEST = {asked: _newest_of(whose) for asked, whose in _WHOSE.items()}
_TIRED = {asked: _tired_of(whose) for asked, whose in _WHOSE.items()}
_COUNTS = sa.select(_counters).where(_counters.c.name.in_(COUNTERS))
_NOBODY_IS_FORGOTTEN_NOW = sa.select(_counters.c.value).where(_counters.c.name == FORGOTTEN).with_for_update(read=True)
"""Waits for `forget`, and has it wait for this transaction: what is written meanwhile must not outlast it."""
_PROBE = "probe"
"""A counter that goes up only to see whether anything can be written."""

_key_of_events = sa.tuple_(_events.c.sender, _events.c.event_id)
_CONTENT = (
    "type", "product_id", "customer_id", "session_id", "order_id", "quantity", "unit_price", "recommendation_id",
    "position",
)  # fmt: skip
"""What two events of one id must have in common to be the same; their times may differ, as each sending has its own."""

_IS_FORGOTTEN = "customer_id: this customer asked to be forgotten after that time; it is not kept"


@dataclass(frozen=True)
class Event:
    """What a visitor did.

    Attributes:
        event_id: Made by the client; the same event of the same sender, sent twice, counts once.
        type: One of `recsys.events.EVENT_TYPES`.
        product_id: With what.
        time: When, in UTC.
        customer_id, session_id: By whom; one of them at least.
        order_id, quantity, unit_price: Of a purchase or return.
        recommendation_id, position: The answer of ours that showed the product, and its rank there.
        sender: As `sender_of` says; ids of different senders are different.
    """

    event_id: str
    type: str
    product_id: str
    time: dt.datetime
    customer_id: str | None = None
    session_id: str | None = None
    order_id: str | None = None
    quantity: float | None = None
    unit_price: float | None = None
    recommendation_id: str | None = None
    position: int | None = None
    sender: str = ""


def sender_of(customer_id: str | None, session_id: str | None, *, is_public: bool) -> str:
    """Whose ids an event's `event_id` is one of.

    "" for the shop's own keys, which share one space, also when they are changed for new ones. Of a public key 32
    hexadecimal digits of a SHA-256 of whom the event speaks of: everybody has that key, and nobody may take away an id
    that another visitor, or the shop, is about to use.
    """
    if not is_public:
        return ""
    whom = f"session:{session_id}" if customer_id is None else f"customer:{customer_id}"
    return hashlib.sha256(whom.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class WriteResult:
    """What became of a batch of events.

    Attributes:
        new: How many are on disk now that weren't before.
        refused: Place in the batch → why it was not written.
    """

    new: int
    refused: dict[int, str]


@dataclass(frozen=True)
class Exposure:
    """An answer that was part of an experiment.

    Attributes:
        recommendation_id: The answer's; events name it.
        time: When, in UTC.
        customer_id, session_id: Whom it was for.
        variants: Experiment → variant.
        model_version: By which it was made; with interleaving, the control's.
        mode, exploration: What was asked for, or what the variant made of it.
        filtered: The question left some products out or said what is kept nowhere, or rules had a say: nobody can work
            out again what the answer was chosen from.
        answered_by: What it rests on.
        items: What was shown, best first: `product_id`, `propensity` (chance with which it was to stand there, given
            what stands above; null where nobody can tell) and, with interleaving, `team`: the variant it comes from.
        simulated: It was given to the traffic simulator.
    """

    recommendation_id: str
    time: dt.datetime
    customer_id: str | None
    session_id: str | None
    variants: dict[str, str]
    model_version: int
    mode: str
    exploration: float
    filtered: bool
    answered_by: str
    items: list[dict[str, Any]]
    simulated: bool


@dataclass(frozen=True)
class Key:
    """An API key, without its secret.

    Attributes:
        name: What it is called.
        scopes: What it may do.
        expires: When it ends; None: never.
        is_public: It stands in pages that everybody can read: it may speak of a customer only with their token.
    """

    name: str
    scopes: frozenset[str]
    expires: dt.datetime | None = None
    is_public: bool = False

    def has_expired(self, now: dt.datetime) -> bool:
        """Whether it has ended."""
        return self.expires is not None and self.expires <= now


class OnlineState:
    """The tables behind a URL such as `sqlite:////data/online.db` or `postgresql+psycopg://user@host/shop`."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        self._is_sqlite = parsed.get_backend_name() == "sqlite"
        names = [f"{parsed.database}{suffix}" for suffix in ("", "-wal", "-shm")]
        self._files = [Path(each) for each in names] if self._is_sqlite and parsed.database else []
        # A database that hangs is one that doesn't answer: nobody waits for it longer than this.
        more: dict[str, Any] = {"pool_size": _THREADS, "pool_timeout": 2}
        if not self._is_sqlite:
            more |= {"pool_pre_ping": True, "connect_args": _POSTGRES}
        # Writers wait for one another; who reads takes no connection of theirs.
        self.engine, self._reader = sa.create_engine(url, **more), sa.create_engine(url, **more)
        if self._is_sqlite:
            # Readers wait for nobody but who holds the whole file.
            for engine, patience in ((self.engine, 10), (self._reader, 2)):
                sa.event.listen(engine, "connect", partial(_prepare_sqlite, patience))
            # A transaction that reads first and writes later fails if another wrote in between; ours say what they are.
            sa.event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
            sa.event.listen(self._reader, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    def create(self) -> None:
        """Make the tables that are missing, and upgrade an earlier version's; several processes may do so at once.

        A SQLite file is readable for its owner and group only.
        """
        try:
            with self.engine.begin() as connection:
                if not self._is_sqlite:
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(20171231)"))
                upgrade(connection)
                _metadata.create_all(connection)
                for name in (*COUNTERS, _PROBE):
                    connection.execute(self._insert(_counters).values(name=name, value=0).on_conflict_do_nothing())
        finally:
            restrict(self._files)

    def check_writable(self, room: int = 0) -> None:
        """Write a number, and so many bytes that are deleted again in the same transaction.

        Raises:
            SQLAlchemyError: that can't be written: the disk is full, say, or another process holds the lock.
        """
        with self._counted(_PROBE) as connection:
            if room:
                row = Exposure(
                    "probe", dt.datetime.now(dt.timezone.utc), None, None, {}, 0, "", 0.0, False, "",
                    [{"room": secrets.token_hex(room // 2)}], True,
                )  # fmt: skip
                connection.execute(sa.insert(_exposures).values(**{**vars(row), "time": 0.0}))
                connection.execute(sa.delete(_exposures).where(_exposures.c.recommendation_id == row.recommendation_id))

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()
        self._reader.dispose()

    # ---- events ----

    def record(self, events: Sequence[Event], now: dt.datetime) -> WriteResult:
        """Write events, all that aren't refused or none.

        What is there already, by sender and event_id, stays as it is; it is refused where its content is another, also
        within the batch. What a customer did before asking to be forgotten is refused, however often it is sent.
        """
        if not events:
            return WriteResult(0, {})
        rows = [{**vars(each), "time": each.time.timestamp(), "received": now.timestamp()} for each in events]
        with self.engine.begin() as connection:
            refused = dict.fromkeys(self._forgotten_of(connection, rows), _IS_FORGOTTEN)
            there: dict[tuple[str, str], Mapping[str, Any]] = {}
            for number, row in enumerate(rows):
                if number not in refused:
                    there.setdefault((row["sender"], row["event_id"]), row)
            new = self._write_new(connection, there)
            if known := list(there.keys() - new):
                found = connection.execute(sa.select(_events).where(_key_of_events.in_(known)))
                there |= {(row.sender, row.event_id): row._asdict() for row in found}
        for number, row in enumerate(rows):
            if number not in refused and (why := _conflict(row, there[row["sender"], row["event_id"]])):
                refused[number] = why
        return WriteResult(len(new), refused)

    def _write_new(
        self, connection: sa.Connection, rows: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> set[tuple[str, str]]:
        """Write the rows that aren't there, by their keys; returns the keys of these."""
        if not rows:
            return set()
        # In one order, so that two batches that share some can't wait for one another.
        values = [row for _, row in sorted(rows.items(), key=lambda item: item[0])]
        insert = self._insert(_events).on_conflict_do_nothing().returning(_events.c.sender, _events.c.event_id)
        written = connection.execute(insert, values)
        return {(row.sender, row.event_id) for row in written}

    def _forgotten_of(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Places of the rows that are of a customer, and of a time, to forget."""
        digests = {row["customer_id"]: customer_digest(row["customer_id"]) for row in rows if row["customer_id"]}
        if digests and not self._is_sqlite:  # where one writes at a time
            connection.execute(_NOBODY_IS_FORGOTTEN_NOW)
        found = sa.select(_forgotten).where(_forgotten.c.customer.in_(list(digests.values())))
        until = {row.customer: row.at for row in connection.execute(found)} if digests else {}
        return [
            number
            for number, row in enumerate(rows)
            if row["time"] <= until.get(digests.get(row["customer_id"], ""), -math.inf)
        ]

    def events_of(
        self, customer_id: str | None, session_id: str | None, since: dt.datetime
    ) -> list[tuple[str, str, str]]:
        """The newest events of a shopper but impressions, oldest first: type, product_id, order or session."""
        if customer_id is None and session_id is None:
            return []
        query = _NEWEST[customer_id is not None, session_id is not None]
        asked = {"customer": customer_id, "session": session_id, "since": since.timestamp()}
        with self._reader.connect() as connection:
            rows = connection.execute(query, asked).all()
        return [(row.type, row.product_id, row.order_id or row.session_id or "") for row in reversed(rows)]

    def tired_of(
        self, customer_id: str | None, session_id: str | None, since: dt.datetime, most: int
    ) -> frozenset[str]:
        """Products that a shopper saw `most` times or more since then, and neither clicked, took nor bought."""
        if customer_id is None and session_id is None:
            return frozenset()
        query = _TIRED[customer_id is not None, session_id is not None]
        asked = {"customer": customer_id, "session": session_id, "since": since.timestamp(), "most": most}
        with self._reader.connect() as connection:
            return frozenset(connection.execute(query, asked).scalars())

    def expose(self, exposure: Exposure) -> None:
        """Write down an answer of an experiment; not of who asked to be forgotten meanwhile."""
        row = {**vars(exposure), "time": exposure.time.timestamp()}
        with self.engine.begin() as connection:
            if not self._forgotten_of(connection, [row]):
                connection.execute(sa.insert(_exposures).values(**row))

    def rows_between(self, name: str, first: dt.datetime, end: dt.datetime) -> Iterator[Mapping[str, Any]]:
        """Rows of one of LANDED_TABLES by its key, of a time span (`end` is not in it)."""
        table = _metadata.tables[name]
        query = sa.select(table).where(table.c.time >= first.timestamp(), table.c.time < end.timestamp())
        with self._reader.connect().execution_options(yield_per=_BATCH) as connection:
            for row in connection.execute(query.order_by(*(table.c[each] for each in LANDED_TABLES[name]))):
                yield row._asdict()

    def oldest_event(self) -> dt.datetime | None:
        """When the first event or exposure that is still there happened."""
        with self._reader.connect() as connection:
            found = [connection.execute(sa.select(sa.func.min(each.c.time))).scalar() for each in (_events, _exposures)]
        oldest = min((each for each in found if each is not None), default=None)
        return None if oldest is None else dt.datetime.fromtimestamp(oldest, dt.timezone.utc)

    def let_go(self, name: str, keys: Sequence[tuple[str, ...]]) -> int:
        """Delete rows of one of LANDED_TABLES by their keys, as they have landed; returns how many."""
        table, deleted = _metadata.tables[name], 0
        key = sa.tuple_(*(table.c[each] for each in LANDED_TABLES[name]))
        for first in range(0, len(keys), _BATCH):  # a statement takes so many parameters only
            of_these = key.in_(keys[first : first + _BATCH])
            with self.engine.begin() as connection:
                deleted += connection.execute(sa.delete(table).where(of_these)).rowcount
        return deleted

    # ---- what readers keep in memory ----

    def counters(self) -> dict[str, int]:
        """A number for each of COUNTERS, which goes up with each change of it."""
        with self._reader.connect() as connection:
            return {row.name: row.value for row in connection.execute(_COUNTS)}

    def set_available(self, product_id: str, available: bool) -> None:
        """Say whether a product may be shown."""
        with self._counted(AVAILABILITY) as connection:
            if available:
                connection.execute(sa.delete(_unavailable).where(_unavailable.c.product_id == product_id))
            else:
                connection.execute(self._insert(_unavailable).values(product_id=product_id).on_conflict_do_nothing())

    def unavailable(self) -> frozenset[str]:
        """Products that may not be shown."""
        with self._reader.connect() as connection:
            return frozenset(connection.execute(sa.select(_unavailable.c.product_id)).scalars())

    def forget(self, customer_id: str, now: dt.datetime) -> int:
        """Delete a customer's events for good, and note whom to forget; returns how many events there were."""
        noted = {"customer": customer_digest(customer_id), "at": now.timestamp()}
        with self._counted(FORGOTTEN) as connection:
            # Their sessions too: what was done before signing in is theirs as well.
            is_theirs = _events.c.customer_id == customer_id
            was_shown = _exposures.c.customer_id == customer_id
            theirs = sa.union(
                sa.select(_events.c.session_id).where(is_theirs), sa.select(_exposures.c.session_id).where(was_shown)
            )
            sessions = connection.execute(theirs).scalars().all()
            deleted = connection.execute(sa.delete(_events).where(is_theirs)).rowcount
            connection.execute(sa.delete(_exposures).where(was_shown))
            for first in range(0, len(sessions), _BATCH):  # a statement takes so many parameters only
                some = [each for each in sessions[first : first + _BATCH] if each is not None]
                nobody_s = sa.and_(_events.c.session_id.in_(some), _events.c.customer_id.is_(None))
                deleted += connection.execute(sa.delete(_events).where(nobody_s)).rowcount
                shown = sa.and_(_exposures.c.session_id.in_(some), _exposures.c.customer_id.is_(None))
                connection.execute(sa.delete(_exposures).where(shown))
            connection.execute(
                self._insert(_forgotten)
                .values(**noted)
                .on_conflict_do_update(index_elements=["customer"], set_={"at": noted["at"]})
            )
        if self._is_sqlite:
            self._empty_write_log()
        return deleted

    def _empty_write_log(self) -> None:
        """Rows that are deleted still stand in SQLite's log of writes, and would as long as it isn't written over."""
        connection = self._reader.raw_connection()  # outside of any transaction
        with suppress(sqlite3.Error):  # a full disk: they are deleted all the same
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def forgotten(self) -> dict[str, dt.datetime]:
        """Whom to forget: `customer_digest` → until when what they did is to go."""
        with self._reader.connect() as connection:
            rows = connection.execute(sa.select(_forgotten)).all()
        return {row.customer: dt.datetime.fromtimestamp(row.at, dt.timezone.utc) for row in rows}

    # ---- keys ----

    def add_key(
        self,
        name: str,
        scopes: Sequence[str],
        now: dt.datetime,
        expires: dt.datetime | None = None,
        *,
        is_public: bool = False,
    ) -> str:
        """Make a key and return it: it is kept as a digest only, and can't be shown again.

        Raises:
            ValueError: a scope is unknown, none is given, or one that can't be public.
        """
        unknown = set(scopes) - set(SCOPES)
        if unknown or not scopes:
            raise ValueError(f"scopes are {', '.join(SCOPES)}, not {', '.join(sorted(unknown)) or 'none'}")
        for scope in (ADMIN, SIMULATE):
            if is_public and scope in scopes:
                raise ValueError(f"a public key can't have the scope {scope!r}")
        key = f"rec_{secrets.token_urlsafe(24)}"
        row = {
            "digest": key_digest(key),
            "name": name,
            "scopes": ",".join(sorted(set(scopes))),
            "is_public": is_public,
            "created": now.timestamp(),
            "expires": expires.timestamp() if expires else None,
        }
        with self._counted(KEYS) as connection:
            connection.execute(sa.insert(_keys).values(**row))
        return key

    def revoke_key(self, name: str) -> int:
        """Delete all keys of that name; returns how many."""
        with self._counted(KEYS) as connection:
            return connection.execute(sa.delete(_keys).where(_keys.c.name == name)).rowcount

    def keys(self) -> dict[str, Key]:
        """`key_digest` → key."""
        with self._reader.connect() as connection:
            rows = connection.execute(sa.select(_keys)).all()
        return {
            row.digest: Key(
                row.name,
                frozenset(row.scopes.split(",")),
                None if row.expires is None else dt.datetime.fromtimestamp(row.expires, dt.timezone.utc),
                row.is_public,
            )
            for row in rows
        }

    @contextmanager
    def _counted(self, name: str) -> Iterator[sa.Connection]:
        """A transaction that changes what a counter stands for."""
        with self.engine.begin() as connection:
            connection.execute(sa.update(_counters).where(_counters.c.name == name).values(value=_counters.c.value + 1))
            yield connection

    def _insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)


def _conflict(row: Mapping[str, Any], there: Mapping[str, Any]) -> str | None:
    """Why an event is not the one that is known by its id; None where it is."""
    other = [name for name in _CONTENT if row[name] != there[name]]
    if not other:
        return None
    return (
        f"event_id: another event with this id was sent before, with other {', '.join(other)}; what was sent first "
        "counts: give each event an id of its own"
    )


def key_digest(key: str) -> str:
    """SHA-256 of a key: it is random and long, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def _prepare_sqlite(patience: int, connection: Any, _: object) -> None:
    """Set a connection up; it waits for locks so many seconds."""
    connection.isolation_level = None  # transactions begin where we say, see below
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={1000 * patience}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # on disk before a commit returns
    cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
    cursor.close()
