"""Put a sample of raw lines into plain words, and spot what looks like a mistake in its description."""

from __future__ import annotations

import datetime as dt
import re

import pandas as pd

from rec_assets.sources.explain_products import explain_ids, explain_products
from rec_assets.sources.findings import SourceCheck, as_yaml, count, share, shortened
from rec_assets.sources.reader import used_columns
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.spec import UTC_WORDS, zone_word
from rec_assets.sources.times import NO_VALUE, quoted, swapped_format

_LOOKS_LIKE = {
    "order_id": r"order|invoice|basket|receipt|transaction.?id",
    "quantity": r"quantity|qty|units|pieces",
    "unit_price": r"price",
    "amount": r"amount|total|revenue|sales.?value",
    "rating": r"rating|stars|score",
    "title": r"title|name|description|product.?type",
    "category": r"categor|department|group|family",
    "brand": r"brand|manufacturer|maker",
}
"""How columns are often called that a source may describe."""

_TELLS_RETURNS = r"status|return|refund|cancel"

_NO_PURCHASE = re.compile(
    r"(?:(?:page|item|product|screen)[ _-]?)?(?:views?|viewed|clicks?|clicked|impressions?|search(?:es|ed)?|scroll)"
    r"(?:[ _-](?:item|product|page|cart|search_results|item_list))?"
    r"|(?:add(?:ed)?[ _-]?to[ _-]?|remove(?:d)?[ _-]?from[ _-]?|view[ _-]?)?(?:cart|basket|bag|wish[ _-]?list)"
    r"|favou?rites?|begin[ _-]checkout|checkout|session[ _-]start|first[ _-]visit|log[ _-]?in|sign[ _-]?up",
    re.IGNORECASE,
)
"""Whole values of a column that says what a line tells of: no purchase."""

_A_PURCHASE = re.compile(r"purchases?|purchased|transactions?|orders?|sales?|sold|bought|buy", re.IGNORECASE)

_FEW_VALUES = 30
"""A column of so many values or fewer may say what kind of line each is."""

_ORDER_LEVEL = 0.05
"""From this share of lines on, empty where the order has a value, a column is one of orders."""


def explain_lines(sample: SourceSample, check: SourceCheck) -> None:
    """What the lines say, topic by topic."""
    _explain_times(sample, check)
    _explain_columns(sample, check)
    _explain_orders(sample, check)
    _explain_kinds(sample, check)
    _explain_order_columns(sample, check)
    _explain_returns(sample, check)
    explain_products(sample, check)


def _explain_times(sample: SourceSample, check: SourceCheck) -> None:
    source, spec = sample.source, sample.source.purchases
    is_utc = spec.times_are == "utc" or zone_word(spec.time_format) in UTC_WORDS
    meaning = "UTC" if is_utc else source.time_zone
    offset = "" if spec.time_format.startswith("unix") else f", in {meaning} where they have no offset"
    check.say("Times", f"written as {spec.time_format}{offset}; days are those of {source.time_zone}")
    times, written = sample.lines["event_time"].dropna(), sample.example(spec.columns.time)
    if times.empty or written is None:
        return
    local = times.dt.tz_convert(source.time_zone).dt.tz_localize(None)
    check.say("Times", f"{written} → {local.iloc[0]:%Y-%m-%d %H:%M} by the shop's clock")
    if (local == local.dt.floor("D")).mean() > 0.9:
        check.warnings.append(
            "nearly all times are midnight: there is no order inside a day, and what a customer buys on one "
            "day counts as bought at once"
        )
    elif (times == times.dt.floor("D")).mean() > 0.9:
        check.warnings.append(
            f"nearly all times are midnight in UTC, which is {local.iloc[0]:%H:%M} in {source.time_zone}: if "
            "they are dates, set `time_zone: UTC`"
        )
    if local.min().year < 1990 or local.max().year > dt.date.today().year + 1:
        check.warnings.append(
            f"the times reach from {local.min():%Y-%m-%d} to {local.max():%Y-%m-%d}: is `time_format` right, "
            "or are some lines wrong?"
        )
    rows = sample.written.index
    days = sample.days.loc[rows] if sample.days is not None else None
    if swapped := swapped_format(sample.written[spec.columns.time], source, days):
        check.warnings.append(
            "with day and month swapped the times lie "
            f"{'on the days of their files' if source.is_daily else 'on one stretch of days'}: set "
            f"`time_format: {quoted(swapped)}` if that is how they are written"
        )


def _explain_columns(sample: SourceSample, check: SourceCheck) -> None:
    source, columns = sample.source, sample.source.purchases.columns
    for meaning, named in columns:
        for column in named if isinstance(named, list) else [named] if named else []:
            example = sample.example(column)
            shown = "always empty" if example is None else f"for instance {shortened(example, 60)!r}"
            check.say("Columns", f"{meaning:<12} ← {column!r}, {shown}")
    unused = [name for name in sample.written.columns if name not in used_columns(source)]
    if unused:
        check.say("Columns", f"not used: {', '.join(map(repr, unused))}")
    known = {name for name, named in columns if named}
    known |= {"unit_price", "amount"} if source.has_price else set()
    known |= {"title", "category", "brand"} if source.catalog else set()
    for column in unused:
        alike = [name for name, words in _LOOKS_LIKE.items() if re.search(words, column, re.IGNORECASE)]
        if alike and alike[0] not in known:
            check.say("Columns", f"{column!r} looks useful: is it `{alike[0]}`?")
        elif re.search(_TELLS_RETURNS, column, re.IGNORECASE) and not source.returns.status:
            check.say("Columns", f"{column!r} looks useful: does it tell returns (`returns.status`)?")
    if not columns.quantity:
        check.warnings.append("no `quantity`: each line counts as one piece")
    if not source.has_price:
        check.warnings.append("no `unit_price` or `amount`: revenue is not known, and no line refused for its price")


def _explain_orders(sample: SourceSample, check: SourceCheck) -> None:
    lines, columns = sample.lines, sample.source.purchases.columns
    customers = lines["customer_id"].fillna("").str.strip()
    known = customers[customers != ""]
    check.say(
        "Lines",
        f"{len(lines):,} read, of {count(known.nunique(), 'customer')} and {count(len(sample.products), 'product')}",
        f"without customer: {share(len(lines) - len(known), len(lines))}",
    )
    if columns.order_id is None:
        check.say("Lines", "no order ids: what a customer buys on one day is one order")
    else:
        lines_of_orders = lines[lines["order_id"].fillna("").str.strip() != ""]
        buyers = lines_of_orders.groupby("order_id")["customer_id"].nunique()
        check.say("Lines", count(len(buyers), "order"))
        if (shared := int((buyers > 1).sum())) > 0.01 * len(buyers):
            check.warnings.append(
                f"{shared:,} of {count(len(buyers), 'order id')} belong to several customers: is `order_id` "
                "the right column?"
            )
    for name in ("customer_id", "product_id"):
        explain_ids(sample.counting[name], name, getattr(columns, name), check)
    if lines["title"].str.contains("Ã[\x80-\xbf]|â€", na=False).any():
        check.warnings.append("titles hold letters like 'Ã©': set `encoding: utf-8`")


def _explain_kinds(sample: SourceSample, check: SourceCheck) -> None:
    """Columns that say what a line is: a purchase, or something that must not count as one."""
    source = sample.source
    spec, excluded = source.purchases, sample.lines["excluded_by"].loc[sample.written.index] != ""
    for column in dict.fromkeys([*spec.only, *spec.exclude]):
        values = sample.written[column]
        kept = values[~excluded].value_counts()
        if 0 < len(kept) <= _FEW_VALUES:
            check.say("Lines", f"{column!r} of the lines that count: {_listed(kept)}")
        wrong = [value for value in kept.index if _NO_PURCHASE.fullmatch(value)]
        if wrong and len(kept) <= _FEW_VALUES:
            right = [value for value in kept.index if value not in wrong]
            check.warnings.append(
                f"column {column!r}: lines with {_listed(kept[wrong])} count as purchases: if they are none, name what "
                f"is: `only: {as_yaml({column: right or ['…']})}`"
            )
    for column in [name for name in sample.written.columns if name not in used_columns(source)]:
        values = sample.written[column].value_counts()
        kinds = values.drop(list(NO_VALUE), errors="ignore")
        wrong = [value for value in kinds.index if _NO_PURCHASE.fullmatch(value)]
        right = [value for value in kinds.index if _A_PURCHASE.fullmatch(value)]
        if wrong and right and len(kinds) <= _FEW_VALUES:
            check.warnings.append(
                f"column {column!r} holds {_listed(kinds)}, and each of these lines counts as a purchase: set "
                f"`only: {as_yaml({column: right})}`"
            )


def _listed(counts: pd.Series) -> str:
    shown = [f"{value!r} ({number:,})" for value, number in counts.head(6).items()]
    return ", ".join(shown) + (f" and {len(counts) - 6} more" if len(counts) > 6 else "")


def _explain_order_columns(sample: SourceSample, check: SourceCheck) -> None:
    """Columns that stand on the first line of an order only, as shops' exports write what is of the whole order."""
    spec, status = sample.source.purchases, sample.source.returns.status
    if not spec.columns.order_id:
        return
    orders = sample.written[spec.columns.order_id]
    named = (spec.columns.time, spec.columns.customer_id, status and status.column, *spec.only, *spec.exclude)
    for column in dict.fromkeys(name for name in named if name and name not in spec.order_columns):
        filled = sample.written[column].where(~sample.written[column].isin(NO_VALUE))
        missing = filled.isna() & filled.groupby(orders).transform("first").notna() & (orders != "")
        if missing.mean() > _ORDER_LEVEL:
            check.warnings.append(
                f"column {column!r}: empty on {share(int(missing.sum()), len(missing))} of the lines, all of orders "
                "that have a value on another line: if it is the whole order's, set "
                f"`order_columns: {as_yaml([column])}`"
            )


def _explain_returns(sample: SourceSample, check: SourceCheck) -> None:
    returns, lines = sample.source.returns, sample.lines
    signs = [
        "a negative quantity" if returns.negative_quantity else "",
        f"an order id that begins with {returns.order_id_prefix!r}" if returns.order_id_prefix else "",
        f"{returns.status.column!r} = {' or '.join(returns.status.values)}" if returns.status else "",
    ]
    known_by = " or ".join(filter(None, signs))
    found = count(int((lines["is_return"] | lines["was_returned"]).sum()), "line")
    check.say(
        "Returns",
        f"{found}, known by {known_by}" if known_by else "none: the source doesn't say how to know them",
    )
    if returns.status:
        check.say(
            "Returns",
            "each is the purchase itself, which came back"
            if returns.status.line_is == "purchase"
            else "each is a line of its own, taken off the newest purchases of the customer and product before it",
        )
        _explain_status(sample, returns.status.line_is, check)
    counting = sample.counting
    negative = int(((counting["quantity"] < 0) & ~counting["is_return"]).sum())
    if negative:
        check.warnings.append(
            f"{count(negative, 'line')} with a quantity below 0 would be refused: if these are returns, set "
            "`returns: {negative_quantity: true}`"
        )
    orders = counting["order_id"].dropna()
    prefix = orders.str.extract(r"^([A-Za-z]+)\d")[0].dropna()
    if not returns.order_id_prefix and 0 < len(prefix) < 0.2 * len(orders) < orders.str.isdigit().sum():
        check.warnings.append(
            f"{count(len(prefix), 'line')} with an order id such as {orders[prefix.index[0]]!r}, unlike "
            f"most: if these are cancellations, set `returns: {{order_id_prefix: {prefix.mode()[0]}}}`"
        )


def _explain_status(sample: SourceSample, line_is: str, check: SourceCheck) -> None:
    """Whether the status stands on the purchase's own line, as the source says, or on a second line beside it."""
    lines, has_order = sample.lines, sample.source.purchases.columns.order_id is not None
    marked = lines["was_returned"] if line_is == "purchase" else lines["is_return"] & ~(lines["quantity"] < 0)
    if not marked.any():
        return
    pair = [*(["order_id"] if has_order and line_is == "purchase" else []), "customer_id", "product_id"]
    others = lines[~(lines["is_return"] | lines["was_returned"]) & (lines["quantity"] > 0)]
    beside = pd.MultiIndex.from_frame(lines.loc[marked, pair]).isin(pd.MultiIndex.from_frame(others[pair]))
    if line_is == "purchase" and has_order and beside.mean() > 0.5:
        check.warnings.append(
            "most lines with that status have a second line, of the same order and product, without it: if they are "
            "returns beside their purchases, set `line_is: return` under `returns.status`"
        )
    if line_is == "return" and not sample.source.is_daily and beside.mean() < 0.5:
        check.warnings.append(
            "most lines with that status have no purchase beside them: if the status is that of the purchase itself, "
            "set `line_is: purchase` under `returns.status`"
        )
    if has_order and line_is == "purchase":
        back = lines[lines["is_return"]]
        twice = pd.MultiIndex.from_frame(lines.loc[marked, pair]).isin(pd.MultiIndex.from_frame(back[pair]))
        if twice.any():
            check.warnings.append(
                f"{count(int(twice.sum()), 'line')} with that status whose order has a return line of the product as "
                "well: each would be taken back twice, so keep one of the two under `returns`"
            )
