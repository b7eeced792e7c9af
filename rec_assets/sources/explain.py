"""Put a sample of raw lines into plain words, and spot what looks like a mistake in its description."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rec_assets.recsys.cleaning import RULES, CleaningRules, clean_day
from rec_assets.sources.findings import SourceCheck, count, share, shortened
from rec_assets.sources.reader import used_columns
from rec_assets.sources.spec import Source
from rec_assets.sources.values import NO_VALUE

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

_NOBODY = {value.lower() for value in NO_VALUE if value} | {"guest", "unknown", "anonymous", "0", "-1"}
"""Ids that often stand for none."""


@dataclass(frozen=True)
class Sample:
    """What was read of a source: raw lines by day, and its catalogue."""

    source: Source
    by_day: dict[dt.date, pd.DataFrame]
    catalogue: pd.DataFrame

    @cached_property
    def lines(self) -> pd.DataFrame:
        """Lines of all days."""
        return pd.concat(self.by_day.values(), ignore_index=True)

    @cached_property
    def products(self) -> set[str]:
        """Products of the lines."""
        return set(self.lines["product_id"].dropna()) - {""}

    def written(self, column: str) -> str | None:
        """The first value of a column, as it is written in the file."""
        for line in self.lines["line"].head(1000):
            value = json.loads(line).get(column)
            if value is not None and value.strip() not in NO_VALUE:
                return str(value)
        return None


def explain_lines(sample: Sample, check: SourceCheck) -> None:
    """What the lines say, topic by topic."""
    _explain_times(sample, check)
    _explain_columns(sample, check)
    _explain_orders(sample, check)
    _explain_returns(sample, check)
    _explain_products(sample, check)


def _explain_times(sample: Sample, check: SourceCheck) -> None:
    source, spec = sample.source, sample.source.purchases
    meaning = "UTC" if spec.times_are == "utc" else source.time_zone
    offset = "" if spec.time_format.startswith("unix") else f", in {meaning} where they have no offset"
    check.say("Times", f"written as {spec.time_format}{offset}; days are those of {source.time_zone}")
    times, written = sample.lines["event_time"].dropna(), sample.written(spec.columns.time)
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


def _explain_columns(sample: Sample, check: SourceCheck) -> None:
    source, columns = sample.source, sample.source.purchases.columns
    for meaning, named in columns:
        for column in named if isinstance(named, list) else [named] if named else []:
            example = sample.written(column)
            shown = "always empty" if example is None else f"for instance {shortened(example, 60)!r}"
            check.say("Columns", f"{meaning:<12} ← {column!r}, {shown}")
    unused = [name for name in json.loads(sample.lines["line"].iloc[0]) if name not in used_columns(source)]
    if unused:
        check.say("Columns", f"not used: {', '.join(map(repr, unused))}")
    known = {name for name, named in columns if named}
    known |= {"unit_price", "amount"} if source.has_price else set()
    known |= {"title", "category", "brand"} if source.catalogue else set()
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


def _explain_orders(sample: Sample, check: SourceCheck) -> None:
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
        _explain_ids(lines[name].dropna(), name, getattr(columns, name), check)
    if lines["title"].str.contains("Ã[\x80-\xbf]|â€", na=False).any():
        check.warnings.append("titles hold letters like 'Ã©': set `encoding: utf-8`")


def _explain_ids(ids: pd.Series, name: str, column: str, check: SourceCheck) -> None:
    counts = ids.value_counts()
    if nobody := [value for value in counts.index if value.strip().lower() in _NOBODY]:
        check.warnings.append(
            f"column {column!r}: {count(counts[nobody[0]], 'line')} with the {name} {nobody[0]!r}: if that "
            f"stands for none, leave them out with `exclude: {{{column}: [{nobody[0]!r}]}}`"
        )
    elif name == "customer_id" and len(counts) >= 100 and counts.iloc[0] > 0.1 * len(ids):
        check.warnings.append(
            f"column {column!r}: {share(counts.iloc[0], len(ids))} of the lines are of one customer, "
            f"{counts.index[0]!r}: if that stands for nobody, leave them out with `exclude`"
        )
    if ids.str.fullmatch(r"\d+\.0").mean() > 0.9:
        check.warnings.append(f"column {column!r}: ids end in '.0', such as {ids.iloc[0]!r}: write them without")


def _explain_returns(sample: Sample, check: SourceCheck) -> None:
    returns, lines = sample.source.returns, sample.lines
    signs = [
        "a negative quantity" if returns.negative_quantity else "",
        f"an order id that begins with {returns.order_id_prefix!r}" if returns.order_id_prefix else "",
        f"{returns.status.column!r} = {' or '.join(returns.status.values)}" if returns.status else "",
    ]
    known_by = " or ".join(filter(None, signs))
    found = count(int(lines["is_return"].sum()), "line")
    check.say(
        "Returns",
        f"{found}, known by {known_by}" if known_by else "none: the source doesn't say how to know them",
    )
    negative = int(((lines["quantity"] < 0) & ~lines["is_return"]).sum())
    if negative:
        check.warnings.append(
            f"{count(negative, 'line')} with a quantity below 0 would be refused: if these are returns, set "
            "`returns: {negative_quantity: true}`"
        )
    orders = lines["order_id"].dropna()
    prefix = orders.str.extract(r"^([A-Za-z]+)\d")[0].dropna()
    if not returns.order_id_prefix and 0 < len(prefix) < 0.2 * len(orders) < orders.str.isdigit().sum():
        check.warnings.append(
            f"{count(len(prefix), 'line')} with an order id such as {orders[prefix.index[0]]!r}, unlike "
            f"most: if these are cancellations, set `returns: {{order_id_prefix: {prefix.mode()[0]}}}`"
        )


def _explain_products(sample: Sample, check: SourceCheck) -> None:
    lines, products, catalogue = sample.lines, sample.products, sample.catalogue
    listed = set(catalogue["product_id"])
    if listed:
        unlisted = products - listed
        check.say("Catalogue", f"products of the log that are in it: {share(len(products & listed), len(products))}")
        _explain_unlisted(unlisted, listed, check)
        if len(unlisted) > 0.1 * len(products):
            check.warnings.append(f"{share(len(unlisted), len(products))} of the products are not in the catalogue")
    with_text = {
        *catalogue["product_id"][catalogue["text"].notna()],
        *lines["product_id"][lines["text"].notna()],
    }
    check.say("Products", f"with a text to compare them by: {share(len(products & with_text), len(products))}")
    if not products & with_text:
        check.warnings.append(
            "no product has a text: those not bought yet can't be recommended; name `title` or a catalogue"
        )
    texts = lines[~lines["product_id"].isin(listed)].groupby("product_id")["text"].nunique()
    if several := int((texts > 1).sum()):
        check.say("Products", f"{count(several, 'product')} with texts that differ by line: the commonest is taken")


def _explain_unlisted(unlisted: set[str], listed: set[str], check: SourceCheck) -> None:
    """Spot ids that the catalogue writes a little differently."""
    differences: dict[str, Callable[[str], str]] = {
        "blanks around them": str.strip,
        "leading zeros": lambda product: product.lstrip("0"),
        "a '.0' at the end": lambda product: product.removesuffix(".0"),
        "capital letters": str.lower,
    }
    for difference, alike in differences.items():
        by_form = {alike(product): product for product in sorted(listed)}
        pairs = [(product, by_form[alike(product)]) for product in sorted(unlisted) if alike(product) in by_form]
        if pairs:
            check.warnings.append(
                f"{count(len(pairs), 'product id')} of the log and the catalogue differ by {difference}, "
                f"such as {pairs[0][0]!r} and {pairs[0][1]!r}: write them alike, for these are two products"
            )


def explain_cleaning(sample: Sample, days: Sequence[dt.date], check: SourceCheck) -> None:
    """What cleaning would refuse of these days, with an example for each rule."""
    source, catalogue = sample.source, sample.catalogue
    excluded = frozenset(catalogue["product_id"][catalogue["excluded"].astype(bool)])
    rules = CleaningRules(source.time_zone, source.has_price, excluded)
    by_rule, examples = Counter[str](), dict[str, str]()
    refused = total = cut_by_utc = 0
    for day in days:
        lines = sample.by_day[day]
        result = clean_day(lines, day, rules)
        by_rule.update(result.refused_by_rule())
        total += len(lines)
        refused += len(result.rejected)
        cut_by_utc += int((lines["event_time"].dt.tz_localize(None).dt.floor("D") == pd.Timestamp(day)).sum())
        columns = (result.rejected[name] for name in ("reasons", "source_file", "source_row", "line"))
        for reasons, file, row, line in zip(*columns, strict=True):
            for rule in reasons.split(","):
                examples.setdefault(rule, f"{file}, row {row}: {shortened(line, 200)}")
    check.say("Cleaning", f"would refuse {share(refused, total)} of {count(total, 'line')}")
    for rule, reason in RULES.items():
        if by_rule[rule]:
            check.say("Cleaning", f"{rule}: {count(by_rule[rule], 'line')}; {reason}", f"    {examples[rule]}")
    if by_rule["outside_day"] > 0.02 * total:
        hint = "are `time_zone` and `times_are` right?"
        if cut_by_utc == total:
            hint = "files hold days of UTC: set `time_zone: UTC`, or land files by the shop's clock"
        check.warnings.append(f"{share(by_rule['outside_day'], total)} of the lines are of another day: {hint}")
    if by_rule["unparseable_time"] > 0.01 * total:
        check.warnings.append(
            f"{share(by_rule['unparseable_time'], total)} of the times can't be read: is `time_format` right?"
        )
    if by_rule["duplicate_line"] > 0.05 * total:
        check.warnings.append(
            f"{share(by_rule['duplicate_line'], total)} of the lines are duplicates: did files land twice, "
            "or is each line one piece? Then a column that numbers the lines tells them apart"
        )
