"""Whether a data source can be used: what cleaning would reject, and whether enough is left to train models.

A rule that rejects more than a few lines, or much revenue, gives a warning that says how to fix it. An error means that
nothing is left, or less than half.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence

import pandas as pd

from rec_assets.recsys.data.cleaning import CLEANING_RULES, clean_day
from rec_assets.recsys.data.cleaning_rules import RejectedLines
from rec_assets.recsys.data.distinct import strip_text
from rec_assets.recsys.events import PURCHASE
from rec_assets.recsys.recipe import AlsRecipe
from rec_assets.sources.catalog import cleaning_settings
from rec_assets.sources.check_result import SourceCheck, format_share, pluralize, shorten
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.times import local_days

WARN_BULK_SHARE = 0.01
"""Warn if bulk orders are more than this share of the lines, or of their value."""

MAX_MISTAKE_SHARE = 0.5
"""If cleaning rejects more than this share of the lines that should count, the YAML file is wrong."""


def report_cleaning(sample: SourceSample, days: Sequence[dt.date], check: SourceCheck) -> None:
    """Report which lines of these days cleaning would reject, with an example per rule, and whether enough is left."""
    source, catalog = sample.source, sample.catalog
    settings = cleaning_settings(source, catalog)
    results = {day: clean_day(sample.by_day[day], day, settings) for day in days}
    cleaned = pd.concat([result.cleaned for result in results.values()], ignore_index=True)
    rejected = pd.concat(
        [result.rejected.assign(day=pd.Timestamp(day)) for day, result in results.items()], ignore_index=True
    )
    total = sum(len(sample.by_day[day]) for day in days)
    check.add("Cleaning", f"would reject {format_share(len(rejected), total)} of {pluralize(total, 'line')}")
    by_rule = {name: rejected[_breaks_any(rejected, {name})] for name in CLEANING_RULES}
    for name, lines in by_rule.items():
        for first in lines.head(1).to_dict("records"):
            rule, count = CLEANING_RULES[name], pluralize(len(lines), "line")
            on_purpose = " (can be on purpose)" * rule.is_intended
            example = f"    {first['source_file']}, row {first['source_row']}: {shorten(first['line'], 200)}"
            check.add("Cleaning", f"{name}: {count}; {rule.reason}{on_purpose}", example)
    _report_bulk(cleaned, check)
    _warn_about_rules(sample, by_rule, total, _value(cleaned) + _value(rejected), check)
    _check_usable(cleaned, rejected, total, check)


def report_training_data(sample: SourceSample, check: SourceCheck) -> None:
    """Warn if a complete log has too little data for personal recommendations."""
    lines = sample.included[strip_text(sample.included["customer_id"]) != ""]
    lines = lines[~(lines["is_return"] | lines["was_returned"])]
    instead = "lists then use popularity, the customer's categories and text similarity"
    if lines.groupby("product_id")["customer_id"].nunique().max() < AlsRecipe().min_buyers:
        check.warnings.append(f"no product has {AlsRecipe().min_buyers} customers, so ALS can't train: {instead}")
    days = local_days(lines["event_time"], sample.source.time_zone)
    if not days.empty and days.groupby(lines["customer_id"]).nunique().max() < 2:
        problem = "no customer bought on two days, so personal models can't be trained or evaluated"
        check.warnings.append(f"{problem}: {instead}")


def _report_bulk(cleaned: pd.DataFrame, check: SourceCheck) -> None:
    bought = cleaned[cleaned["event"] == PURCHASE]
    bulk = bought[bought["weight"] == 0]
    if bulk.empty:
        return
    counts = f"{pluralize(len(bulk), 'line')} of {bulk['quantity'].min():,.0f} to {bulk['quantity'].max():,.0f} pieces"
    check.add("Cleaning", f"bulk orders: {counts}; they count in business KPIs, but models don't train on them")
    value_share = _value(bulk) / _value(bought) if _value(bought) else 0.0
    if len(bulk) > WARN_BULK_SHARE * len(bought) or value_share > WARN_BULK_SHARE:
        check.warnings.append(
            f"{format_share(len(bulk), len(bought))} of the lines ({value_share:.0%} of the value) are bulk orders, "
            "and models don't train on them: if they are your normal business, set `bulk_quantity: none` under "
            "`purchases`, or the quantity above which a line is a bulk order"
        )


def _warn_about_rules(
    sample: SourceSample, by_rule: dict[str, pd.DataFrame], total: int, value: float, check: SourceCheck
) -> None:
    columns = sample.source.purchases.columns.by_field
    for name, lines in by_rule.items():
        rule, value_share = CLEANING_RULES[name], _value(lines) / value if value else 0.0
        is_much_value = value_share > rule.warn_above and not rule.is_intended
        if len(lines) > rule.warn_above * total or is_much_value:
            money = f" ({value_share:.0%} of the value)" if is_much_value else ""
            fix = rule.fix if isinstance(rule.fix, str) else rule.fix(RejectedLines(lines, columns))
            if fix:
                check.warnings.append(
                    f"cleaning would reject {format_share(len(lines), total)} of the lines{money} as `{name}`: {fix}"
                )


def _check_usable(cleaned: pd.DataFrame, rejected: pd.DataFrame, total: int, check: SourceCheck) -> None:
    is_intended = _breaks_any(rejected, {name for name, rule in CLEANING_RULES.items() if rule.is_intended})
    mistakes, others = int((~is_intended).sum()), total - int(is_intended.sum())
    if not (cleaned["event"] == PURCHASE).any():
        check.errors.append(f"no purchase is left of {pluralize(total, 'line')}: {_main_reason(rejected)}")
    elif mistakes > MAX_MISTAKE_SHARE * others:
        check.errors.append(
            f"cleaning would reject {format_share(mistakes, others)} of the lines by mistake, more than half: "
            f"{_main_reason(rejected)}"
        )


def _main_reason(rejected: pd.DataFrame) -> str:
    if rejected.empty:
        return "all are returns; check `returns`"
    name = str(rejected["reasons"].str.split(",").explode().mode().iloc[0])
    return f"most are rejected as `{name}` ({CLEANING_RULES[name].reason})"


def _breaks_any(rejected: pd.DataFrame, rules: Collection[str]) -> pd.Series:
    return rejected["reasons"].map(lambda names: any(name in rules for name in names.split(","))).astype(bool)


def _value(lines: pd.DataFrame) -> float:
    return float((lines["quantity"].abs() * lines["unit_price"].abs()).replace(float("inf"), float("nan")).sum())
