"""Events of shoppers and exposures: record each one once, and read a shopper's recent events."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rec_assets.recsys.events import IMPRESSION
from rec_assets.serving.database.erasure import ErasureStore
from rec_assets.serving.database.tables import events as _events
from rec_assets.serving.database.tables import exposures

MAX_RECENT_EVENTS = 200
"""Maximum number of a shopper's most recent events that a response takes into account."""

_key = sa.tuple_(_events.c.sender, _events.c.event_id)
_CONTENT = (
    "type", "product_id", "customer_id", "session_id", "order_id", "quantity", "unit_price", "recommendation_id",
    "position",
)  # fmt: skip
"""Columns that must be equal in two events with the same id. The times may differ, because each retry has its own."""

_FORGOTTEN_CUSTOMER = "customer_id: this customer asked to be forgotten after that time, so the event is not stored"


@dataclass(frozen=True)
class Event:
    """One action of a shopper.

    Attributes:
        event_id: Created by the client. Events with the same id and sender count once.
        type: One of `recsys.events.EVENT_TYPES`.
        time: In UTC.
        customer_id, session_id: The shopper; at least one is set.
        order_id, quantity, unit_price: Of a purchase or return.
        recommendation_id, position: The response that showed the product, and its rank there.
        sender: See `event_sender`. Different senders have separate ids.
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


def event_sender(customer_id: str | None, session_id: str | None, *, is_public: bool) -> str:
    """The namespace of an event's `event_id`.

    "" for the shop's own keys: they share one namespace, so that a key can be replaced. For a public key, 32 hex digits
    of the SHA-256 of the shopper: everybody has that key, and nobody may use up the ids of another shopper or the shop.
    """
    if not is_public:
        return ""
    shopper = f"session:{session_id}" if customer_id is None else f"customer:{customer_id}"
    return hashlib.sha256(shopper.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Exposure:
    """A response that was part of an experiment.

    Attributes:
        recommendation_id: Of the response; events refer to it.
        time: In UTC.
        variants: Experiment → variant.
        model_version: Model of the response; with interleaving, of the control.
        mode, exploration: As requested, or as the variant changed them.
        filtered: Whether the request had filters, or events that are not stored, or merchandising rules were active,
            even if they changed nothing. Off-policy evaluation leaves these responses out.
        answered_by: What the response is based on; see `RecommendationResponse`.
        items: Items in order: `product_id`, `propensity` (probability of this item at this rank, given the items above;
            null if unknown) and, with interleaving, `team`: the variant that the item comes from.
        simulated: Whether the traffic simulator sent the request.
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
class WriteResult:
    """Number of new events in a batch, and position in the batch → reason of the rejected ones."""

    new: int
    rejected: dict[int, str]


def _frequency_capped(is_shopper: sa.ColumnElement[bool]) -> sa.Select[Any]:
    only_impressions = sa.func.count() == sa.func.sum(sa.case((_events.c.type == IMPRESSION, 1), else_=0))
    return (
        sa.select(_events.c.product_id)
        .where(is_shopper, _events.c.time >= sa.bindparam("since"))
        .group_by(_events.c.product_id)
        .having(sa.func.count() >= sa.bindparam("impressions"), only_impressions)
    )


def _recent(is_shopper: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(_events.c.type, _events.c.product_id, _events.c.order_id, _events.c.session_id)
        .where(is_shopper, _events.c.time >= sa.bindparam("since"), _events.c.type != IMPRESSION)
        .order_by(_events.c.time.desc(), _events.c.event_id, _events.c.sender)
        .limit(MAX_RECENT_EVENTS)
    )


_is_customer = _events.c.customer_id == sa.bindparam("customer")
# A session id proves no identity: it must not reveal what a signed-in customer did in the session.
_is_session = sa.and_(_events.c.session_id == sa.bindparam("session"), _events.c.customer_id.is_(None))
# By whether a customer and a session are given. Built once, because each response runs these queries.
_IS_SHOPPER = {(True, False): _is_customer, (False, True): _is_session, (True, True): sa.or_(_is_customer, _is_session)}
_RECENT = {given: _recent(is_shopper) for given, is_shopper in _IS_SHOPPER.items()}
_FREQUENCY_CAPPED = {given: _frequency_capped(is_shopper) for given, is_shopper in _IS_SHOPPER.items()}


class EventStore(ErasureStore):
    """Events and exposures."""

    def record(self, events: Sequence[Event], now: dt.datetime) -> WriteResult:
        """Write all events that are not rejected, in one transaction.

        An event that is already stored (same sender and event_id) is not changed. It is rejected if its content
        differs, also within the batch. Events from before a customer's erasure request are rejected.
        """
        if not events:
            return WriteResult(0, {})
        rows = [{**vars(each), "time": each.time.timestamp(), "received": now.timestamp()} for each in events]
        with self._writer.begin() as connection:
            rejected = dict.fromkeys(self._forgotten_rows(connection, rows), _FORGOTTEN_CUSTOMER)
            stored: dict[tuple[str, str], Mapping[str, Any]] = {}
            for number, row in enumerate(rows):
                if number not in rejected:
                    stored.setdefault((row["sender"], row["event_id"]), row)
            new = self._write_new(connection, stored)
            if known := list(stored.keys() - new):
                found = connection.execute(sa.select(_events).where(_key.in_(known)))
                stored |= {(row.sender, row.event_id): row._asdict() for row in found}
        for number, row in enumerate(rows):
            if number not in rejected and (reason := _conflict(row, stored[row["sender"], row["event_id"]])):
                rejected[number] = reason
        return WriteResult(len(new), rejected)

    def _write_new(
        self, connection: sa.Connection, rows: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> set[tuple[str, str]]:
        """Insert the rows (by key) that are not stored yet; returns their keys."""
        if not rows:
            return set()
        # Sorted, so that two batches with common rows can't deadlock.
        values = [row for _, row in sorted(rows.items(), key=lambda item: item[0])]
        insert = self._insert(_events).on_conflict_do_nothing().returning(_events.c.sender, _events.c.event_id)
        return {(row.sender, row.event_id) for row in connection.execute(insert, values)}

    def recent_events(
        self, customer_id: str | None, session_id: str | None, since: dt.datetime
    ) -> list[tuple[str, str, str]]:
        """A shopper's recent events without impressions, oldest first: type, product_id, order or session."""
        if customer_id is None and session_id is None:
            return []
        query = _RECENT[customer_id is not None, session_id is not None]
        parameters = {"customer": customer_id, "session": session_id, "since": since.timestamp()}
        with self._reader.connect() as connection:
            rows = connection.execute(query, parameters).all()
        return [(row.type, row.product_id, row.order_id or row.session_id or "") for row in reversed(rows)]

    def frequency_capped(
        self, customer_id: str | None, session_id: str | None, since: dt.datetime, impressions: int
    ) -> frozenset[str]:
        """Products with at least so many impressions for a shopper since then, and no other event."""
        if customer_id is None and session_id is None:
            return frozenset()
        query = _FREQUENCY_CAPPED[customer_id is not None, session_id is not None]
        shopper = {"customer": customer_id, "session": session_id}
        with self._reader.connect() as connection:
            rows = connection.execute(query, {**shopper, "since": since.timestamp(), "impressions": impressions})
            return frozenset(rows.scalars())

    def record_exposure(self, exposure: Exposure) -> None:
        """Write an exposure, unless its customer was forgotten since the request."""
        row = {**vars(exposure), "time": exposure.time.timestamp()}
        with self._writer.begin() as connection:
            if not self._forgotten_rows(connection, [row]):
                connection.execute(sa.insert(exposures).values(**row))


def _conflict(row: Mapping[str, Any], stored: Mapping[str, Any]) -> str | None:
    """How an event differs from the stored one with its id; None if it doesn't."""
    different = ", ".join(name for name in _CONTENT if row[name] != stored[name])
    message = (
        f"event_id: an earlier event has the same id but another {different}, and is kept: give each event its own id"
    )
    return message if different else None
