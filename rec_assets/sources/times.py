"""Text as times: reading them by a `time_format`, and finding the format that they are written in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pandas as pd

from rec_assets.sources.spec import UNIX_UNITS, UTC_WORDS, Source, zone_word

NO_VALUE = ("", "NaN", "nan", "null", "NULL", "None", "NA", "N/A", r"\N")
"""How files write that there is no value."""

_ISO_DATE = r"(?:\d{4}-\d\d?-\d\d?|\d{8})"
_ISO_TIME = _ISO_DATE + r"[T ]\d[\d:.]*"
_DECIMAL_COMMA = r"(:\d\d),(\d)"
"""ISO 8601 has seconds with a comma, too."""
_ISO_OFFSET = r" ?(?:[Zz]|[+-]\d\d(?::?\d\d)?)"

_FIRST_LOCAL, _LAST_LOCAL = pd.Timestamp.min.ceil("D") + pd.Timedelta(days=1), pd.Timestamp.max.floor("D")
"""Beyond these, a time of some zone is none that pandas has in UTC: it would come out on the other side."""

_UTC_ENDING = r" ?\b(?:UTC|GMT)$"
"""How times end that say that they are in UTC, beside ISO 8601's Z."""

_FURTHEST = 9e15
"""Microseconds from 1970, forwards and back, beyond which pandas has no times (before 1684, after 2255)."""

_DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d.%m.%Y", "%Y.%m.%d", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y",
    "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
_HOURS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S", " %H:%M:%S.%f")
_PATTERNS = [*(date + hour for date in _DATES for hour in _HOURS), "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S"]

_UNIX_DIGITS = {
    "unix_seconds": r"\d{9,10}(?:\.\d*)?",
    "unix_milliseconds": r"\d{12,13}(?:\.\d*)?",
    "unix_microseconds": r"\d{15,16}(?:\.\d*)?",
    "unix_nanoseconds": r"\d{18,19}(?:\.\d*)?",
}
"""Unix times of 1973 to 2286 have so many digits."""

_MOST = 0.95
"""Share of the values that a suggested format must read: some lines are always wrong."""


def parse_times(text: pd.Series, kind: str, source: Source) -> pd.Series:
    """Stripped text as UTC times by a `time_format`, cut to the lake's microseconds; NaT where it can't be read."""
    if kind in UNIX_UNITS:
        return _unix_times(text, UNIX_UNITS[kind])
    zone = "UTC" if source.purchases.times_are == "utc" or zone_word(kind) in UTC_WORDS else source.time_zone
    text = text.mask(text.str.lower().isin(["now", "today"]), "")  # pandas would look at the clock
    text = text.str.replace(r"(\.\d{6})\d+", r"\1", regex=True)  # no format takes more digits than nanoseconds have
    if kind == "iso8601":
        text = text.str.replace(_UTC_ENDING, "Z", regex=True).str.replace(_DECIMAL_COMMA, r"\1.\2", regex=True)
        aware = text.str.fullmatch(_ISO_TIME + _ISO_OFFSET)
        naive = text.str.fullmatch(f"{_ISO_DATE}|{_ISO_TIME}")
        times = pd.Series(pd.NaT, index=text.index, dtype="datetime64[ns, UTC]")
        times[aware] = pd.to_datetime(text[aware], format="ISO8601", utc=True, errors="coerce")
        times[naive] = _to_utc(pd.to_datetime(text[naive], format="ISO8601", errors="coerce"), zone)
    elif "%z" in kind or "%Z" in kind:
        times = pd.to_datetime(text, format=kind, utc=True, errors="coerce")
    else:
        times = _to_utc(pd.to_datetime(text, format=kind, errors="coerce"), zone)
    return times.dt.floor("us")


def _unix_times(text: pd.Series, places: int) -> pd.Series:
    """Numbers as times, digit by digit: a float has too few digits for a microsecond of today.

    Args:
        text: Numbers.
        places: Decimal places from their unit to a microsecond; what is finer is cut off.
    """
    parts = text.str.extract(r"^(-?)0*(\d{1,25})(?:\.(\d*))?$").fillna("")
    digits = parts[1] + parts[2].str.slice(0, max(places, 0)).str.ljust(max(places, 0), "0")
    digits = digits.str.slice(0, places if places < 0 else None)
    is_number = (parts[1] != "") & (digits.str.len() <= 16)
    exact = pd.to_numeric((parts[0] + digits.mask(digits == "", "0")).where(is_number), errors="coerce")
    # What a spreadsheet makes of a long number, 1.43322E+12, lost its last digits before we see it.
    rounded = (pd.to_numeric(text.mask(parts[1] != ""), errors="coerce") * 10.0**places).round()
    micros = exact.where(is_number, rounded).to_numpy(float)
    known = np.abs(micros) < _FURTHEST  # which is less than 2^53: each of these is a whole float
    moments = np.where(known, micros, 0).astype("int64").astype("datetime64[us]").astype("datetime64[ns]")
    return pd.Series(moments, text.index).where(known).dt.tz_localize("UTC")


def _to_utc(local: pd.Series, zone: str) -> pd.Series:
    # An hour that clocks skip in spring is taken as its end; of one that comes twice in autumn, the first.
    first = np.ones(len(local), dtype=bool)
    local = local.where(local.between(_FIRST_LOCAL, _LAST_LOCAL))
    return local.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward").dt.tz_convert("UTC")


def local_days(times: pd.Series, time_zone: str) -> pd.Series:
    """The day of UTC times by the shop's clock, as its naive midnight; NaT where there is no time."""
    return times.dt.tz_convert(time_zone).dt.tz_localize(None).dt.floor("D")


def suggested_format(text: pd.Series, source: Source, day: dt.date | None = None) -> str:
    """In words, which `time_format` would read all of these, other than the one that is set.

    Of several that do, the one by which they lie on the day of their file, or else on one stretch of days: a year in
    which day and month are swapped has jumps of a month in it.

    Args:
        text: Stripped values.
        source: The source.
        day: The day in the file's name, where it has one.
    """
    fitting = _fitting(text[~text.isin(NO_VALUE)].drop_duplicates(), source)
    if not fitting:
        return 'can\'t tell how these are written: set `time_format` to a pattern such as "%d/%m/%Y %H:%M"'
    chosen = _likeliest(fitting, source, day)
    if len(chosen) == 1:
        return f"set `time_format: {quoted(chosen[0])}`"
    return (
        f"can't tell which of {' and '.join(map(quoted, chosen))} is meant, as each reads every value: set "
        "`time_format` to the one that the shop writes"
    )


def swapped_format(text: pd.Series, source: Source, days: pd.Series | None = None) -> str | None:
    """The `time_format` with day and month swapped, where by it the times make more sense than by the one that is set.

    Args:
        text: Stripped values.
        source: The source.
        days: The day in the name of each value's file, as naive midnights; None for an export.
    """
    kind = source.purchases.time_format
    if not ("%d" in kind and "%m" in kind):
        return None
    swapped = kind.replace("%d", "%-").replace("%m", "%d").replace("%-", "%m")
    times = {each: parse_times(text, each, source) for each in (kind, swapped)}
    if times[swapped].count() < times[kind].count():
        return None
    if days is not None:
        right = {each: (local_days(found, source.time_zone) == days).mean() for each, found in times.items()}
        return swapped if right[swapped] > 0.5 > right[kind] else None
    return swapped if _likeliest(times, source, None) == [swapped] else None


def _fitting(values: pd.Series, source: Source) -> dict[str, pd.Series]:
    """The formats that read all of these, but for the one that is set, with the times that they read."""
    unix = [
        kind for kind, digits in _UNIX_DIGITS.items() if len(values) and values.str.fullmatch(digits).mean() >= _MOST
    ]
    endings = ["", *(f" {word}" for word in UTC_WORDS[:2] if values.str.endswith(f" {word}").all())]
    kinds = unix or ["iso8601", *(pattern + ending for pattern in _PATTERNS for ending in endings)]
    fitting = {}
    for kind in kinds:
        if kind != source.purchases.time_format and any(_may_be(value, kind) for value in values.head(20)):
            times = parse_times(values, kind, source)
            if times.notna().mean() >= _MOST:
                fitting[kind] = times
    return fitting


def _may_be(value: str, kind: str) -> bool:
    """Whether a pattern reads one value: most are ruled out so, before all values are looked at."""
    if "%" not in kind:
        return True
    try:
        dt.datetime.strptime(value, kind)
    except ValueError:
        return False
    return True


def _likeliest(fitting: Mapping[str, pd.Series], source: Source, day: dt.date | None) -> list[str]:
    """One format, or those among which nothing decides."""
    days = {kind: local_days(times, source.time_zone) for kind, times in fitting.items()}
    if day is not None:
        right = [kind for kind, found in days.items() if (found == pd.Timestamp(day)).mean() > 0.5]
        return right or list(fitting)
    spans = {kind: (found.max() - found.min()).days for kind, found in days.items()}
    shortest = min(spans.values())
    return [kind for kind, span in spans.items() if span <= 2 * shortest]


def quoted(kind: str) -> str:
    """A `time_format` as it stands in a YAML file."""
    return f'"{kind}"' if "%" in kind else kind
