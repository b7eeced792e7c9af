"""Variants of products: their rows in the catalog, and which one is shown."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.data.variants import Variants, variants_and_excluded, with_variants

SHIRT = [
    {"id": "shirt-M", "attributes": {"size": "M"}},
    {"id": "shirt-L", "attributes": {"size": "L"}, "price": 21.0, "image": "/l.jpg"},
    {"id": "shirt-S", "attributes": {"size": "S"}, "in_stock": False},
]
VARIANTS = Variants.from_json([json.dumps(SHIRT), "", json.dumps([{"id": "bag-red"}, {"id": "bag-blue"}])])
CATEGORIES = np.array([0, 0, 1], np.int32)
SIZE = {variant: int(VARIANTS.size[place]) for place, variant in enumerate(VARIANTS.ids)}


def chosen(product: int, sizes: dict[tuple[int, int], int] | None = None, **unavailable: bool) -> str:
    available = VARIANTS.in_stock.copy()
    for name in unavailable:
        available[VARIANTS.positions[name.replace("_", "-")]] = False
    place = VARIANTS.choose(product, int(CATEGORIES[product]), available, sizes or {})
    return "" if place < 0 else str(VARIANTS.ids[place])


def test_variants_are_arrays_by_product() -> None:
    assert VARIANTS.product.tolist() == [0, 0, 0, 2, 2] and VARIANTS.has_variants.tolist() == [True, False, True]
    np.testing.assert_array_equal(VARIANTS.price[:2], [np.nan, 21])
    assert VARIANTS.images.tolist() == ["", "/l.jpg", "", "", ""]
    assert VARIANTS.products_with(VARIANTS.in_stock).tolist() == [True, False, True]


def test_the_best_seller_is_shown_without_a_known_size() -> None:
    assert chosen(0) == "shirt-M" and chosen(2) == "bag-red" and chosen(1) == ""


def test_the_size_of_the_customer_in_the_category_comes_first() -> None:
    assert chosen(0, {(0, SIZE["shirt-L"]): 2, (0, SIZE["shirt-M"]): 1}) == "shirt-L"
    assert chosen(0, {(1, SIZE["shirt-L"]): 2}) == "shirt-M"  # of another category
    assert chosen(0, {(0, SIZE["shirt-S"]): 9}) == "shirt-M"  # out of stock
    assert chosen(0, {(0, SIZE["shirt-M"]): -1}) == "shirt-M"
    assert chosen(0, {(0, SIZE["shirt-L"]): 1}, shirt_L=True) == "shirt-M"
    assert chosen(2, bag_red=True, bag_blue=True) == ""


def test_a_returned_size_counts_against_a_kept_one() -> None:
    medium, large = VARIANTS.positions["shirt-M"], VARIANTS.positions["shirt-L"]
    lines = [(medium, 1.0), (medium, -1.0), (large, 1.0), (large, 0.3), (-1, 1.0), (VARIANTS.positions["bag-red"], 1.0)]
    assert VARIANTS.sizes_bought(CATEGORIES, lines) == {(0, SIZE["shirt-M"]): 0, (0, SIZE["shirt-L"]): 1}


COLUMNS = ("title", "category", "brand", "text", "price", "available_from", "image", "link", "attributes", "taste")


def catalog(*rows: dict[str, Any]) -> pd.DataFrame:
    nothing = {**dict.fromkeys(COLUMNS), "variant_of": None, "in_stock": True, "excluded": False}
    return pd.DataFrame([{**nothing, **row} for row in rows])


def sold(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["product_id", "variant_id", "kept"]).astype({"kept": int})


def test_a_product_has_one_row_with_its_variants_best_sellers_first() -> None:
    rows = catalog(
        {"product_id": "shirt", "title": "Shirt", "price": 20.0, "attributes": '{"look": "casual"}'},
        {"product_id": "M", "variant_of": "shirt", "image": "/m.jpg", "attributes": '{"color": "red", "size": "M"}'},
        {"product_id": "L", "variant_of": "shirt", "image": "/l.jpg", "attributes": '{"color": "blue", "size": "L"}'},
        {"product_id": "tea", "title": "Tea"},
    )
    found = with_variants(rows, sold(("shirt", "L", 5), ("shirt", "M", 2))).set_index("product_id")
    assert [*found.index] == ["shirt", "tea"] and "variant_of" not in found
    shirt = found.loc["shirt"]
    assert [each["id"] for each in json.loads(shirt["variants"])] == ["L", "M"]
    assert shirt["title"] == "Shirt" and shirt["image"] == "/l.jpg" and shirt["price"] == 20
    assert json.loads(shirt["attributes"]) == {"look": "casual", "color": ["blue", "red"], "size": ["L", "M"]}
    assert found.loc["tea", "variants"] is None


def test_a_variant_that_the_catalog_no_longer_lists_stays_with_its_product() -> None:
    before = catalog(
        {"product_id": "M", "variant_of": "shirt"}, {"product_id": "L", "variant_of": "shirt"},
        {"product_id": "gift", "excluded": True}, {"product_id": "tea"},
    )  # fmt: skip
    both = {"has_variants": True, "has_exclusions": True}
    known = variants_and_excluded(before, None, **both)
    assert known["product_id"].tolist() == ["L", "M", "gift"]
    assert variants_and_excluded(before[before["product_id"] != "L"].assign(price=9.0), known, **both).equals(known)
    free = catalog({"product_id": "M"}, {"product_id": "gift"}, {"product_id": "shirt", "variant_of": "tops"})
    after = variants_and_excluded(free, known, **both).set_index("product_id")
    assert after["variant_of"].to_dict() == {"L": "tops", "shirt": "tops"}
    turned = catalog({"product_id": "shirt", "variant_of": "L"})
    after = variants_and_excluded(turned, known, **both).set_index("product_id")
    assert after["variant_of"].dropna().to_dict() == {"M": "L", "shirt": "L"}


@pytest.mark.parametrize(
    ("has_variants", "has_exclusions", "stay"),
    [(True, False, ["L", "M"]), (False, True, ["gift"]), (False, False, [])],
)
def test_what_the_data_source_no_longer_describes_does_not_stay(
    has_variants: bool, has_exclusions: bool, stay: list[str]
) -> None:
    known = pd.DataFrame({"product_id": ["L", "M", "gift"], "variant_of": ["shirt", "shirt", None]})
    known["excluded"] = [False, False, True]
    tea = catalog({"product_id": "tea"})
    found = variants_and_excluded(tea, known, has_variants=has_variants, has_exclusions=has_exclusions)
    assert found["product_id"].tolist() == stay


def test_a_product_without_a_row_is_described_by_its_best_seller() -> None:
    rows = catalog(
        {"product_id": "M", "variant_of": "shirt", "title": "Shirt M", "price": 20.0},
        {"product_id": "L", "variant_of": "shirt", "title": "Shirt L", "price": 21.0},
    )
    (shirt,) = with_variants(rows, sold(("shirt", "L", 1))).to_dict("records")
    assert (shirt["product_id"], shirt["title"], shirt["price"]) == ("shirt", "Shirt L", 21)


@pytest.mark.parametrize(
    ("medium", "large", "expected"),
    [(date(2024, 5, 1), date(2024, 3, 1), date(2024, 3, 1)), (date(2024, 5, 1), None, None), (None, None, None)],
)
def test_a_product_without_a_row_is_available_from_the_earliest_date(
    medium: date | None, large: date | None, expected: date | None
) -> None:
    rows = catalog(
        {"product_id": "M", "variant_of": "shirt", "available_from": medium},
        {"product_id": "L", "variant_of": "shirt", "available_from": large},
        {"product_id": "sample", "variant_of": "shirt", "excluded": True},
    )
    (shirt,) = with_variants(rows, sold(("shirt", "M", 1), ("shirt", "old", 3))).to_dict("records")
    assert (shirt["available_from"] == expected) if expected else pd.isna(shirt["available_from"])


@pytest.mark.parametrize(
    ("medium", "large", "expected"),
    [
        ({}, {"in_stock": False}, {"in_stock": True, "excluded": False}),
        ({"in_stock": False}, {"in_stock": False}, {"in_stock": False, "excluded": False}),
        ({"excluded": True}, {"in_stock": False}, {"in_stock": False, "excluded": False}),
        ({"excluded": True}, {"excluded": True}, {"in_stock": False, "excluded": True}),
    ],
)
def test_a_product_is_in_stock_if_one_of_its_variants_is(
    medium: dict[str, bool], large: dict[str, bool], expected: dict[str, bool]
) -> None:
    rows = catalog(
        {"product_id": "shirt"}, {"product_id": "M", "variant_of": "shirt", **medium},
        {"product_id": "L", "variant_of": "shirt", **large},
    )  # fmt: skip
    (shirt,) = with_variants(rows, sold()).to_dict("records")
    assert {name: shirt[name] for name in expected} == expected


def test_variants_that_only_the_log_has_are_there_too() -> None:
    (shirt,) = with_variants(catalog({"product_id": "shirt"}), sold(("shirt", "M", 1))).to_dict("records")
    assert json.loads(shirt["variants"]) == [{"id": "M"}]
    (new,) = with_variants(catalog({"product_id": "x"}).iloc[:0], sold(("shirt", "M", 1))).to_dict("records")
    assert new["product_id"] == "shirt" and new["excluded"] is False and new["in_stock"] is True


def test_a_variant_that_moved_to_another_product_belongs_to_that_of_the_catalog() -> None:
    rows = catalog(
        {"product_id": "old"}, {"product_id": "new"}, {"product_id": "M", "variant_of": "new"},
        {"product_id": "L", "variant_of": "old"},
    )  # fmt: skip
    found = with_variants(rows, sold(("old", "M", 9), ("new", "M", 1), ("old", "gone", 5))).set_index("product_id")
    variants = Variants.from_json(found["variants"].fillna("").to_list())
    assert sorted(variants.ids) == ["L", "M", "gone"] and variants.positions["M"] >= 0
    assert [each["id"] for each in json.loads(found.loc["new", "variants"])] == ["M"]
    # The catalog lists variants of the product, and no longer this one.
    assert not variants.in_stock[variants.positions["gone"]] and variants.in_stock[variants.positions["L"]]


def test_without_variants_the_catalog_stays_as_it_is() -> None:
    rows = catalog({"product_id": "tea", "title": "Tea"})
    found = with_variants(rows, sold())
    pd.testing.assert_frame_equal(found.drop(columns="variants"), rows.drop(columns="variant_of"), check_like=True)
