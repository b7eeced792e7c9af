"""Parse times with a `time_format`, and suggest the format of times that can't be parsed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pandas as pd

from rec_assets.sources.spec import DataSource
from rec_assets.sources.time_formats import UNIX_UNITS, UTC_WORDS, zone_suffix

NO_VALUE = ("", "NaN", "nan", "null", "NULL", "None", "NA", "N/A", r"\N")
"""Texts that mean "no value"."""

_ISO_DATE = r"(?:\d{4}-\d\d?-\d\d?|\d{8})"
_ISO_TIME = _ISO_DATE + r"[T ]\d[\d:.]*"
_DECIMAL_COMMA = r"(:\d\d),(\d)"
"""ISO 8601 also allows a comma before fractions of a second."""
_ISO_OFFSET = r" ?(?:[Zz]|[+-]\d\d(?::?\d\d)?)"

_FIRST_LOCAL, _LAST_LOCAL = pd.Timestamp.min.ceil("D") + pd.Timedelta(days=1), pd.Timestamp.max.floor("D")
"""Local times outside of this range can overflow when pandas converts them to UTC."""

_UTC_ENDING = r" ?\b(?:UTC|GMT)$"
"""Endings of times in UTC, in addition to the Z of ISO 8601."""

_MAX_MICROSECONDS = 9e15
"""Limit of microseconds before or after 1970, within what pandas supports (years 1684 to 2255)."""

_DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%Y.%m.%d", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y",
    "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S", " %H:%M:%S.%f")
_PATTERNS = [*(date + time for date in _DATES for time in _TIMES), "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S"]

_UNIX_DIGITS = {
    "unix_seconds": r"\d{9,10}(?:\.\d*)?",
    "unix_milliseconds": r"\d{12,13}(?:\.\d*)?",
    "unix_microseconds": r"\d{15,16}(?:\.\d*)?",
    "unix_nanoseconds": r"\d{18,19}(?:\.\d*)?",
}
"""Unix times between 1973 and 2286 by number of digits."""

_MIN_PARSED = 0.95
"""Share of the values that a suggested format must parse. Some lines are always wrong."""


def parse_times(text: pd.Series, time_format: str, source: DataSource) -> pd.Series:
    """Parse stripped text with a `time_format` to UTC times, cut to the lake's microseconds; NaT if unreadable."""
    if time_format in UNIX_UNITS:
        return _unix_times(text, UNIX_UNITS[time_format])
    zone = "UTC" if source.purchases.naive_times == "utc" or zone_suffix(time_format) in UTC_WORDS else source.time_zone
    text = text.mask(text.str.lower().isin(["now", "today"]), "")  # pandas would use the current time
    text = text.str.replace(r"(\.\d{6})\d+", r"\1", regex=True)  # pandas supports 9 digits at most
    if time_format == "iso8601":
        text = text.str.replace(_UTC_ENDING, "Z", regex=True).str.replace(_DECIMAL_COMMA, r"\1.\2", regex=True)
        aware = text.str.fullmatch(_ISO_TIME + _ISO_OFFSET)
        naive = text.str.fullmatch(f"{_ISO_DATE}|{_ISO_TIME}")
        times = pd.Series(pd.NaT, index=text.index, dtype="datetime64[ns, UTC]")
        times[aware] = pd.to_datetime(text[aware], format="ISO8601", utc=True, errors="coerce")
        times[naive] = _to_utc(pd.to_datetime(text[naive], format="ISO8601", errors="coerce"), zone)
    elif "%z" in time_format or "%Z" in time_format:
        times = pd.to_datetime(text, format=time_format, utc=True, errors="coerce")
    else:
        times = _to_utc(pd.to_datetime(text, format=time_format, errors="coerce"), zone)
    return times.dt.floor("us")


def _unix_times(text: pd.Series, places: int) -> pd.Series:
    """Convert numbers to times by their digits: a float has too few digits for today's microseconds.

    `places` is the power of ten that converts their unit to microseconds. Further digits are cut off.
    """
    parts = text.str.extract(r"^(-?)0*(\d{1,25})(?:\.(\d*))?$").fillna("")
    digits = parts[1] + parts[2].str.slice(0, max(places, 0)).str.ljust(max(places, 0), "0")
    digits = digits.str.slice(0, places if places < 0 else None)
    is_number = (parts[1] != "") & (digits.str.len() <= 16)
    exact = pd.to_numeric((parts[0] + digits.mask(digits == "", "0")).where(is_number), errors="coerce")
    # A spreadsheet writes a long number as 1.43322E+12, without its last digits.
    rounded = (pd.to_numeric(text.mask(parts[1] != ""), errors="coerce") * 10.0**places).round()
    micros = exact.where(is_number, rounded).to_numpy(float)
    known = np.abs(micros) < _MAX_MICROSECONDS  # less than 2^53, so that floats are exact
    moments = np.where(known, micros, 0).astype("int64").astype("datetime64[us]").astype("datetime64[ns]")
    return pd.Series(moments, text.index).where(known).dt.tz_localize("UTC")


def _to_utc(local: pd.Series, zone: str) -> pd.Series:
    # A skipped hour in spring becomes its end; a repeated hour in autumn becomes the first of the two.
    first = np.ones(len(local), dtype=bool)
    local = local.where(local.between(_FIRST_LOCAL, _LAST_LOCAL))
    return local.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward").dt.tz_convert("UTC")


def local_days(times: pd.Series, time_zone: str) -> pd.Series:
    """The local day of UTC times in the shop's zone, as naive midnight; NaT if there is no time."""
    return times.dt.tz_convert(time_zone).dt.tz_localize(None).dt.floor("D")


def suggest_format(text: pd.Series, source: DataSource, day: dt.date | None = None) -> str:
    """Say in words which `time_format`, other than the current one, parses these stripped values.

    If several do, choose the one that gives the day in the file's name. Without such a day, choose the one that gives
    one continuous period: if day and month are swapped, the times of a year jump by months.
    """
    fitting = _fitting(text[~text.isin(NO_VALUE)].drop_duplicates(), source)
    if not fitting:
        return 'unknown time format: set `time_format` to a pattern such as "%d/%m/%Y %H:%M"'
    likely = _most_likely(fitting, source, day)
    if len(likely) == 1:
        return f"set `time_format: {quote_format(likely[0])}`"
    return f"set `time_format` to the right one of {' and '.join(map(quote_format, likely))}: each parses every value"


def suggest_swapped_format(text: pd.Series, source: DataSource, days: pd.Series | None = None) -> str | None:
    """The `time_format` with day and month swapped, if it fits the stripped values better; otherwise None.

    `days` has the day in the name of each value's file, as naive midnights; None for an export.
    """
    time_format = source.purchases.time_format
    if not ("%d" in time_format and "%m" in time_format):
        return None
    swapped = time_format.replace("%d", "%-").replace("%m", "%d").replace("%-", "%m")
    times = {pattern: parse_times(text, pattern, source) for pattern in (time_format, swapped)}
    if times[swapped].count() < times[time_format].count():
        return None
    if days is not None:
        on_day = {name: (local_days(parsed, source.time_zone) == days).mean() for name, parsed in times.items()}
        return swapped if on_day[swapped] > 0.5 > on_day[time_format] else None
    return swapped if _most_likely(times, source, None) == [swapped] else None


def _fitting(values: pd.Series, source: DataSource) -> dict[str, pd.Series]:
    """Formats, other than the current one, that parse nearly all values → the parsed times."""
    unix = [name for name, digits in _UNIX_DIGITS.items() if values.str.fullmatch(digits).mean() >= _MIN_PARSED]
    endings = ["", *(f" {word}" for word in UTC_WORDS[:2] if values.str.endswith(f" {word}").all())]
    formats = unix or ["iso8601", *(pattern + ending for pattern in _PATTERNS for ending in endings)]
    fitting = {}
    for time_format in formats:
        if time_format != source.purchases.time_format and any(
            _parses(value, time_format) for value in values.head(20)
        ):
            times = parse_times(values, time_format, source)
            if times.notna().mean() >= _MIN_PARSED:
                fitting[time_format] = times
    return fitting


def _parses(value: str, time_format: str) -> bool:
    """Whether a pattern parses one value. This rules out most patterns quickly."""
    if "%" not in time_format:
        return True
    try:
        dt.datetime.strptime(value, time_format)
    except ValueError:
        return False
    return True


def _most_likely(fitting: Mapping[str, pd.Series], source: DataSource, day: dt.date | None) -> list[str]:
    """The most likely format, or several if they are equally likely."""
    days = {name: local_days(times, source.time_zone) for name, times in fitting.items()}
    if day is not None:
        return [name for name, parsed in days.items() if (parsed == pd.Timestamp(day)).mean() > 0.5] or list(fitting)
    spans = {name: (parsed.max() - parsed.min()).days for name, parsed in days.items()}
    return [name for name, span in spans.items() if span <= 2 * min(spans.values())]


def quote_format(time_format: str) -> str:
    """A `time_format` as written in a YAML file."""
    return f'"{time_format}"' if "%" in time_format else time_format
