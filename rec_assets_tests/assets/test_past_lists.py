"""The example customers of the evaluation report."""

from __future__ import annotations

import pandas as pd

from rec_assets.assets.past_lists import example_customers

PRODUCTS = pd.DataFrame({"product_id": ["tea"], "title": ["Tea"], "category": [None], "link": ["https://shop/tea"]})
SHOWN = pd.DataFrame({"customer_id": ["ann"], "product_id": ["tea"], "list": ["all"], "rank": [1], "reason": ["why"]})
HISTORY = pd.DataFrame({"customer_id": ["ann"], "product_id": ["tea"], "customer_orders": [2.0]})
TRUTH = pd.DataFrame({"customer_id": ["ann"], "product_id": ["tea"]})


def test_an_example_of_a_shop_without_categories_has_no_categories() -> None:
    (example,) = example_customers(SHOWN, TRUTH, HISTORY, PRODUCTS)
    assert example.history == "2 orders, 1 products"
    assert [(each.name, each.bought, each.link) for each in example.recommendations] == [
        ("Tea", True, "https://shop/tea")
    ]


def test_a_link_that_works_only_in_the_shop_is_left_out() -> None:
    (example,) = example_customers(SHOWN, TRUTH, HISTORY, PRODUCTS.assign(link="/tea"))
    assert example.recommendations[0].link == ""


def test_without_customers_there_are_no_examples() -> None:
    assert example_customers(SHOWN.head(0), TRUTH, HISTORY.head(0), PRODUCTS) == []
