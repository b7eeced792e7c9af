"""The rhythm of the landed days: on which weekdays files land and how long after the day, so which days are overdue."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from rec_assets.sources.check_result import pluralize
from rec_assets.sources.landing import is_in_future, modified_at
from rec_assets.sources.paths import files_by_day
from rec_assets.sources.spec import DataSource

WEEKS = 8
"""A weekday is a business day if files landed for at least half of the last ones."""

LEARNED_DAYS = 14
"""Newest landed days whose delay is usual. Before so many have landed, no day is overdue."""

MAX_DELAY = dt.timedelta(days=3)
"""Days that landed later don't show a usual delay: they were corrected, or landed with many others."""

GRACE = dt.timedelta(hours=2)
"""Time after the longest usual delay until a day is overdue."""

HOLIDAY_DAYS = 7
"""A missing day before the newest landed one counts for so long. It may have been a holiday."""

ENDED_DAYS = 60
"""Without any landed day for so long, the log has ended, as in a test with old data."""


@dataclass(frozen=True)
class Punctuality:
    """What should have landed.

    Attributes:
        newest: The newest landed day.
        overdue: Days that should have landed by now, sorted.
        next_due: When the next business day is overdue if it does not land; None after the last day of the source.
    """

    newest: dt.date
    overdue: list[dt.date]
    next_due: dt.datetime | None

    @property
    def is_silent(self) -> bool:
        """Whether a day after the newest landed one is overdue."""
        return bool(self.overdue) and self.overdue[-1] > self.newest

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.overdue:
            more = f" and {pluralize(len(self.overdue) - 1, 'more day')}" if len(self.overdue) > 1 else ""
            return f"{self.overdue[0]}{more} should have landed; the newest landed day is {self.newest}"
        due = f"; the next is due by {self.next_due:%Y-%m-%d %H:%M %Z}" if self.next_due else ""
        return f"no day is overdue, the newest landed day is {self.newest}{due}"


def punctuality(source: DataSource, now: dt.datetime) -> Punctuality | None:
    """What should have landed by now of a daily data source. None if too few days have landed to know its rhythm.

    Raises:
        SourceError: the landing zone can't be read.
    """
    first, last = source.first_day or dt.date.min, source.last_day or dt.date.max
    found = files_by_day(source.glob(source.purchases.path))
    days = sorted(day for day in found if first <= day <= last and not is_in_future(day, now.timestamp()))
    landed: dict[dt.date, dt.datetime | None] = dict.fromkeys(days)
    for day in days[-LEARNED_DAYS:]:
        times = [time for file in found[day] if (time := modified_at(file)) is not None]
        landed[day] = dt.datetime.fromtimestamp(max(times), dt.timezone.utc) if times else None
    return what_is_overdue(landed, ZoneInfo(source.time_zone), now, last)


def what_is_overdue(
    landed: Mapping[dt.date, dt.datetime | None], zone: ZoneInfo, now: dt.datetime, last_day: dt.date = dt.date.max
) -> Punctuality | None:
    """The same from the landed days.

    Args:
        landed: Day → when its newest file was written; None for old days, or if the store does not tell.
        zone: The shop's time zone, in which a day ends.
        now: In any zone.
        last_day: The last day that will ever land.
    """
    if len(landed) < LEARNED_DAYS:
        return None
    first, newest, today = min(landed), max(landed), now.astimezone(zone).date()
    delays = [time - _end_of(day, zone) for day, time in sorted(landed.items())[-LEARNED_DAYS:] if time is not None]
    usual = max((delay for delay in delays if delay <= MAX_DELAY), default=MAX_DELAY)
    past = _days(max(first, newest - dt.timedelta(weeks=WEEKS, days=-1)), newest)
    all_days, landed_days = (Counter(day.weekday() for day in days) for days in (past, landed.keys() & {*past}))
    begin = max(first, min(newest + dt.timedelta(days=1), today - dt.timedelta(days=HOLIDAY_DAYS)))
    has_ended = today - newest > dt.timedelta(days=ENDED_DAYS)
    end = min(last_day, newest if has_ended else max(newest, today) + dt.timedelta(days=7))
    due = {
        day: _end_of(day, zone) + max(usual, dt.timedelta(0)) + GRACE
        for day in _days(begin, end)
        if day not in landed and 0 < all_days[day.weekday()] <= 2 * landed_days[day.weekday()]
    }
    overdue = [day for day, time in due.items() if time <= now]
    return Punctuality(newest, overdue, min((due[day] for day in due if day > newest and due[day] > now), default=None))


def _end_of(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), zone)


def _days(first: dt.date, last: dt.date) -> list[dt.date]:
    return [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
