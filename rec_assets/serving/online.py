"""The online state: what visitors did and saw, what is out of stock, who may ask, whom to forget. All workers share it.

SQLite in WAL mode, or PostgreSQL by URL. What is written is durable before the call returns. Counters tell readers when
what they keep in memory is out of date, so that each answer costs one small look and none is stale.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from rec_assets.recsys.events import IMPRESSION
from rec_assets.recsys.forgetting import customer_digest

READ, EVENTS, ADMIN, SIMULATE = SCOPES = ("read", "events", "admin", "simulate")

AVAILABILITY, KEYS, FORGOTTEN = COUNTERS = ("availability", "keys", "forgotten")
"""What has a counter that goes up with each change of it."""

EVENT_ROWS, EXPOSURE_ROWS = "events", "exposures"
LANDED_TABLES = {EVENT_ROWS: "event_id", EXPOSURE_ROWS: "recommendation_id"}
"""Tables whose rows land for the graph, each with its key."""

NEWEST_EVENTS = 200
"""So many of a shopper's events count at most in an answer."""

_BATCH = 5000
_THREADS = 40
_POSTGRES = {"connect_timeout": 2, "options": "-c statement_timeout=5000", "tcp_user_timeout": 2000}

_metadata = sa.MetaData()

_events = sa.Table(
    "events",
    _metadata,
    sa.Column("event_id", sa.String, primary_key=True),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("customer_id", sa.String),
    sa.Column("session_id", sa.String),
    sa.Column("product_id", sa.String, nullable=False),
    sa.Column("time", sa.Float, nullable=False),  # seconds since 1970
    sa.Column("received", sa.Float, nullable=False),
    sa.Column("order_id", sa.String),
    sa.Column("quantity", sa.Float),
    sa.Column("unit_price", sa.Float),
    sa.Column("recommendation_id", sa.String),
    sa.Column("position", sa.Integer),
    sa.Index("events_of_customer", "customer_id", "time"),
    sa.Index("events_of_session", "session_id", "time"),
    sa.Index("events_in_time", "time"),
)
_exposures = sa.Table(
    "exposures",
    _metadata,
    sa.Column("recommendation_id", sa.String, primary_key=True),
    sa.Column("time", sa.Float, nullable=False),  # seconds since 1970
    sa.Column("customer_id", sa.String),
    sa.Column("session_id", sa.String),
    sa.Column("variants", sa.JSON, nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("mode", sa.String, nullable=False),
    sa.Column("exploration", sa.Float, nullable=False),
    sa.Column("filtered", sa.Boolean, nullable=False),
    sa.Column("answered_by", sa.String, nullable=False),
    sa.Column("items", sa.JSON, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Index("exposures_in_time", "time"),
    sa.Index("exposures_of_customer", "customer_id"),
)
_unavailable = sa.Table("unavailable", _metadata, sa.Column("product_id", sa.String, primary_key=True))
_forgotten = sa.Table(
    "forgotten",
    _metadata,
    sa.Column("customer", sa.String, primary_key=True),  # SHA-256 of the id: the list itself must not name anybody
    sa.Column("at", sa.Float, nullable=False),
)
_keys = sa.Table(
    "keys",
    _metadata,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("scopes", sa.String, nullable=False),
    sa.Column("is_public", sa.Boolean, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float),
)
_counters = sa.Table(
    "counters",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)


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
        .order_by(_events.c.time.desc(), _events.c.event_id)
        .limit(NEWEST_EVENTS)
    )


_is_theirs = _events.c.customer_id == sa.bindparam("customer")
_in_session = _events.c.session_id == sa.bindparam("session")
# By whether a customer and whether a session is asked for; built once, as each answer asks. What others did in a
# session, on a shared device, isn't this customer's.
_WHOSE = {
    (True, False): _is_theirs,
    (False, True): _in_session,
    (True, True): sa.or_(_is_theirs, sa.and_(_in_session, _events.c.customer_id.is_(None))),
}
_NEWEST = {asked: _newest_of(whose) for asked, whose in _WHOSE.items()}
_TIRED = {asked: _tired_of(whose) for asked, whose in _WHOSE.items()}
_COUNTS = sa.select(_counters)


@dataclass(frozen=True)
class Event:
    """What a visitor did.

    Attributes:
        event_id: Made by the client; the same event sent twice counts once.
        type: One of `recsys.events.EVENT_TYPES`.
        product_id: With what.
        time: When, in UTC.
        customer_id, session_id: By whom; one of them at least.
        order_id, quantity, unit_price: Of a purchase or return.
        recommendation_id, position: The answer of ours that showed the product, and its rank there.
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
        self._is_sqlite = sa.make_url(url).get_backend_name() == "sqlite"
        # A database that hangs is one that doesn't answer: nobody waits for it longer than this.
        more: dict[str, Any] = {"pool_size": _THREADS, "pool_timeout": 2}
        if not self._is_sqlite:
            more |= {"pool_pre_ping": True, "connect_args": _POSTGRES}
        # Writers wait for one another; who reads takes no connection of theirs.
        self.engine, self._reader = sa.create_engine(url, **more), sa.create_engine(url, **more)
        if self._is_sqlite:
            for engine in (self.engine, self._reader):
                sa.event.listen(engine, "connect", _prepare_sqlite)
            # A transaction that reads first and writes later fails if another wrote in between; ours say what they are.
            sa.event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
            sa.event.listen(self._reader, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    def create(self) -> None:
        """Make the tables that are missing. Several processes may do so at once."""
        with self.engine.begin() as connection:
            if not self._is_sqlite:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(20171231)"))
            _metadata.create_all(connection)
            for name in COUNTERS:
                connection.execute(self._insert(_counters).values(name=name, value=0).on_conflict_do_nothing())

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()
        self._reader.dispose()

    # ---- events ----

    def record(self, events: Sequence[Event], now: dt.datetime) -> int:
        """Write events, all or none; returns how many were new.

        What is there already, by event_id, stays as it is; what a customer did before asking to be forgotten is not
        written again, however often it is sent.
        """
        if not events:
            return 0
        rows = [
            {**vars(event), "time": event.time.timestamp(), "received": now.timestamp()}
            for event in {event.event_id: event for event in reversed(events)}.values()
        ]
        # In one order of ids, so that two batches that share some can't wait for one another.
        rows.sort(key=lambda row: str(row["event_id"]))
        with self.engine.begin() as connection:
            rows = self._not_forgotten(connection, rows)
            if not rows:
                return 0
            written = connection.execute(
                self._insert(_events).values(rows).on_conflict_do_nothing().returning(_events.c.event_id)
            )
            return len(written.all())

    def _not_forgotten(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        digests = {row["customer_id"]: customer_digest(row["customer_id"]) for row in rows if row["customer_id"]}
        found = sa.select(_forgotten).where(_forgotten.c.customer.in_(list(digests.values())))
        until = {row.customer: row.at for row in connection.execute(found)} if digests else {}
        return [row for row in rows if row["time"] > until.get(digests.get(row["customer_id"], ""), 0)]

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
            if self._not_forgotten(connection, [row]):
                connection.execute(sa.insert(_exposures).values(**row))

    def rows_between(self, name: str, first: dt.datetime, end: dt.datetime) -> Iterator[Mapping[str, Any]]:
        """Rows of one of LANDED_TABLES by its key, of a time span (`end` is not in it)."""
        table = _metadata.tables[name]
        query = sa.select(table).where(table.c.time >= first.timestamp(), table.c.time < end.timestamp())
        with self._reader.connect().execution_options(yield_per=_BATCH) as connection:
            for row in connection.execute(query.order_by(table.c[LANDED_TABLES[name]])):
                yield row._asdict()

    def oldest_event(self) -> dt.datetime | None:
        """When the first event or exposure that is still there happened."""
        with self._reader.connect() as connection:
            found = [connection.execute(sa.select(sa.func.min(each.c.time))).scalar() for each in (_events, _exposures)]
        oldest = min((each for each in found if each is not None), default=None)
        return None if oldest is None else dt.datetime.fromtimestamp(oldest, dt.timezone.utc)

    def let_go(self, name: str, keys: Sequence[str]) -> int:
        """Delete rows of one of LANDED_TABLES, which have landed; returns how many."""
        table, deleted = _metadata.tables[name], 0
        for first in range(0, len(keys), _BATCH):  # a statement takes so many parameters only
            of_these = table.c[LANDED_TABLES[name]].in_(keys[first : first + _BATCH])
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
        return deleted

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


def key_digest(key: str) -> str:
    """SHA-256 of a key: it is random and long, so a slow hash would add nothing."""
    return hashlib.sha256(key.encode()).hexdigest()


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, see below
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # on disk before a commit returns
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
    cursor.close()
