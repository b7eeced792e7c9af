"""What `check-source` says of ids, products and the catalog."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from rec_assets.sources.findings import SourceCheck, as_yaml, count, share
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.times import NO_VALUE

_NOBODY = {value.lower() for value in NO_VALUE if value} | {"guest", "unknown", "anonymous", "0", "-1"}
"""Ids that often stand for none."""

_A_SERVICE = (
    r"(?:postage|post|dotcom postage|shipping|carriage|delivery|freight|versand\w*|porto|bank charges?|fees?|"
    r"commission|discounts?|rabatt|vouchers?|gift ?cards?|gutschein|manual|adjust\w*( bad debt)?|samples?|test|deposit|"
    r"pfand|tips?|donations?|insurance|surcharge|services?|subscription)"
)
"""Whole ids and titles of what a log sells that is no product."""

_USUAL_DIGITS = 3
"""Where most ids have so many digits, one without any is of another kind."""

_WIDE_PRICES = 3.0
"""A product's dear lines (9 of 10) cost less than so many times its cheap ones (1 of 10), as a rule."""


def explain_ids(values: pd.Series, name: str, column: str, check: SourceCheck) -> None:
    """What looks odd about the ids of customers or products; lines without one are told elsewhere."""
    ids = values.dropna()
    ids = ids[ids.str.strip() != ""]
    if ids.empty:
        return
    counts = ids.value_counts()
    if nobody := [value for value in counts.index if value.strip().lower() in _NOBODY]:
        check.warnings.append(
            f"column {column!r}: {count(counts[nobody[0]], 'line')} with the {name} {nobody[0]!r}: if that "
            f"stands for none, leave them out with `exclude: {as_yaml({column: nobody})}`"
        )
    elif name == "customer_id" and len(counts) >= 100 and counts.iloc[0] > 0.1 * len(ids):
        check.warnings.append(
            f"column {column!r}: {share(counts.iloc[0], len(ids))} of the lines are of one customer, "
            f"{counts.index[0]!r}: if that stands for nobody, leave them out with `exclude`"
        )
    if ids.str.fullmatch(r"\d+\.0").mean() > 0.9:
        check.warnings.append(f"column {column!r}: ids end in '.0', such as {ids.iloc[0]!r}: write them without")


def explain_products(sample: SourceSample, check: SourceCheck) -> None:
    """What the log and the catalog say of products."""
    lines, products, catalog = sample.lines, sample.products, sample.catalog
    listed = set(catalog["product_id"])
    if listed:
        unlisted = products - listed
        check.say("Catalog", f"products of the log that are in it: {share(len(products & listed), len(products))}")
        _explain_unlisted(unlisted, listed, check)
        if len(unlisted) > 0.1 * len(products):
            check.warnings.append(f"{share(len(unlisted), len(products))} of the products are not in the catalog")
    with_text = {
        *catalog["product_id"][catalog["text"].notna()],
        *lines["product_id"][lines["text"].notna()],
    }
    check.say("Products", f"with a text to compare them by: {share(len(products & with_text), len(products))}")
    if not products & with_text:
        check.warnings.append(
            "no product has a text: those not bought yet can't be recommended; name `title` or a catalog"
        )
    texts = lines[~lines["product_id"].isin(listed)].groupby("product_id")["text"].nunique()
    if several := int((texts > 1).sum()):
        check.say("Products", f"{count(several, 'product')} with texts that differ by line: the commonest is taken")
    _explain_services(sample, check)


def _explain_unlisted(unlisted: set[str], listed: set[str], check: SourceCheck) -> None:
    """Spot ids that the catalog writes a little differently."""
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
                f"{count(len(pairs), 'product id')} of the log and the catalog differ by {difference}, "
                f"such as {pairs[0][0]!r} and {pairs[0][1]!r}: write them alike, for these are two products"
            )


def _explain_services(sample: SourceSample, check: SourceCheck) -> None:
    """Codes that are no products: postage, fees, vouchers. Popular as they are, they would be recommended."""
    lines = sample.counting[~sample.counting["is_return"]]
    lines = lines[lines["product_id"].fillna("").str.strip() != ""]
    by_product = lines.groupby("product_id")
    found = pd.DataFrame(
        {
            "lines": by_product.size(),
            "buyers": by_product["customer_id"].nunique(),
            "title": by_product["title"].first().fillna(""),
            "cheap": by_product["unit_price"].quantile(0.1),
            "dear": by_product["unit_price"].quantile(0.9),
        }
    )
    ids = found.index.to_series().str.strip()
    digits = ids.str.count(r"\d")
    named = ids.str.fullmatch(_A_SERVICE, case=False) | found["title"].str.strip().str.fullmatch(_A_SERVICE, case=False)
    strange = (digits == 0) & (digits.median() >= _USUAL_DIGITS)
    odd_prices = strange & (found["buyers"] > 1) & (found["dear"] > _WIDE_PRICES * found["cheap"])
    services = found[named | odd_prices].sort_values("lines", ascending=False).head(10)
    if len(services):
        shown = ", ".join(
            f"{product!r}" + f" ({row['title']})" * bool(row["title"]) for product, row in services.iterrows()
        )
        column = sample.source.purchases.columns.product_id
        check.warnings.append(
            f"{shown}: bought in {share(int(services['lines'].sum()), len(lines))} of the lines, and by the look of it "
            f"no product{'' if len(services) == 1 else 's'}: leave out what shouldn't be recommended with "
            f"`exclude: {as_yaml({column: list(services.index)})}`"
        )
