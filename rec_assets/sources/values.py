"""Convert columns of text to times, numbers and dates.

A single unreadable value becomes null. If most values of a column in the first batch of a file are unreadable, the
functions raise a `SourceError`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from upath import UPath

from rec_assets.recsys.data.distinct import distinct_values, map_distinct, strip_text
from rec_assets.sources.batches import Conventions
from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import DataSource
from rec_assets.sources.spec_fields import FileFormat
from rec_assets.sources.times import NO_VALUE, parse_times, suggest_format

MAX_UNREADABLE_SHARE = 0.5
"""If more than this share of a column's values is unreadable, the file is an error."""

MAX_URL_LENGTH = 2048

_NEXT_URL = r"""["']?[\s,;|]+["']?(?=https?://|/)"""
"""What separates several URLs in a field."""

_URL = (
    r"(?:https?://[^\s/\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*|(?![a-z][a-z0-9+.-]*:)[^\s\\\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*)"
)
"""A URL with http or https, or a relative one. Browsers ignore control characters, as in \x01javascript:."""

_THOUSANDS = r"[+-]?[1-9]\d{0,2}(?:%s\d{2,3})*%s\d{3}(?:%s\d*)?"
"""A number with grouped digits, such as 1,234,567.89, or 1,00,000 as in India."""


def as_times(
    values: pd.Series, source: DataSource, path: UPath, conventions: Conventions, day: dt.date | None = None
) -> pd.Series:
    """Convert a column of the purchase log to UTC times, cut to microseconds; NaT if empty or unreadable.

    The day in the file's name, if it has one, shows what a date such as 5/1/2024 means.
    """
    text, time_format = strip_text(values), source.purchases.time_format
    times = map_distinct(text, lambda distinct: parse_times(distinct, time_format, source))
    expected = "ISO 8601 times" if time_format == "iso8601" else f"times of the format {time_format}"
    column = source.purchases.columns.time
    if conventions.is_first_batch:
        _check_readable(values, times, column, path, expected, lambda: suggest_format(text, source, day))
    return times


def as_numbers(
    frame: pd.DataFrame, column: str | None, spec: FileFormat, path: UPath, conventions: Conventions
) -> pd.Series:
    """Convert a column to floats; NaN if empty, unreadable, or if the data source has no such column.

    Thousands can be grouped by a space, an apostrophe, or the one of comma and point that is not the decimal mark.
    """
    if column is None:
        return pd.Series(np.nan, frame.index)
    positions, text = distinct_values(strip_text(frame[column]))
    lines = np.bincount(positions, minlength=len(text))
    text = text.str.replace(r"(?<=\d)[ \u00a0\u202f'’](?=\d{3}(?!\d))", "", regex=True)
    group = "," if spec.decimal == "." else "."
    grouped = text.str.fullmatch(_THOUSANDS % (re.escape(group), re.escape(group), re.escape(spec.decimal)))
    # If other values, such as 12,50 or 0,250, are not grouped, this mark is the decimal mark, and 1,234 is about 1.2.
    has_group = text.str.contains(rf"\d{re.escape(group)}\d")
    has_grouped_digits = bool(2 * lines @ grouped.to_numpy(bool) > lines @ has_group.to_numpy(bool))
    if conventions.has_grouped_digits.setdefault(column, has_grouped_digits):
        text = text.mask(grouped, text.str.replace(group, "", regex=False))
    if spec.decimal == ",":
        text = text.str.replace(",", ".", regex=False)
    parsed = pd.to_numeric(text, errors="coerce").astype(float)
    numbers = pd.Series(parsed.to_numpy()[positions], frame.index)

    def fix() -> str:
        has_commas = spec.decimal == "." and spec.format == "csv" and text.str.contains(r"\d,\d").any()
        has_letters = text.str.contains(r"\d ?[A-Za-z$€£¥]|[A-Za-z$€£¥] ?\d").any()
        return 'set `decimal: ","`' if has_commas else "remove units and currencies" if has_letters else ""

    if conventions.is_first_batch:
        _check_readable(frame[column], numbers, column, path, "numbers", fix)
    return numbers


def as_dates(frame: pd.DataFrame, column: str | None, path: UPath) -> pd.Series:
    """Convert a column of ISO dates or times to dates; null if empty or unreadable."""
    if column is None:
        return pd.Series(None, frame.index, dtype=object)
    # The first ten characters of an ISO time are its date, in the zone of the time.
    dates = pd.to_datetime(strip_text(frame[column]).str[:10], format="ISO8601", errors="coerce")
    _check_readable(frame[column], dates, column, path, "ISO dates such as 2017-11-23")
    null: Any = None  # pandas' stubs don't accept None here
    values = dates.dt.date.where(dates.notna(), null)
    # Shops write dates after 2262, which pandas doesn't support, for "never".
    late = strip_text(frame[column]).str.fullmatch(r"(?:2[3-9]|[3-9]\d)\d\d-\d\d-\d\d.*") & dates.isna()
    return values.mask(late, dt.date(2262, 1, 1))


def as_urls(frame: pd.DataFrame, column: str | None, path: UPath) -> pd.Series:
    """Convert a column to URLs of a browser; null if empty, too long, or of a scheme other than http and https.

    Of several in a field, the first is used. A relative URL, such as /tea.jpg, stays as it is.
    """
    if column is None:
        return pd.Series(None, frame.index, dtype=object)
    text = strip_text(frame[column])
    first = map_distinct(text, lambda distinct: distinct.str.strip("[\"'] ").str.split(_NEXT_URL, regex=True).str[0])
    first = first.str.rstrip("\"' ")
    is_url = first.str.fullmatch(_URL, case=False) & (first.str.len() <= MAX_URL_LENGTH)
    null: Any = None
    urls = first.where(is_url, null)
    _check_readable(frame[column], urls, column, path, "links (http, https or relative)")
    return urls


def _check_readable(
    values: pd.Series, parsed: pd.Series, column: str, path: UPath, expected: str, fix: Callable[[], str] = str
) -> None:
    """Raise a `SourceError` if most filled values of a column are not `parsed`."""
    if not parsed.isna().any():
        return
    filled = ~strip_text(values).isin(NO_VALUE)
    unreadable = np.flatnonzero(filled & parsed.isna())
    if len(unreadable) > MAX_UNREADABLE_SHARE * filled.sum():
        example, row = values.iloc[unreadable[0]], values.index[unreadable[0]] + 1
        raise SourceError(
            f"{path}: column {column!r}: {len(unreadable)} of {filled.sum()} values are not {expected}, for example "
            f"{example!r} in row {row}; {fix() or 'is it the right column?'}"
        )


def is_one_of(values: pd.Series, wanted: Sequence[str]) -> pd.Series:
    """Whether a value is in `wanted`, without spaces at the ends."""
    return strip_text(values).isin([value.strip() for value in wanted])
