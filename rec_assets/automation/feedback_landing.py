"""Before each plan: land the events that the API collected, and forget customers who asked for it.

Dagster: a sensor could land events, but not always before a plan reads the landing zone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from rec_assets.automation.forgetting import forget_customers
from rec_assets.serving.database.landing import land_events
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.settings import Settings


def land_feedback(settings: Settings, time_zone: str, log: Callable[[str], None]) -> None:
    """Land the feedback since the last call, and forget customers. Without an API database, do nothing.

    If the database doesn't respond, log that and continue: its events land next time.
    """
    if settings.api.database_url is None and not settings.online_file.exists():
        return
    online = OnlineState(settings.online_url)
    try:
        online.create()
        written = land_events(
            online, settings.feedback_landing, time_zone=time_zone, now=dt.datetime.now(dt.timezone.utc),
            keep_days=settings.api.event_retention_days,
        )  # fmt: skip
        forget_customers(online, settings, time_zone, log)
    except SQLAlchemyError as error:
        log(f"could not land the API's events; the next plan tries again: {type(error).__name__}: {error}")
        return
    finally:
        online.close()
    if written:
        log(f"landed {sum(written.values())} events of the API for {', '.join(str(day) for day in sorted(written))}")
