"""The route with the tag `events`: record what shoppers did."""

import datetime as dt
from typing import Annotated

from fastapi import Depends, FastAPI

from rec_assets.recsys.events import MONEY
from rec_assets.serving.database.events import Event, WriteResult, event_sender
from rec_assets.serving.database.tables import EVENTS, SALES
from rec_assets.serving.engine import Engine
from rec_assets.serving.http import schemas
from rec_assets.serving.http.dependencies import Caller, CustomerToken, WorkerState, require_scope
from rec_assets.serving.http.errors import ERROR_RESPONSES, AllEventsRejected
from rec_assets.serving.http.rate_limit import EVENT

MAX_AGE_DAYS = 30
"""Maximum age of an event, if `event_retention_days` is not less. A time in the future becomes the current time."""

MAX_PRICE_RATIO = 20
"""Maximum unit price relative to the catalog's price. More is a mistake, such as cents for euros, or an attack."""


def add_event_routes(app: FastAPI, state: WorkerState) -> None:
    """Add the route to the app."""
    runtime, metrics = state.runtime, state.metrics
    max_age = dt.timedelta(days=min(MAX_AGE_DAYS, state.settings.api.event_retention_days - 1))

    @app.post("/v1/events", tags=["events"], responses=ERROR_RESPONSES)
    def record_events(
        batch: schemas.EventBatch, caller: Annotated[Caller, Depends(require_scope(state, EVENTS))],
        token: CustomerToken = None,
    ) -> schemas.EventResult:  # fmt: skip
        """Record events. The response comes when they are on disk. You can safely send a batch again.

        `rejected` lists the invalid events; the others are stored. If all are invalid, the status is 422.
        """
        count = len(batch.events)
        caller.charge(EVENT * count)
        rejected, events = dict[int, str](), dict[int, Event]()
        for index, event in enumerate(batch.events):
            # Without times, the events of a batch happened in its order.
            default_time = caller.now - dt.timedelta(microseconds=count - index)
            if isinstance(event, schemas.InvalidEvent):
                result: Event | str = event.reason
            else:
                result = _convert(event, default_time, max_age, caller, runtime.engine)
            if isinstance(result, str):
                rejected[index] = result
            else:
                events[index] = result
        for customer in {event.customer_id for event in events.values()}:
            caller.require_customer_token(customer, token)
        written = WriteResult(0, {})
        if events:
            written = runtime.database_guard.write(lambda: runtime.online.record(list(events.values()), caller.now))
        indexes = list(events)
        rejected |= {indexes[number]: reason for number, reason in written.rejected.items()}
        listed = [schemas.RejectedEvent(index=index, message=rejected[index]) for index in sorted(rejected)]
        if len(rejected) == count:
            raise AllEventsRejected(listed)
        metrics.events.inc(written.new)
        return schemas.EventResult(new=written.new, duplicates=count - written.new - len(listed), rejected=listed)


def _convert(
    event: schemas.NewEvent, default_time: dt.datetime, max_age: dt.timedelta, caller: Caller, engine: Engine | None
) -> Event | str:
    """The event to store, or why it is rejected."""
    if event.type in MONEY and SALES not in caller.key.scopes:
        return f"type: a {event.type} needs a key with the scope {SALES!r}, which only the shop's server should have"
    price = None if engine is None or event.unit_price is None else engine.recommender.price(event.product_id)
    if price and event.unit_price is not None and event.unit_price > MAX_PRICE_RATIO * price:
        return (
            f"unit_price: {event.unit_price:g} is more than {MAX_PRICE_RATIO} times the catalog's price of {price:g}; "
            "send the price of one piece, in the catalog's currency and not in cents"
        )
    time = min(event.time or default_time, caller.now)
    if time < caller.now - max_age:
        return f"time: must be within the last {max_age.days} days; leave it out for now"
    sender = event_sender(event.customer_id, event.session_id, is_public=caller.key.is_public)
    return Event(**{**event.model_dump(), "time": time, "sender": sender})
