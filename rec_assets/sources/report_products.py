"""What `check-source` reports about ids, products and the catalog."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from rec_assets.sources.check_result import SourceCheck, format_share, pluralize, to_inline_yaml
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.times import NO_VALUE

_PLACEHOLDERS = {value.lower() for value in NO_VALUE if value} | {"guest", "unknown", "anonymous", "0", "-1"}
"""Ids that shops often write for "no customer" or "no product"."""

_NON_PRODUCT = (
    r"(?:postage|post|dotcom postage|shipping|carriage|delivery|freight|versand\w*|porto|bank charges?|fees?|"
    r"commission|discounts?|rabatt|vouchers?|gift ?cards?|gutschein|manual|adjust\w*( bad debt)?|samples?|test|deposit|"
    r"pfand|tips?|donations?|insurance|surcharge|services?|subscription)"
)
"""Ids and titles of lines that are not products."""

_MIN_ID_DIGITS = 3
"""If most product ids have this many digits, an id without digits is unusual."""

_WIDE_PRICE_RATIO = 3.0
"""The 90th percentile of a product's prices is normally less than this many times the 10th."""


def report_ids(values: pd.Series, name: str, column: str, check: SourceCheck) -> None:
    """Warn about unusual customer or product ids; missing ids are reported elsewhere."""
    ids = values.dropna()
    ids = ids[ids.str.strip() != ""]
    if ids.empty:
        return
    counts = ids.value_counts()
    if placeholders := [value for value in counts.index if value.strip().lower() in _PLACEHOLDERS]:
        check.warnings.append(
            f"column {column!r}: {pluralize(counts[placeholders[0]], 'line')} with the {name} {placeholders[0]!r}: if "
            f'that means "no id", set `exclude: {to_inline_yaml({column: placeholders})}`'
        )
    elif name == "customer_id" and len(counts) >= 100 and counts.iloc[0] > 0.1 * len(ids):
        check.warnings.append(
            f"column {column!r}: {format_share(counts.iloc[0], len(ids))} of the lines are of one customer, "
            f'{counts.index[0]!r}: if that means "no customer", add it to `exclude`'
        )
    if ids.str.fullmatch(r"\d+\.0").mean() > 0.9:
        check.warnings.append(f"column {column!r}: ids end in '.0', such as {ids.iloc[0]!r}: remove the '.0'")


def report_products(sample: SourceSample, check: SourceCheck) -> None:
    """Report on the products of the log and the catalog."""
    lines, products, catalog = sample.lines, sample.products, sample.catalog
    listed = set(catalog["product_id"])
    if listed:
        unlisted, share = products - listed, format_share(len(products & listed), len(products))
        check.add("Catalog", f"products of the log in the catalog: {share}")
        _report_unlisted(unlisted, listed, check)
        if len(unlisted) > 0.1 * len(products):
            missing = format_share(len(unlisted), len(products))
            check.warnings.append(f"{missing} of the products are not in the catalog")
    with_text = {*catalog["product_id"][catalog["text"].notna()], *lines["product_id"][lines["text"].notna()]}
    check.add("Products", f"with text (for text similarity): {format_share(len(products & with_text), len(products))}")
    if not products & with_text:
        check.warnings.append(
            "no product has text, so products without purchases can't be recommended: set `title`, or add a catalog"
        )
    texts = lines[~lines["product_id"].isin(listed)].groupby("product_id")["text"].nunique()
    if several := int((texts > 1).sum()):
        check.add("Products", f"{pluralize(several, 'product')} with different texts: the most common text is used")
    _report_non_products(sample, check)


def _report_unlisted(unlisted: set[str], listed: set[str], check: SourceCheck) -> None:
    """Warn about ids that the log and the catalog write in slightly different ways."""
    differences: dict[str, Callable[[str], str]] = {
        "spaces around them": str.strip,
        "leading zeros": lambda product: product.lstrip("0"),
        "a '.0' at the end": lambda product: product.removesuffix(".0"),
        "capital letters": str.lower,
    }
    for difference, normalize in differences.items():
        by_form = {normalize(product): product for product in sorted(listed)}
        forms = {product: normalize(product) for product in sorted(unlisted)}
        if pairs := [(product, by_form[form]) for product, form in forms.items() if form in by_form]:
            check.warnings.append(
                f"{pluralize(len(pairs), 'product id')} of the log and the catalog differ only by {difference}, such "
                f"as {pairs[0][0]!r} and {pairs[0][1]!r}: they count as different products, so write them the same way"
            )


def _report_non_products(sample: SourceSample, check: SourceCheck) -> None:
    """Warn about ids that are not products, such as postage or fees. They are popular, so lists would have them."""
    lines = sample.included[~sample.included["is_return"]]
    lines = lines[lines["product_id"].fillna("").str.strip() != ""]
    by_product = lines.groupby("product_id")
    products = pd.DataFrame(
        {
            "lines": by_product.size(),
            "buyers": by_product["customer_id"].nunique(),
            "title": by_product["title"].first().fillna(""),
            "low_price": by_product["unit_price"].quantile(0.1),
            "high_price": by_product["unit_price"].quantile(0.9),
        }
    )
    ids, titles = products.index.to_series().str.strip(), products["title"].str.strip()
    digits = ids.str.count(r"\d")
    has_known_name = ids.str.fullmatch(_NON_PRODUCT, case=False) | titles.str.fullmatch(_NON_PRODUCT, case=False)
    has_unusual_id = (digits == 0) & (digits.median() >= _MIN_ID_DIGITS)
    has_wide_prices = (products["buyers"] > 1) & (products["high_price"] > _WIDE_PRICE_RATIO * products["low_price"])
    found = products[has_known_name | (has_unusual_id & has_wide_prices)]
    found = found.sort_values("lines", ascending=False).head(10)
    if len(found):
        shown = ", ".join(f"{product!r}" + f" ({title})" * bool(title) for product, title in found["title"].items())
        column = sample.source.purchases.columns.product_id
        check.warnings.append(
            f"{shown}: {format_share(int(found['lines'].sum()), len(lines))} of the lines, probably not "
            f"{'a product' if len(found) == 1 else 'products'}: if so, set "
            f"`exclude: {to_inline_yaml({column: list(found.index)})}`"
        )
