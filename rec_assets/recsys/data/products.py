"""The table of products: one row each, from the catalog and from the purchase log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.recsys.data.variants import with_variants
from rec_assets.recsys.events import PURCHASE, RETURN
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, collect
from rec_assets.recsys.spark.grouping import Function, aggregate
from rec_assets.recsys.spark.sums import halves, halves_of, sum_of_halves

_DESCRIBED = ("title", "category", "brand", "text")
_SHOWN = ("image", "link", "attributes", "taste", "variants", "in_stock")
_LINE = ("product_id", "variant_id", *_DESCRIBED, "event", "date", "weight", "quantity", "unit_price")


def build_products(interactions: LazyArrowRows, catalog: pd.DataFrame, disk: Path) -> pd.DataFrame:
    """Join the catalog with the purchase log. The catalog wins if both have a value.

    If purchase lines differ, the most common value is taken; ties go to the first in alphabetical order. A product
    without purchases and without `available_from` is first seen on the newest day.

    Args:
        interactions, catalog: `cleaned_interactions` of all days, with `date`, and `raw_product_catalog`.
        disk: A folder for temporary files that Spark's tasks see too.

    Returns:
        product_id, title, category, brand, text, content_hash (SHA-256 of text), price, first_seen (date), image, link,
        attributes, taste, variants (JSON; `variants.py`), in_stock, in_catalog, excluded; sorted by product_id.
    """
    counted = _count_descriptions(interactions, disk)
    catalog = with_variants(catalog, _sold_variants(counted))
    by_product = counted.groupby("product_id")
    sold = by_product[halves_of("value", "pieces", "bulk_value", "bulk_pieces")].sum(min_count=1)
    bought = pd.DataFrame({f"line_{name}": _most_common(counted, name) for name in _DESCRIBED}, index=sold.index)
    # A bulk order has a special price, which is used only if there is no other.
    bought["line_price"] = _first_of(*(_mean_price(sold, kind) for kind in ("", "bulk_")))
    bought["first_bought"] = by_product["first"].min()
    listed = catalog.set_index("product_id")[[*_DESCRIBED, "price", "available_from", *_SHOWN, "excluded"]]
    every = bought.join(listed, how="outer").sort_index()
    every["in_catalog"] = every.index.isin(listed.index)
    available = pd.to_datetime(every["available_from"])
    first_seen = pd.concat([every["first_bought"], available], axis=1).min(axis=1).fillna(counted["last"].max())
    text, unnamed = _first_of(every["text"], every["line_text"]), "product " + every.index.to_series()
    titles = [every[name] for name in ("title", "line_title", "category", "line_category")]
    return pd.DataFrame(
        {
            "title": _first_of(*titles, unnamed),
            **{name: _first_of(every[name], every[f"line_{name}"]) for name in ("category", "brand")},
            "text": text,
            "content_hash": text.map(lambda each: hashlib.sha256(each.encode()).hexdigest(), na_action="ignore"),
            "price": _first_of(every["price"], every["line_price"]).astype(float),
            "first_seen": first_seen.dt.date,
            **{name: every[name] for name in _SHOWN},
            "in_stock": every["in_stock"].ne(False),
            "in_catalog": every["in_catalog"],
            "excluded": every["excluded"].eq(True),
        }
    ).reset_index(names="product_id")


def _count_descriptions(interactions: LazyArrowRows, disk: Path) -> pd.DataFrame:
    """Lines, days and prices of each product by its distinct descriptions, of which a product has few."""

    def count(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            rows = table.filter(pc.is_in(table["event"], pa.array([PURCHASE, RETURN])))  # a click describes no product
            price, quantity = (rows[name].to_numpy().astype(float) for name in ("unit_price", "quantity"))
            is_return = pc.equal(rows["event"], RETURN).to_numpy()
            sums: dict[str, np.ndarray] = {"lines": np.ones(len(rows), np.int64), "kept": np.where(is_return, -1, 1)}
            for kind, counted in (("", rows["weight"].to_numpy() > 0), ("bulk_", True)):
                sold = np.where(counted & ~np.isnan(price), quantity, np.nan)
                sums |= halves(f"{kind}value", sold * price) | halves(f"{kind}pieces", sold)
            described = {name: rows[name] for name in ("product_id", "variant_id", *_DESCRIBED)}
            days = {"first": rows["date"], "last": rows["date"]}
            yield pa.table(described | days | {name: pa.array(each, from_pandas=True) for name, each in sums.items()})

    names = halves_of("value", "pieces", "bulk_value", "bulk_pieces")
    types = ", ".join(f"{name} string" for name in ("product_id", "variant_id", *_DESCRIBED))
    types += f", first date, last date, lines bigint, kept bigint, {', '.join(f'{name} double' for name in names)}"
    how: dict[str, Function] = {"first": "min", "last": "max", "lines": "sum", "kept": "sum"}
    counts = interactions.select(*_LINE).then(count, types)
    how |= dict.fromkeys(names, "sum")
    rows = collect(aggregate(counts, ["product_id", "variant_id", *_DESCRIBED], how, within="product_id"), disk)
    return rows.assign(first=pd.to_datetime(rows["first"]), last=pd.to_datetime(rows["last"]))


def _sold_variants(counted: pd.DataFrame) -> pd.DataFrame:
    """product_id, variant_id, kept: lines that were not returned; sorted, best sellers of a product first."""
    sold = counted.dropna(subset="variant_id").groupby(["product_id", "variant_id"])["kept"].sum().reset_index()
    return sold.sort_values(["product_id", "kept"], ascending=[True, False], kind="stable", ignore_index=True)


def _most_common(counted: pd.DataFrame, name: str) -> pd.Series:
    """product_id → the most common value of a column; products without a value are absent."""
    lines = counted.groupby(["product_id", name])["lines"].sum().reset_index()  # sorted by both
    best = lines.sort_values("lines", ascending=False, kind="stable").drop_duplicates("product_id")
    return best.set_index("product_id")[name]


def _mean_price(sums: pd.DataFrame, kind: str) -> pd.Series:
    value, pieces = (sum_of_halves(sums, f"{kind}{name}") for name in ("value", "pieces"))
    return value / pieces.where(pieces > 0)


def _first_of(*columns: pd.Series) -> pd.Series:
    """In each row, the first value that is not null."""
    return reduce(lambda known, other: known.where(known.notna(), other), columns)
