"""Columns of text as times, numbers and dates.

A single value that can't be read is null. A column most of which can't be is of the wrong type: an error.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import FileFormat, Source
from rec_assets.sources.times import NO_VALUE, parse_times, suggested_format

UNREADABLE_SHARE = 0.5
"""Where more than this share of a column's values can't be read, its type is wrong: the file is refused."""


def as_times(values: pd.Series, source: Source, path: UPath, day: dt.date | None = None) -> pd.Series:
    """A column of the log as UTC times, cut to microseconds; NaT where empty or unreadable.

    Args:
        values: The column.
        source: The source.
        path: Of the file.
        day: The day in the file's name, which tells what a date such as 5/1/2024 means.

    Raises:
        SourceError: most can't be read; suggests another `time_format`.
    """
    kind = source.purchases.time_format
    text = stripped(values)
    times = parse_times(text, kind, source)
    expected = "times in ISO 8601" if kind == "iso8601" else f"times written as {kind}"
    column = source.purchases.columns.time
    _refuse_wrong_type(values, times, column, path, expected, lambda: suggested_format(text, source, day))
    return times


_THOUSANDS = r"[+-]?[1-9]\d{0,2}(?:%s\d{2,3})*%s\d{3}(?:%s\d*)?"
"""A number in groups of digits, 1,234,567.89, and by tens of thousands as in India, 1,00,000."""


def as_numbers(frame: pd.DataFrame, column: str | None, spec: FileFormat, path: UPath) -> pd.Series:
    """A column as floats; NaN where empty or unreadable, and where the source has no such column.

    Thousands may be grouped, by a blank or an apostrophe, or by the one of comma and point that is not the decimal one.

    Raises:
        SourceError: most can't be read.
    """
    if column is None:
        return pd.Series(np.nan, frame.index)
    text = stripped(frame[column])
    text = text.str.replace(r"(?<=\d)[ \u00a0\u202f'’](?=\d{3}(?!\d))", "", regex=True)
    group = "," if spec.decimal == "." else "."
    grouped = text.str.fullmatch(_THOUSANDS % (re.escape(group), re.escape(group), re.escape(spec.decimal)))
    # Where others are no groups' (12,50 or 0,250), this mark is the decimal one, and 1,234 may be a little over 1.
    if 2 * grouped.sum() > text.str.contains(rf"\d{re.escape(group)}\d").sum():
        text = text.mask(grouped, text.str.replace(group, "", regex=False))
    if spec.decimal == ",":
        text = text.str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(text, errors="coerce").astype(float)

    def fix() -> str:
        has_commas = spec.decimal == "." and spec.format == "csv" and text.str.contains(r"\d,\d").any()
        has_letters = text.str.contains(r"\d ?[A-Za-z$€£¥]|[A-Za-z$€£¥] ?\d").any()
        return 'set `decimal: ","`' if has_commas else "take off units and currencies" if has_letters else ""

    _refuse_wrong_type(frame[column], numbers, column, path, "numbers", fix)
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
    found = dates.dt.date.where(dates.notna(), null)
    # Beyond 2262, where pandas has no times, lies what shops write for "never".
    late = stripped(frame[column]).str.fullmatch(r"(?:2[3-9]|[3-9]\d)\d\d-\d\d-\d\d.*") & dates.isna()
    return found.mask(late, dt.date(2262, 1, 1))


def _refuse_wrong_type(
    values: pd.Series,
    parsed: pd.Series,
    column: str,
    path: UPath,
    expected: str,
    fix: Callable[[], str] = str,
) -> None:
    if not parsed.isna().any():
        return
    filled = ~stripped(values).isin(NO_VALUE)
    unreadable = np.flatnonzero(filled & parsed.isna())
    if len(unreadable) > UNREADABLE_SHARE * filled.sum():
        example, row = values.iloc[unreadable[0]], values.index[unreadable[0]] + 1
        raise SourceError(
            f"{path}: column {column!r}: {len(unreadable)} of {filled.sum()} values are not {expected}, for "
            f"instance {example!r} in row {row}; {fix() or 'is it the right column?'}"
        )


def stripped(values: pd.Series) -> pd.Series:
    """Text without the blanks around it; "" for null."""
    return values.fillna("").astype(str).str.strip()


def is_one_of(values: pd.Series, wanted: Sequence[str]) -> pd.Series:
    """Whether a value is one of those wanted, blanks around it aside."""
    return stripped(values).isin([value.strip() for value in wanted])
