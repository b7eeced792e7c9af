"""What the API took, on its way into the graph before each plan: events land, customers are forgotten."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from rec_assets.automation.forgetting import forget_customers
from rec_assets.serving.landing import land_events
from rec_assets.serving.online import OnlineState
from rec_assets.settings import Settings


def land_feedback(settings: Settings, time_zone: str, say: Callable[[str], None]) -> None:
    """Land what visitors did since the last time, and forget who asked for it; nothing to do without an API.

    A database that doesn't answer is said and holds nothing up: its events stay there, and land next time.

    Args:
        settings: Of the deployment.
        time_zone: Of the shop.
        say: Told what was landed.
    """
    if settings.api.database_url is None and not settings.online_file.exists():
        return
    online = OnlineState(settings.online_url)
    try:
        online.create()
        written = land_events(
            online, settings.feedback_landing, time_zone=time_zone, now=dt.datetime.now(dt.timezone.utc),
            keep_days=settings.api.keep_event_days,
        )  # fmt: skip
        forget_customers(online, settings, time_zone, say)
    except SQLAlchemyError as error:
        say(f"the API's events could not be landed, and will be next time: {type(error).__name__}: {error}")
        return
    finally:
        online.close()
    if written:
        say(f"landed {sum(written.values())} events of the API for {', '.join(str(day) for day in sorted(written))}")
