"""Whether a source can be used: what cleaning would do to its lines, and what would be left of them.

A rule that refuses more than a few lines, or much money, is a warning that says how to fix it. What leaves nothing, or
less than half, is an error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import pandas as pd

from rec_assets.recsys.data.cleaning import RULES, CleaningRules, clean_day
from rec_assets.recsys.events import PURCHASE
from rec_assets.recsys.recipe import AlsRecipe
from rec_assets.sources.findings import SourceCheck, count, share, shortened
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.times import local_days

FEW = 0.01
"""More than this share of the lines, or of their value, refused by one rule is worth a look."""

MOST = 0.5
"""Where more than this share of the lines that should count are refused, the source's description is wrong."""

_BY_DESIGN = {"excluded", "no_customer", "duplicate_line"}
"""Rules that refuse what the source or the shop means to leave out."""

Refused = dict[str, pd.DataFrame]


def explain_cleaning(sample: SourceSample, days: Sequence[dt.date], check: SourceCheck) -> None:
    """What cleaning would refuse of these days, with an example for each rule, and whether enough is left."""
    source, catalog = sample.source, sample.catalog
    excluded = frozenset(catalog["product_id"][catalog["excluded"].astype(bool)])
    rules = CleaningRules(source.time_zone, source.has_price, excluded, source.purchases.bulk_quantity)
    cleaned, rejected = [], []
    for day in days:
        result = clean_day(sample.by_day[day], day, rules)
        cleaned.append(result.cleaned)
        rejected.append(result.rejected.assign(day=pd.Timestamp(day)))
    kept, refused = pd.concat(cleaned, ignore_index=True), pd.concat(rejected, ignore_index=True)
    total = sum(len(sample.by_day[day]) for day in days)
    check.say("Cleaning", f"would refuse {share(len(refused), total)} of {count(total, 'line')}")
    by_rule = {rule: refused[_broke(refused, {rule})] for rule in RULES}
    for rule, lines in by_rule.items():
        if len(lines):
            check.say("Cleaning", f"{rule}: {count(len(lines), 'line')}; {RULES[rule]}", f"    {_example(lines)}")
    _explain_bulk(kept, check)
    _explain_shares(sample, by_rule, total, _value(kept) + _value(refused), check)
    _judge(kept, refused, total, check)


def explain_what_can_be_learned(sample: SourceSample, check: SourceCheck) -> None:
    """What a whole log is too small or too thin for; such a shop gets lists from what there is."""
    lines = sample.counting[sample.counting["customer_id"].fillna("").str.strip() != ""]
    lines = lines[~(lines["is_return"] | lines["was_returned"])]
    instead = "lists come from what is popular, in the customer's categories, and alike in text"
    if lines.groupby("product_id")["customer_id"].nunique().max() < AlsRecipe().min_buyers:
        check.warnings.append(f"no product has {AlsRecipe().min_buyers} customers: ALS can't learn, and {instead}")
    days = local_days(lines["event_time"], sample.source.time_zone)
    if not days.empty and days.groupby(lines["customer_id"]).nunique().max() < 2:
        check.warnings.append(f"no customer bought on two days: nobody's taste can be learned or judged, and {instead}")


def _explain_bulk(kept: pd.DataFrame, check: SourceCheck) -> None:
    bought = kept[kept["event"] == PURCHASE]
    bulk = bought[bought["weight"] == 0]
    if bulk.empty:
        return
    pieces = f"{bulk['quantity'].min():,.0f} to {bulk['quantity'].max():,.0f} pieces"
    said = f"bulk orders: {count(len(bulk), 'line')} of {pieces}"
    check.say("Cleaning", f"{said}; they count in key figures, and models don't learn from them")
    of_value = _value(bulk) / _value(bought) if _value(bought) else 0.0
    if len(bulk) > FEW * len(bought) or of_value > FEW:
        check.warnings.append(
            f"{share(len(bulk), len(bought))} of the lines ({of_value:.0%} of the value) are bulk orders, beyond what "
            "is usual on their day, and models don't learn from them: if they are the shop's business, set "
            "`bulk_quantity: none`, or the quantity above which a line is one, under `purchases`"
        )


def _explain_shares(sample: SourceSample, by_rule: Refused, total: int, value: float, check: SourceCheck) -> None:
    for rule, lines in by_rule.items():
        of_value = _value(lines) / value if value else 0.0
        if rule in _BY_DESIGN or not (len(lines) > FEW * total or of_value > FEW):
            continue
        money = f" ({of_value:.0%} of the value)" if of_value > FEW else ""
        how = _HOW_TO_FIX[rule](sample, lines)
        check.warnings.append(f"{share(len(lines), total)} of the lines{money} would be refused as `{rule}`: {how}")
    if len(by_rule["no_customer"]) > MOST * total:
        column = sample.source.purchases.columns.customer_id
        check.warnings.append(
            f"{share(len(by_rule['no_customer']), total)} of the lines have no customer: is {column!r} the right "
            "column?"
        )
    if len(by_rule["duplicate_line"]) > 0.05 * total:
        check.warnings.append(
            f"{share(len(by_rule['duplicate_line']), total)} of the lines are duplicates: did files land twice, "
            "or is each line one piece? Then a column that numbers the lines tells them apart"
        )


def _judge(kept: pd.DataFrame, refused: pd.DataFrame, total: int, check: SourceCheck) -> None:
    meant = _broke(refused, _BY_DESIGN)
    faulty = int((~meant).sum())
    if not (kept["event"] == PURCHASE).any():
        check.errors.append(
            f"no purchase is left of the {count(total, 'line')} that were looked at: {_most_refused_by(refused)}"
        )
    elif faulty > MOST * (total - int(meant.sum())):
        check.errors.append(
            f"{share(faulty, total)} of the lines would be refused by mistake, more than half: "
            f"{_most_refused_by(refused)}"
        )


def _most_refused_by(refused: pd.DataFrame) -> str:
    """The rule that refuses most, with its reason."""
    if refused.empty:
        return "all are returns"
    rule = str(refused["reasons"].str.split(",").explode().mode().iloc[0])
    return f"most are refused as `{rule}` ({RULES[rule]})"


def _broke(refused: pd.DataFrame, rules: set[str]) -> pd.Series:
    return refused["reasons"].map(lambda names: not rules.isdisjoint(names.split(","))).astype(bool)


def _value(lines: pd.DataFrame) -> float:
    return float((lines["quantity"].abs() * lines["unit_price"].abs()).replace(float("inf"), float("nan")).sum())


def _example(lines: pd.DataFrame) -> str:
    first = lines.iloc[0]
    return f"{first['source_file']}, row {first['source_row']}: {shortened(first['line'], 200)}"


def _of_product(sample: SourceSample, lines: pd.DataFrame) -> str:
    column = sample.source.purchases.columns.product_id
    return f"{column!r} is empty there; if another column names every product, map that one to `product_id`"


def _of_id(sample: SourceSample, lines: pd.DataFrame) -> str:
    return "are `customer_id` and `product_id` the right columns?"


def _of_time(sample: SourceSample, lines: pd.DataFrame) -> str:
    return "their times can't be read: is `time_format` right?"


def _of_day(sample: SourceSample, lines: pd.DataFrame) -> str:
    if (lines["event_time"].dt.tz_localize(None).dt.floor("D") == lines["day"]).mean() > 0.9:
        return "files hold days of UTC: set `time_zone: UTC`, or land files by the shop's clock"
    return "they are of another day than their file: are `time_zone`, `times_are` and `time_format` right?"


def _of_quantity(sample: SourceSample, lines: pd.DataFrame) -> str:
    if (lines["quantity"] < 0).mean() > 0.5:
        return "if they are returns, set `returns: {negative_quantity: true}`"
    return f"{_written(sample, sample.source.purchases.columns.quantity, lines)}: is `quantity` the right column?"


def _of_price(sample: SourceSample, lines: pd.DataFrame) -> str:
    columns = sample.source.purchases.columns
    written = _written(sample, columns.unit_price or columns.amount, lines)
    return f"{written}: are prices written as `decimal` says, or are these gifts?"


def _written(sample: SourceSample, column: str | None, lines: pd.DataFrame) -> str:
    values = sample.written[column] if column else pd.Series(dtype=object)
    rows = sample.lines.index[sample.lines["line"].isin(set(lines["line"].head(1000)))]
    found = values.reindex(rows).dropna().value_counts().head(3)
    shown = " or ".join(repr(shortened(value, 60)) for value in found.index)
    return f"{column!r} is {shown} there" if shown else "see the example"


_HOW_TO_FIX: dict[str, Callable[[SourceSample, pd.DataFrame], str]] = {
    "no_product": _of_product,
    "id_too_long": _of_id,
    "unparseable_time": _of_time,
    "outside_day": _of_day,
    "quantity_impossible": _of_quantity,
    "price_impossible": _of_price,
}
