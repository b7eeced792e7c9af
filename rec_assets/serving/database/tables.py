"""Tables of the online state, and the upgrade from an earlier version."""

from __future__ import annotations

import sqlalchemy as sa

READ, EVENTS, SALES, ADMIN, SIMULATE = SCOPES = ("read", "events", "sales", "admin", "simulate")

AVAILABILITY, KEYS, FORGOTTEN = COUNTERS = ("availability", "keys", "forgotten")
"""Names of the version counters. Each change of keys, for example, increments the counter `keys`."""

PROBE = "probe"
"""A counter that is incremented only to test whether the database is writable."""

EVENT_ROWS, EXPOSURE_ROWS = "events", "exposures"
LANDED_TABLES = {EVENT_ROWS: ("event_id", "sender"), EXPOSURE_ROWS: ("recommendation_id",)}
"""Tables whose rows are exported to the landing zone, with their key columns, the most selective first."""

metadata = sa.MetaData()

events = sa.Table(
    "events",
    metadata,
    # See `event_sender`. During an upgrade, processes of the earlier version still insert rows without a sender.
    sa.Column("sender", sa.String, primary_key=True, server_default=""),
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
exposures = sa.Table(
    "exposures",
    metadata,
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
unavailable = sa.Table("unavailable", metadata, sa.Column("product_id", sa.String, primary_key=True))
forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("customer", sa.String, primary_key=True),  # SHA-256 of the id: the list must not name anybody
    sa.Column("at", sa.Float, nullable=False),
)
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("scopes", sa.String, nullable=False),
    sa.Column("is_public", sa.Boolean, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("expires", sa.Float),
)
counters = sa.Table(
    "counters", metadata, sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.Integer, nullable=False)
)

_EVENT_COLUMNS = {"sender": "''", **{each.name: each.name for each in events.columns if each.name != "sender"}}


def upgrade(connection: sa.Connection) -> None:
    """Upgrade a database of a version without senders, in the open transaction.

    Existing events get the sender "" (the shop). Existing private keys that could report purchases keep that scope.
    """
    inspector = sa.inspect(connection)
    if not inspector.has_table("events") or "sender" in {each["name"] for each in inspector.get_columns("events")}:
        return
    if connection.dialect.name == "sqlite":
        _rebuild_events(connection)
    else:
        _rekey_events(connection, str(inspector.get_pk_constraint("events")["name"]))
    if inspector.has_table("keys"):
        for row in connection.execute(sa.select(keys).where(keys.c.is_public.is_(False))).all():
            if EVENTS in (scopes := set(row.scopes.split(","))):
                new = ",".join(sorted({*scopes, SALES}))
                connection.execute(sa.update(keys).where(keys.c.digest == row.digest).values(scopes=new))
        connection.execute(sa.update(counters).where(counters.c.name == KEYS).values(value=counters.c.value + 1))


def _rebuild_events(connection: sa.Connection) -> None:
    """SQLite can't change a primary key in place."""
    connection.exec_driver_sql("ALTER TABLE events RENAME TO events_old")
    for index in events.indexes:
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index.name}")
    events.create(connection)
    connection.exec_driver_sql(
        f"INSERT INTO events ({', '.join(_EVENT_COLUMNS)}) SELECT {', '.join(_EVENT_COLUMNS.values())} FROM events_old"
    )
    connection.exec_driver_sql("DROP TABLE events_old")


def _rekey_events(connection: sa.Connection, key: str) -> None:
    # Building the new index may take longer than `statement_timeout`. Do not wait forever for a lock of the table.
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
    connection.exec_driver_sql(
        "ALTER TABLE events ADD COLUMN sender VARCHAR NOT NULL DEFAULT '', "
        f'DROP CONSTRAINT "{key}", ADD PRIMARY KEY (sender, event_id)'
    )
