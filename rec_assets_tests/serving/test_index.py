"""The serving index: how histories come into it."""

import numpy as np
import pandas as pd

from rec_assets.recsys.histories import build_histories
from rec_assets.serving.index import StoredHistories, numbered
from rec_assets_tests.serving import shop


def test_histories_made_a_block_of_customers_at_a_time_are_those_of_all_at_once() -> None:
    lines, known = shop.histories().sample(frac=1, random_state=1), shop.state()
    lines.loc[lines.index[:9], "product_id"] = "never heard of"
    block = lines["customer_id"].map(lambda each: int(each[1:]) % 3)
    parts = [numbered(rows, pd.Index(known.product_ids)) for _, rows in lines.groupby(block)]
    at_once = StoredHistories.of_lines(lines, known)
    in_blocks = StoredHistories.of_numbered(pd.concat(parts, ignore_index=True))
    assert len(at_once.product) == len(lines) - 9
    for name in ("customers", "starts", "product", "age", "weight", "rating"):
        np.testing.assert_array_equal(getattr(in_blocks, name), getattr(at_once, name))
    # Orders have other numbers, which tell a customer's apart all the same.
    expected = build_histories(lines, known)
    for customer, key in enumerate(in_blocks.customers):
        rows = in_blocks.rows_of(key.decode())
        assert rows is not None
        assert len(np.unique(in_blocks.order[rows])) == expected.customer_orders[customer]


def test_an_index_of_nobody_knows_nobody() -> None:
    nobody = StoredHistories.of_lines(shop.histories().iloc[:0], shop.state())
    assert nobody.rows_of("c01") is None
    assert nobody.starts.tolist() == [0]
