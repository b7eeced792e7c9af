"""Cleaning rules: which raw lines the pipeline rejects, why, and what the shop can do about it.

A rule is one `CleaningRule` in `CLEANING_RULES`. Cleaning, `check-source` and the asset metadata read that registry.
To add a rule, see docs/how-to/add-a-cleaning-rule.md.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from rec_assets.recsys.data.distinct import map_distinct, strip_text
from rec_assets.recsys.events import MAX_ID_LENGTH

MAX_QUANTITY = 1e6
"""A larger quantity is a mistake, often a barcode, unless the data source sets `bulk_quantity`."""

_IDS = ["customer_id", "product_id", "order_id"]


@dataclass(frozen=True)
class CleaningSettings:
    """Settings of the data source and its catalog that cleaning needs.

    Attributes:
        time_zone: IANA name of the zone that decides the day of a line.
        has_price: Whether the data source has prices, so that each line must have one.
        excluded_products: Product ids that the catalog excludes.
        product_of_variant: Variant → its product, from the catalog.
        bulk_quantity: A line with a larger quantity is a bulk order. None: use the day's robust limit; "none": no line
            is a bulk order.
    """

    time_zone: str
    has_price: bool
    excluded_products: frozenset[str] = frozenset()
    product_of_variant: Mapping[str, str] = field(default_factory=dict)
    bulk_quantity: float | Literal["none"] | None = None


@dataclass(frozen=True)
class RawDay:
    """Raw lines of one day (`raw_lines.RAW_SCHEMA`). Quantity and unit price of a return are positive."""

    lines: pd.DataFrame
    day: dt.date
    settings: CleaningSettings


@dataclass(frozen=True)
class RejectedLines:
    """Raw lines that one rule rejects, with the `day` of their file. `columns`: field → the shop's columns."""

    lines: pd.DataFrame
    columns: Mapping[str, list[str]]

    def common_values(self, *fields: str) -> str:
        """The most common values of a field, as in "in these lines, 'Qty' is '0' or ''".

        Of several fields, it takes the first one that the shop has a column for.
        """
        columns = next((self.columns[name] for name in fields if self.columns.get(name)), list(fields[:1]))
        lines = pd.DataFrame([json.loads(line) for line in self.lines["line"].head(1000)], columns=columns)
        values = lines.fillna("").astype(str).apply(lambda column: column.str.strip()).agg(" ".join, axis=1)
        common = values.str.slice(0, 60).value_counts().index[:3]
        return f"in these lines, {' '.join(map(repr, columns))} is {' or '.join(map(repr, common))}"


@dataclass(frozen=True)
class CleaningRule:
    """A reason to reject raw lines.

    Attributes:
        name: Name in `rejected_purchases.reasons` and in reports.
        reason: Why a line is rejected, in words.
        rejects: Raw lines of a day → whether the rule rejects each line.
        fix: What the shop can do, in words, or a function that returns it. `check-source` shows it; "" if another
            warning says it.
        is_intended: The rule rejects lines that a shop leaves out on purpose. They don't make a data source unusable.
        warn_above: `check-source` warns if the rule rejects more than this share of all lines or, unless `is_intended`,
            of their total value.
        only_valid: The rule gets only lines that no earlier rule rejects.
    """

    name: str
    reason: str
    rejects: Callable[[RawDay], pd.Series]
    fix: str | Callable[[RejectedLines], str]
    is_intended: bool = False
    warn_above: float = 0.01
    only_valid: bool = False


def broken_rules(raw: pd.DataFrame, day: dt.date, settings: CleaningSettings) -> pd.DataFrame:
    """One row for each raw line, one column for each rule: whether the rule rejects the line."""
    is_return = raw["is_return"].astype(bool)
    # The sign of a return only means "sent back".
    positive = {name: raw[name].where(~is_return, raw[name].abs()) for name in ("quantity", "unit_price")}
    lines, broken = raw.assign(**positive), pd.DataFrame(index=raw.index)
    for name, rule in CLEANING_RULES.items():
        checked = lines[~broken.any(axis=1)] if rule.only_valid else lines
        broken[name] = rule.rejects(RawDay(checked, day, settings)).reindex(raw.index, fill_value=False)
    return broken


def is_filled(text: pd.Series) -> pd.Series:
    """Whether a value is neither null nor blank."""
    return strip_text(text) != ""


def _is_positive(values: pd.Series, limit: float = np.inf) -> pd.Series:
    return (values > 0) & np.isfinite(values) & (values <= limit)


def _is_too_long(ids: pd.Series) -> pd.Series:
    return ids.fillna("").map(len) > MAX_ID_LENGTH


def _is_outside_day(day: RawDay) -> pd.Series:
    time = day.lines["event_time"]
    # Compare local days: in some zones the clock changes at midnight, so that a day has two beginnings or none.
    local_day = time.dt.tz_convert(day.settings.time_zone).dt.tz_localize(None).dt.floor("D")
    return time.notna() & (local_day != pd.Timestamp(day.day))


def _fix_day(rejected: RejectedLines) -> str:
    utc_day = rejected.lines["event_time"].dt.tz_localize(None).dt.floor("D")
    if (utc_day == rejected.lines["day"]).mean() > 0.9:
        return "each file has a UTC day: set `time_zone: UTC`, or write a file for each local day"
    return "check `time_zone`, `naive_times` and `time_format`"


def _fix_quantity(rejected: RejectedLines) -> str:
    if (rejected.lines["quantity"] < 0).mean() > 0.5:
        return ""  # `check-source` has one warning for all negative quantities
    return f"{rejected.common_values('quantity')}; check the column for `quantity`"


_RULES = (
    CleaningRule(
        "no_customer",
        "the line has no customer id, so nobody can get recommendations from it",
        lambda day: ~is_filled(day.lines["customer_id"]),
        "check the column for `customer_id`",
        is_intended=True,
        warn_above=0.5,
    ),
    CleaningRule(
        "no_product",
        "the line has no product id",
        lambda day: ~is_filled(day.lines["product_id"]),
        "if another column has an id for each product, use that column for `product_id`",
    ),
    CleaningRule(
        "id_too_long",
        f"the customer, product or order id has more than {MAX_ID_LENGTH} characters",
        lambda day: day.lines[_IDS].apply(map_distinct, function=_is_too_long).any(axis=1),
        "check the columns for `customer_id`, `product_id` and `order_id`",
    ),
    CleaningRule(
        "invalid_time",
        "the time is missing or doesn't match `time_format`",
        lambda day: day.lines["event_time"].isna(),
        lambda rejected: f"{rejected.common_values('time')}; check `time_format`",
    ),
    CleaningRule(
        "outside_day", "the time is outside the file's day, in the shop's time zone", _is_outside_day, _fix_day
    ),
    CleaningRule(
        "invalid_quantity",
        "the quantity is not a number, 0, negative (and the line is not a return) or above a million",
        lambda day: ~_is_positive(day.lines["quantity"], np.inf if day.settings.bulk_quantity else MAX_QUANTITY),
        _fix_quantity,
    ),
    CleaningRule(
        "invalid_price",
        "the price is not a number, 0 or negative (and the line is not a return), and the data source has prices",
        lambda day: ~_is_positive(day.lines["unit_price"]) & day.settings.has_price,
        lambda rejected: f"{rejected.common_values('unit_price', 'amount')}; check `decimal`; are these gifts?",
    ),
    CleaningRule(
        "excluded",
        "the data source or its catalog excludes the line or product",
        lambda day: is_filled(day.lines["excluded_by"]) | day.lines["product_id"].isin(day.settings.excluded_products),
        "check `include` and `exclude`",
        is_intended=True,
        warn_above=1.0,
    ),
    CleaningRule(
        "duplicate_line",
        "an earlier line of the day is the same in every column",
        lambda day: day.lines["line"].duplicated(),
        "did a file land twice? If each line is one piece, add a column that numbers the lines",
        is_intended=True,
        warn_above=0.05,
        only_valid=True,
    ),
)

CLEANING_RULES = {rule.name: rule for rule in _RULES}
"""All cleaning rules by name, in the order in which a rejected line lists its reasons."""
