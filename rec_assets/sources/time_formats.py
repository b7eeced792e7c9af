"""The values that `time_format` can have: ISO 8601, Unix times and strptime patterns."""

from __future__ import annotations

import datetime as dt
import re

UNIX_UNITS = {"unix_seconds": 6, "unix_milliseconds": 3, "unix_microseconds": 0, "unix_nanoseconds": -3}
"""Unix time format → power of ten that converts its unit to microseconds, the lake's unit."""

UTC_WORDS = ("UTC", "GMT", "Z")
"""Endings of a pattern whose times are in UTC."""

_ZONES = (
    "ACST", "AEDT", "AEST", "AKST", "ART", "AWST", "BRT", "BST", "CDT", "CEST", "CET", "CST", "EDT", "EEST", "EET",
    "EST", "HKT", "HST", "IST", "JST", "KST", "MDT", "MSK", "MST", "NZDT", "NZST", "PDT", "PST", "SAST", "SGT", "WEST",
    "WET",
)  # fmt: skip
"""Abbreviations that name a time zone at the end of a pattern."""


def zone_suffix(time_format: str) -> str | None:
    """The zone at the end of a pattern, such as `UTC` in "%Y-%m-%d %H:%M:%S UTC"; None if there is none."""
    if "%" not in time_format:
        return None
    words = re.findall("[A-Za-z]+", re.sub("%[A-Za-z%]", " ", time_format))
    return words[-1] if words and words[-1] in (*UTC_WORDS, *_ZONES) else None


def check_time_format(value: str) -> str:
    """Return a valid `time_format`.

    Raises:
        ValueError: the value is neither a known format nor a pattern with year, month and day.
    """
    if value == "iso8601" or value in UNIX_UNITS:
        return value
    moment = dt.datetime(2017, 11, 23, 14, 35, 12, tzinfo=dt.timezone.utc)
    try:
        has_date = dt.datetime.strptime(moment.strftime(value), value).date() == moment.date()
    except (ValueError, re.error):  # re.error: the pattern has the same part twice
        has_date = False
    if not has_date:
        raise ValueError(
            f"{value!r} is not iso8601, {', '.join(UNIX_UNITS)} or a pattern with year, month and day such as "
            "'%d/%m/%Y %H:%M'"
        )
    return value
