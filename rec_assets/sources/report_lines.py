"""What `check-source` reports about raw lines: how they were read, and likely mistakes in the YAML file."""

from __future__ import annotations

import datetime as dt
import re

import pandas as pd

from rec_assets.recsys.data.distinct import strip_text
from rec_assets.sources.check_result import SourceCheck, format_share, pluralize, shorten, to_inline_yaml
from rec_assets.sources.reader import used_columns
from rec_assets.sources.report_products import report_ids, report_products
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.time_formats import UTC_WORDS, zone_suffix
from rec_assets.sources.times import NO_VALUE, quote_format, suggest_swapped_format

_COLUMN_NAMES = {
    "order_id": r"order|invoice|basket|receipt|transaction.?id",
    "quantity": r"quantity|qty|units|pieces",
    "unit_price": r"price",
    "amount": r"amount|total|revenue|sales.?value",
    "rating": r"rating|stars|score",
    "title": r"title|name|description|product.?type",
    "category": r"categor|department|group|family",
    "brand": r"brand|manufacturer|maker",
}
"""Field of a data source → common names of its column."""

_RETURN_NAMES = r"status|return|refund|cancel"
"""Common names of a column that marks returns."""

_NOT_PURCHASE = re.compile(
    r"(?:(?:page|item|product|screen)[ _-]?)?(?:views?|viewed|clicks?|clicked|impressions?|search(?:es|ed)?|scroll)"
    r"(?:[ _-](?:item|product|page|cart|search_results|item_list))?"
    r"|(?:add(?:ed)?[ _-]?to[ _-]?|remove(?:d)?[ _-]?from[ _-]?|view[ _-]?)?(?:cart|basket|bag|wish[ _-]?list)"
    r"|favou?rites?|begin[ _-]checkout|checkout|session[ _-]start|first[ _-]visit|log[ _-]?in|sign[ _-]?up",
    re.IGNORECASE,
)
"""Event types that are not purchases."""

_PURCHASE = re.compile(r"purchases?|purchased|transactions?|orders?|sales?|sold|bought|buy", re.IGNORECASE)
"""Event types of purchases."""

_MAX_EVENT_TYPES = 30
"""A column with at most this many different values can have the event type."""

_ORDER_COLUMN_SHARE = 0.05
"""A column is a column of the order if more than this share of its values is only on another line of the order."""


def report_lines(sample: SourceSample, check: SourceCheck) -> None:
    """Report on the raw lines, topic by topic."""
    _report_times(sample, check)
    _report_columns(sample, check)
    _report_orders(sample, check)
    _report_event_types(sample, check)
    _report_order_columns(sample, check)
    _report_returns(sample, check)
    report_products(sample, check)


def _report_times(sample: SourceSample, check: SourceCheck) -> None:
    source, spec = sample.source, sample.source.purchases
    is_utc = spec.naive_times == "utc" or zone_suffix(spec.time_format) in UTC_WORDS
    zone = "UTC" if is_utc else source.time_zone
    offset = "" if spec.time_format.startswith("unix") else f"; times without an offset are in {zone}"
    check.add("Times", f"format {spec.time_format}{offset}; days are those of {source.time_zone}")
    times, example = sample.lines["event_time"].dropna(), sample.example(spec.columns.time)
    if times.empty or example is None:
        return
    local = times.dt.tz_convert(source.time_zone).dt.tz_localize(None)
    check.add("Times", f"example: {example} → {local.iloc[0]:%Y-%m-%d %H:%M} local time")
    if (local == local.dt.floor("D")).mean() > 0.9:
        check.warnings.append(
            "nearly all times are midnight: all purchases of a customer on one day count as simultaneous"
        )
    elif (times == times.dt.floor("D")).mean() > 0.9:
        check.warnings.append(
            f"nearly all times are midnight in UTC, which is {local.iloc[0]:%H:%M} in {source.time_zone}: if they are "
            "dates, set `time_zone: UTC`"
        )
    if local.min().year < 1990 or local.max().year > dt.date.today().year + 1:
        check.warnings.append(
            f"the times are between {local.min():%Y-%m-%d} and {local.max():%Y-%m-%d}: check `time_format`, or "
            "exclude wrong lines"
        )
    rows = sample.file_values.index
    days = sample.days.loc[rows] if sample.days is not None else None
    if swapped := suggest_swapped_format(sample.file_values[spec.columns.time], source, days):
        check.warnings.append(
            "with day and month swapped, the times match "
            f"{'the days of their files' if source.is_daily else 'one continuous period'}: if that is right, set "
            f"`time_format: {quote_format(swapped)}`"
        )


def _report_columns(sample: SourceSample, check: SourceCheck) -> None:
    source, columns = sample.source, sample.source.purchases.columns.by_field
    for field, named in columns.items():
        for column in named:
            example = sample.example(column)
            shown = "always empty" if example is None else f"example: {shorten(example, 60)!r}"
            check.add("Columns", f"{field:<12} ← {column!r}, {shown}")
    if unused := [name for name in sample.file_values.columns if name not in used_columns(source)]:
        check.add("Columns", f"not used: {', '.join(map(repr, unused))}")
    known = {name for name, named in columns.items() if named}
    known |= {"unit_price", "amount"} if source.has_price else set()
    known |= {"title", "category", "brand"} if source.catalog else set()
    for column in unused:
        fields = [name for name, words in _COLUMN_NAMES.items() if re.search(words, column, re.IGNORECASE)]
        if fields and fields[0] not in known:
            check.add("Columns", f"{column!r} is possibly useful: is it `{fields[0]}`?")
        elif re.search(_RETURN_NAMES, column, re.IGNORECASE) and not source.returns.status:
            check.add("Columns", f"{column!r} is possibly useful: does it mark returns (`returns.status`)?")
    if not columns["quantity"]:
        check.warnings.append("`quantity` is not set: each line counts as one piece")
    if not source.has_price:
        check.warnings.append("neither `unit_price` nor `amount` is set: there is no revenue, and no check of prices")


def _report_orders(sample: SourceSample, check: SourceCheck) -> None:
    lines, columns = sample.lines, sample.source.purchases.columns
    customers = strip_text(lines["customer_id"])
    known = customers[customers != ""]
    check.add(
        "Lines",
        f"{len(lines):,} lines, {pluralize(known.nunique(), 'customer')}, {pluralize(len(sample.products), 'product')}",
        f"without a customer: {format_share(len(lines) - len(known), len(lines))}",
    )
    if columns.order_id is None:
        check.add("Lines", "no order ids: all lines of a customer on a day are one order")
    else:
        buyers = lines[strip_text(lines["order_id"]) != ""].groupby("order_id")["customer_id"].nunique()
        check.add("Lines", pluralize(len(buyers), "order"))
        if (shared := int((buyers > 1).sum())) > 0.01 * len(buyers):
            check.warnings.append(
                f"{shared:,} of {pluralize(len(buyers), 'order id')} belong to several customers: check the column for "
                "`order_id`"
            )
    for name in ("customer_id", "product_id"):
        report_ids(sample.included[name], name, getattr(columns, name), check)
    if lines["title"].str.contains("Ã[\x80-\xbf]|â€", na=False).any():
        check.warnings.append("titles have characters like 'Ã©': set `encoding: utf-8`")


def _report_event_types(sample: SourceSample, check: SourceCheck) -> None:
    """Warn if a column has event types, and lines of other events count as purchases."""
    spec, excluded = sample.source.purchases, sample.lines["excluded_by"].loc[sample.file_values.index] != ""
    for column in dict.fromkeys([*spec.include, *spec.exclude]):
        values = sample.file_values[column]
        included = values[~excluded].value_counts()
        if 0 < len(included) <= _MAX_EVENT_TYPES:
            check.add("Lines", f"{column!r} of the included lines: {_list_counts(included)}")
        wrong = [value for value in included.index if _NOT_PURCHASE.fullmatch(value)]
        if wrong and len(included) <= _MAX_EVENT_TYPES:
            right = [value for value in included.index if value not in wrong]
            check.warnings.append(
                f"column {column!r}: lines with {_list_counts(included[wrong])} count as purchases: if they are not "
                f"purchases, set `include: {to_inline_yaml({column: right or ['…']})}`"
            )
    for column in [name for name in sample.file_values.columns if name not in used_columns(sample.source)]:
        values = sample.file_values[column].value_counts().drop(list(NO_VALUE), errors="ignore")
        wrong = [value for value in values.index if _NOT_PURCHASE.fullmatch(value)]
        right = [value for value in values.index if _PURCHASE.fullmatch(value)]
        if wrong and right and len(values) <= _MAX_EVENT_TYPES:
            check.warnings.append(
                f"column {column!r} has {_list_counts(values)}, and all these lines count as purchases: set "
                f"`include: {to_inline_yaml({column: right})}`"
            )


def _list_counts(counts: pd.Series) -> str:
    shown = [f"{value!r} ({number:,})" for value, number in counts.head(6).items()]
    return ", ".join(shown) + (f" and {len(counts) - 6} more" if len(counts) > 6 else "")


def _report_order_columns(sample: SourceSample, check: SourceCheck) -> None:
    """Warn about columns that have a value only on the first line of an order."""
    spec, status = sample.source.purchases, sample.source.returns.status
    if not spec.columns.order_id:
        return
    orders = sample.file_values[spec.columns.order_id]
    named = (spec.columns.time, spec.columns.customer_id, status and status.column, *spec.include, *spec.exclude)
    for column in dict.fromkeys(name for name in named if name and name not in spec.order_columns):
        filled = sample.file_values[column].where(~sample.file_values[column].isin(NO_VALUE))
        missing = filled.isna() & filled.groupby(orders).transform("first").notna() & (orders != "")
        if missing.mean() > _ORDER_COLUMN_SHARE:
            check.warnings.append(
                f"column {column!r}: empty on {format_share(int(missing.sum()), len(missing))} of the lines, but "
                "another line of the order has a value: if it is a value of the whole order, set "
                f"`order_columns: {to_inline_yaml([column])}`"
            )


def _report_returns(sample: SourceSample, check: SourceCheck) -> None:
    returns, lines = sample.source.returns, sample.lines
    signs = [
        "a negative quantity" if returns.negative_quantity else "",
        f"an order id that begins with {returns.order_id_prefix!r}" if returns.order_id_prefix else "",
        f"{returns.status.column!r} = {' or '.join(returns.status.values)}" if returns.status else "",
    ]
    known_by = " or ".join(filter(None, signs))
    found = pluralize(int((lines["is_return"] | lines["was_returned"]).sum()), "line")
    check.add("Returns", f"{found} with {known_by}" if known_by else "none: `returns` is not set")
    if returns.status:
        check.add(
            "Returns",
            "each line with that status is the purchase itself, which was returned"
            if returns.status.line_type == "purchase"
            else "each line with that status is a separate return line; it is subtracted from the newest earlier "
            "purchases of the customer and product",
        )
        _report_status(sample, returns.status.line_type, check)
    if returns.wrong_size:
        is_return = lines["is_return"] | lines["was_returned"]
        check.add("Returns", f"{int(lines['wrong_size'].sum()):,} of them because of the size, or without a reason")
        if is_return.any() and not lines["wrong_size"].any():
            check.warnings.append(
                f"no return has a reason of size: check the values of {returns.wrong_size.column!r} in "
                "`returns.wrong_size`"
            )
    included = sample.included
    if negative := int(((included["quantity"] < 0) & ~included["is_return"]).sum()):
        check.warnings.append(
            f"cleaning would reject {pluralize(negative, 'line')} with a negative quantity: if they are returns, set "
            "`returns: {negative_quantity: true}`"
        )
    orders = included["order_id"].dropna()
    prefix = orders.str.extract(r"^([A-Za-z]+)\d")[0].dropna()
    if not returns.order_id_prefix and 0 < len(prefix) < 0.2 * len(orders) < orders.str.isdigit().sum():
        check.warnings.append(
            f"{pluralize(len(prefix), 'line')} with an order id such as {orders[prefix.index[0]]!r}, unlike most: if "
            f"these are cancellations, set `returns: {{order_id_prefix: {prefix.mode()[0]}}}`"
        )


def _report_status(sample: SourceSample, line_type: str, check: SourceCheck) -> None:
    """Warn if the status is on the purchase line and `line_type` says a separate return line, or the reverse."""
    lines, has_order = sample.lines, sample.source.purchases.columns.order_id is not None
    is_purchase = line_type == "purchase"
    marked = lines["was_returned"] if is_purchase else lines["is_return"] & ~(lines["quantity"] < 0)
    if not marked.any():
        return
    pair = [*(["order_id"] if has_order and is_purchase else []), "customer_id", "product_id"]
    others = lines[~(lines["is_return"] | lines["was_returned"]) & (lines["quantity"] > 0)]
    keys = pd.MultiIndex.from_frame(lines.loc[marked, pair])
    has_other_line = keys.isin(pd.MultiIndex.from_frame(others[pair])).mean()
    if is_purchase and has_order and has_other_line > 0.5:
        check.warnings.append(
            "most lines with that status have a second line of the same order and product without it: if the first is "
            "a separate return line, set `line_type: return` under `returns.status`"
        )
    if not is_purchase and not sample.source.is_daily and has_other_line < 0.5:
        check.warnings.append(
            "most lines with that status have no separate purchase line: if the status is on the purchase line itself, "
            "set `line_type: purchase` under `returns.status`"
        )
    twice = int(keys.isin(pd.MultiIndex.from_frame(lines.loc[lines["is_return"], pair])).sum())
    if twice and has_order and is_purchase:
        check.warnings.append(
            f"{pluralize(twice, 'line')} with that status also have a return line of the same order and product, so "
            "each return would count twice: keep only one setting under `returns`"
        )
