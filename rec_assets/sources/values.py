"""Columns of text as times, numbers and descriptions.

A single value that can't be read is null. A column most of which can't be is of the wrong type: an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import FileFormat, Source

UNREADABLE_SHARE = 0.5
"""Where more than this share of a column's values can't be read, its type is wrong: the file is refused."""

NO_VALUE = ("", "NaN", "nan", "null", "NULL", "None", "NA", "N/A", r"\N")
"""How files write that there is no value."""

_ISO_DATE = r"(?:\d{4}-\d\d?-\d\d?|\d{8})"
_ISO_TIME = _ISO_DATE + r"[T ]\d[\d:.]*"
_ISO_OFFSET = r" ?(?:[Zz]|[+-]\d\d(?::?\d\d)?)"

_COMMON_TIMES = [
    date + time
    for date in (
        "%d/%m/%Y",
        "%m/%d/%Y",
        "%d.%m.%Y",
        "%d-%m-%Y",
        "%m-%d-%Y",
        "%d/%m/%y",
        "%m/%d/%y",
        "%d %b %Y",
    )
    for time in (" %H:%M", " %H:%M:%S", "", " %I:%M %p", " %I:%M:%S %p")
]


def as_times(values: pd.Series, source: Source, path: UPath) -> pd.Series:
    """A column of the log as UTC times; NaT where empty or unreadable.

    Raises:
        SourceError: most can't be read.
    """
    kind = source.purchases.time_format
    zone = "UTC" if source.purchases.times_are == "utc" else source.time_zone
    text = stripped(values)
    text = text.mask(text.str.lower().isin(["now", "today"]), "")  # pandas would look at the clock
    if kind in ("unix_seconds", "unix_milliseconds"):
        seconds = pd.to_numeric(text, errors="coerce") / (1 if kind == "unix_seconds" else 1000)
        # Further from 1970 (before 1684, after 2255) pandas has no times.
        times = pd.to_datetime(seconds.where(seconds.abs() < 9e9), unit="s", utc=True)
    elif kind == "iso8601":
        aware = text.str.fullmatch(_ISO_TIME + _ISO_OFFSET)
        naive = text.str.fullmatch(f"{_ISO_DATE}|{_ISO_TIME}")
        times = pd.Series(pd.NaT, index=values.index, dtype="datetime64[ns, UTC]")
        times[aware] = pd.to_datetime(text[aware], format="ISO8601", utc=True, errors="coerce")
        times[naive] = _to_utc(pd.to_datetime(text[naive], format="ISO8601", errors="coerce"), zone)
    elif "%z" in kind or "%Z" in kind:
        times = pd.to_datetime(text, format=kind, utc=True, errors="coerce")
    else:
        times = _to_utc(pd.to_datetime(text, format=kind, errors="coerce"), zone)
    expected = "times in ISO 8601" if kind == "iso8601" else f"times written as {kind}"
    column = source.purchases.columns.time
    _refuse_wrong_type(values, times, column, path, expected, lambda: _time_format_for(text))
    return times


def _to_utc(local: pd.Series, zone: str) -> pd.Series:
    # An hour that clocks skip in spring is taken as its end; of one that comes twice in autumn, the first.
    first = np.ones(len(local), dtype=bool)
    return local.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward").dt.tz_convert("UTC")


def local_days(times: pd.Series, time_zone: str) -> pd.Series:
    """The day of UTC times by the shop's clock, as its naive midnight; NaT where there is no time."""
    return times.dt.tz_convert(time_zone).dt.tz_localize(None).dt.floor("D")


def as_numbers(frame: pd.DataFrame, column: str | None, spec: FileFormat, path: UPath) -> pd.Series:
    """A column as floats; NaN where empty or unreadable, and where the source has no such column.

    Raises:
        SourceError: most can't be read.
    """
    if column is None:
        return pd.Series(np.nan, frame.index)
    text = stripped(frame[column])
    if spec.decimal == ",":
        thousands = text.str.fullmatch(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?")
        text = text.mask(thousands, text.str.replace(".", "", regex=False))
        text = text.str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(text, errors="coerce").astype(float)

    def mend() -> str:
        has_commas = spec.decimal == "." and spec.format == "csv" and text.str.contains(r"\d,\d").any()
        return 'set `decimal: ","`' if has_commas else ""

    _refuse_wrong_type(frame[column], numbers, column, path, "numbers", mend)
    return numbers


def as_dates(frame: pd.DataFrame, column: str | None, path: UPath) -> pd.Series:
    """A column of ISO dates or times as dates; null where empty or unreadable.

    Raises:
        SourceError: most can't be read.
    """
    if column is None:
        return pd.Series(None, frame.index, dtype=object)
    # The first ten characters of an ISO time are its date, by whatever clock it was written.
    dates = pd.to_datetime(stripped(frame[column]).str[:10], format="ISO8601", errors="coerce")
    _refuse_wrong_type(frame[column], dates, column, path, "ISO dates such as 2017-11-23")
    null: Any = None  # pandas' stubs know no None here
    return dates.dt.date.where(dates.notna(), null)


def _refuse_wrong_type(
    values: pd.Series,
    parsed: pd.Series,
    column: str,
    path: UPath,
    expected: str,
    mend: Callable[[], str] = str,
) -> None:
    if not parsed.isna().any():
        return
    filled = ~stripped(values).isin(NO_VALUE)
    unreadable = np.flatnonzero(filled & parsed.isna())
    if len(unreadable) > UNREADABLE_SHARE * filled.sum():
        example, row = values.iloc[unreadable[0]], values.index[unreadable[0]] + 1
        raise SourceError(
            f"{path}: column {column!r}: {len(unreadable)} of {filled.sum()} values are not {expected}, for "
            f"instance {example!r} in row {row}; {mend() or 'is it the right column?'}"
        )


def _time_format_for(text: pd.Series) -> str:
    """Which `time_format` would read these."""
    sample = text[~text.isin(NO_VALUE)].iloc[:1000]
    if sample.str.fullmatch(r"\d{9,10}(?:\.\d*)?").all():
        return "set `time_format: unix_seconds`"
    if sample.str.fullmatch(r"\d{12,13}").all():
        return "set `time_format: unix_milliseconds`"
    for pattern in ("ISO8601", *_COMMON_TIMES):
        if pd.to_datetime(sample, format=pattern, utc=True, errors="coerce").notna().all():
            return f'set `time_format: "{pattern.lower() if pattern == "ISO8601" else pattern}"`'
    return 'set `time_format`, for instance "%d/%m/%Y %H:%M"'


def stripped(values: pd.Series) -> pd.Series:
    """Text without the blanks around it; "" for null."""
    return values.fillna("").astype(str).str.strip()


def is_one_of(values: pd.Series, wanted: Sequence[str]) -> pd.Series:
    """Whether a value is one of those wanted, blanks around it aside."""
    return stripped(values).isin([value.strip() for value in wanted])
