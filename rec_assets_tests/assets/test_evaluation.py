"""What of the evaluation stands beside the science: whom the page shows as examples."""

from __future__ import annotations

import pandas as pd

from rec_assets.assets.evaluation import _examples

PRODUCTS = pd.DataFrame({"product_id": ["tea"], "title": ["Tea"], "category": [None]})
SHOWN = pd.DataFrame({"customer_id": ["ann"], "product_id": ["tea"], "list": ["all"], "rank": [1], "reason": ["why"]})
HISTORY = pd.DataFrame({"customer_id": ["ann"], "product_id": ["tea"], "customer_orders": [2.0]})
TRUTH = pd.DataFrame({"customer_id": ["ann"], "product_id": ["tea"]})


def test_a_customer_of_a_shop_without_categories_is_described_without_them() -> None:
    (example,) = _examples(SHOWN, TRUTH, HISTORY, PRODUCTS)
    assert example.history == "2 orders, 1 products"
    assert [(each.name, each.bought) for each in example.recommendations] == [("Tea", True)]


def test_nobody_with_a_history_is_nobody_to_show() -> None:
    assert _examples(SHOWN.head(0), TRUTH, HISTORY.head(0), PRODUCTS) == []
