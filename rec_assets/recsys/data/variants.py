"""Variants of a product, such as its sizes and colors: how the catalog describes them, and which one a customer sees.

Models learn about products. A variant is chosen when a list is shown, because it depends on what is in stock. The table
of products has the variants of each product as JSON: a list of objects, best sellers first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask
from rec_assets.recsys.data.attributes import SIZE, Attributes

Sizes = Mapping[tuple[int, int], int]
"""(category, number of the size) → lines that a customer kept, less those returned."""

_SHOWN = ("image", "link")


@dataclass(frozen=True, eq=False)
class Variants:
    """V variants of P products, sorted by product; best sellers of a product first.

    Attributes:
        ids: (V,) ids as the shop writes them.
        product: (V,) position of the product.
        starts: (P + 1,) first variant of each product, and V.
        price: (V,) NaN if unknown: the product's price applies.
        images, links: (V,) "" if unknown.
        in_stock: (V,).
        attributes: Of the variants alone; not those of the product.
    """

    ids: npt.NDArray[np.object_]
    product: Longs
    starts: Longs
    price: Floats
    images: npt.NDArray[np.object_]
    links: npt.NDArray[np.object_]
    in_stock: Mask
    attributes: Attributes

    @classmethod
    def from_json(cls, texts: Iterable[str]) -> Variants:
        """From the variants of each product; "" for none."""
        of_product = [json.loads(text) if text else [] for text in texts]
        rows = [each for found in of_product for each in found]
        counts = np.fromiter(map(len, of_product), np.int64, len(of_product))
        images, links = (np.array([row.get(name) or "" for row in rows], object) for name in _SHOWN)
        return cls(
            ids=np.array([row["id"] for row in rows], object),
            product=np.repeat(np.arange(len(of_product)), counts),
            starts=np.append(0, np.cumsum(counts)),
            price=np.array([row.get("price", math.nan) for row in rows], np.float32),
            images=images,
            links=links,
            in_stock=np.array([row.get("in_stock", True) for row in rows], bool),
            attributes=Attributes([row.get("attributes", {}) for row in rows]),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Id → position."""
        return {variant: position for position, variant in enumerate(self.ids)}

    @cached_property
    def size(self) -> Ints:
        """(V,) number of the size; −1 without a size."""
        return self.attributes.groups(SIZE)

    @cached_property
    def has_variants(self) -> Mask:
        """(P,) whether each product has variants."""
        return np.diff(self.starts) > 0

    def products_with(self, chosen: Mask) -> Mask:
        """(P,) products of which at least one variant is `chosen`, (V,)."""
        mask = np.full(len(self.starts) - 1, False)
        mask[self.product[chosen]] = True
        return mask

    def sizes_bought(self, categories: Ints, lines: Iterable[tuple[int, float]]) -> Sizes:
        """The sizes of one customer.

        Args:
            categories: (P,) category of each product.
            lines: Position of the variant (−1 for none) and weight of each line of the customer's history: 1 for a
                purchase, −1 for a return because of the size.
        """
        sizes: dict[tuple[int, int], int] = {}
        for variant, weight in lines:
            if variant >= 0 and abs(weight) >= 1 and self.size[variant] >= 0:
                key = int(categories[self.product[variant]]), int(self.size[variant])
                sizes[key] = sizes.get(key, 0) + (1 if weight > 0 else -1)
        return sizes

    def choose(self, product: int, category: int, available: Mask, sizes: Sizes) -> int:
        """The variant to show; −1 without one.

        Of those `available`, (V,), it is the one in the size that the customer kept most often in the category; then
        the best seller.
        """
        first, end = int(self.starts[product]), int(self.starts[product + 1])
        shown = [variant for variant in range(first, end) if available[variant]]
        if not shown:
            return -1
        return max(shown, key=lambda variant: (max(sizes.get((category, int(self.size[variant])), 0), 0), -variant))


def variants_and_excluded(
    catalog: pd.DataFrame, known: pd.DataFrame | None, *, has_variants: bool, has_exclusions: bool
) -> pd.DataFrame:
    """The variants and the excluded products of a catalog, with those that it no longer lists.

    Args:
        catalog: product_id, variant_of, excluded, and other columns.
        known: Result for the catalog before; None for none.
        has_variants, has_exclusions: Whether the data source describes variants and excludes products, so that those
            that are no longer listed stay.

    Returns:
        product_id, variant_of, excluded; sorted.
    """
    ids = catalog[["product_id", "variant_of", "excluded"]]
    needed = ids[ids["excluded"].astype(bool) | ids["variant_of"].notna()]
    if known is not None:
        listed = pd.concat([ids["product_id"], ids["variant_of"]])  # also products without a row of their own
        stays = (known["variant_of"].notna() & has_variants) | (known["excluded"] & has_exclusions)
        gone = known[stays & ~known["product_id"].isin(listed)]
        # Their product may be a variant of another one by now.
        moved = gone["variant_of"].map(needed.set_index("product_id")["variant_of"])
        needed = pd.concat([needed, gone.assign(variant_of=moved.fillna(gone["variant_of"]))])
    return needed.sort_values("product_id", ignore_index=True)


def with_variants(catalog: pd.DataFrame, sold: pd.DataFrame) -> pd.DataFrame:
    """The catalog with one row for each product, and its variants in a column.

    What the row of a product lacks, the best selling variant fills. A product without a row gets one.

    Args:
        catalog: `raw_product_catalog`.
        sold: product_id, variant_id, kept: lines of the log by variant, best sellers of a product first.

    Returns:
        The columns of the catalog with `variants`, without `variant_of`.
    """
    is_variant = catalog["variant_of"].notna()
    products = catalog[~is_variant].set_index("product_id")
    if not is_variant.any() and sold.empty:
        return products.reset_index().assign(variants=None).drop(columns="variant_of")
    rows = catalog[is_variant].rename(columns={"product_id": "variant_id", "variant_of": "product_id"})
    rows = sold.merge(rows.assign(is_listed=True), "outer", ["product_id", "variant_id"])
    rows["kept"], rows["is_listed"] = rows["kept"].fillna(0), rows["is_listed"].eq(True)
    # A variant that moved to another product, or that the log has for two, belongs to one: the catalog's comes first.
    rows = rows.sort_values(["is_listed", "kept", "product_id"], ascending=[False, False, True], kind="stable")
    rows = rows.drop_duplicates("variant_id")
    rows = rows.sort_values(["product_id", "kept", "variant_id"], ascending=[True, False, True], ignore_index=True)
    rows["excluded"] = rows["excluded"].eq(True)
    # If the catalog lists variants of a product, it no longer sells the others.
    is_sold = rows["is_listed"] | ~rows.groupby("product_id")["is_listed"].transform("any")
    rows["in_stock"] = rows["in_stock"].ne(False) & is_sold
    by_product = rows.drop(columns=["variant_id", "kept", "is_listed"]).groupby("product_id")
    described = by_product.first()  # the first that is not null
    dates = rows.loc[rows["is_listed"] & ~rows["excluded"], ["product_id", "available_from"]]
    earliest = dates.dropna().groupby("product_id")["available_from"].min()
    described["available_from"] = earliest.drop(
        dates.loc[dates["available_from"].isna(), "product_id"], errors="ignore"
    )
    every = products.drop(columns="variant_of").combine_first(described).assign(variants=None)
    has_row = pd.Series(every.index.isin(products.index), every.index)
    shown: dict[str, list[dict[Any, Any]]] = {product: [] for product in rows["product_id"].unique()}
    for row in rows[~rows["excluded"]].to_dict("records"):
        shown[row["product_id"]].append(row)
    for product, variants in shown.items():
        own = [products.loc[product].to_dict()] if has_row[product] else []
        every.at[product, "attributes"] = _merge_objects([each["attributes"] for each in own + variants])
        every.at[product, "taste"] = _merge_lists([each["taste"] for each in own + variants])
        every.at[product, "in_stock"] = any(each["in_stock"] for each in variants)
        every.at[product, "excluded"] = not variants or any(each["excluded"] for each in own)
        every.at[product, "variants"] = json.dumps([_describe(each) for each in variants], ensure_ascii=False)
    return every.reset_index(names="product_id")


def _describe(row: Mapping[str, Any]) -> dict[str, Any]:
    """A variant as an object of the JSON."""
    variant: dict[str, Any] = {"id": row["variant_id"]}
    variant |= {name: row[name] for name in ("price", *_SHOWN) if pd.notna(row[name])}
    if not row["in_stock"]:
        variant["in_stock"] = False
    if isinstance(row["attributes"], str):
        variant["attributes"] = json.loads(row["attributes"])
    return variant


def _merge_objects(texts: Iterable[Any]) -> str | None:
    """Attributes of a product from those of its row and of its variants: all texts; of other types, the first value."""
    merged: dict[str, Any] = {}
    for text in texts:
        for name, value in json.loads(text).items() if isinstance(text, str) else ():
            known = merged.setdefault(name, value)
            if value != known and isinstance(value, str | list) and isinstance(known, str | list):
                several = [each if isinstance(each, list) else [each] for each in (known, value)]
                merged[name] = list(dict.fromkeys(several[0] + several[1]))
    return json.dumps(dict(sorted(merged.items())), ensure_ascii=False) if merged else None


def _merge_lists(texts: Iterable[Any]) -> str | None:
    merged = dict.fromkeys(value for text in texts if isinstance(text, str) for value in json.loads(text))
    return json.dumps([*merged], ensure_ascii=False) if merged else None
