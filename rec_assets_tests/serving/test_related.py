"""What is on the rise, and what is popular: told by customers, not by lines."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.ranking.hybrid import popular_lists
from rec_assets.serving.index import Index
from rec_assets.serving.recommender import Recommender
from rec_assets.serving.related import trending


def with_counts(index: Index, **counts: dict[str, float]) -> Index:
    """The index with other counts of some products; of the rest each customer bought one, long ago."""
    state = index.state
    columns = {name: np.ones(len(state), np.float32) * (name in ("orders", "buyers")) for name in
               ("orders", "recent_orders", "buyers", "recent_buyers")}  # fmt: skip
    for name, of in counts.items():
        for product, value in of.items():
            columns[name][list(state.product_ids).index(product)] = value
    return dataclasses.replace(index, state=dataclasses.replace(state, **columns))


def test_one_customer_s_forty_lines_make_neither_a_trend_nor_a_best_seller(index: Index) -> None:
    counted = with_counts(
        index,
        orders={"p01": 40, "p02": 5}, recent_orders={"p01": 40, "p02": 5},
        buyers={"p01": 1, "p02": 5}, recent_buyers={"p01": 1, "p02": 5},
    )  # fmt: skip
    ids = counted.state.product_ids
    rising, score = trending(counted.state)
    assert list(ids[rising]) == ["p02", "p01"] and score[0] > 2 * score[1]
    best, share = Recommender(counted).popular()
    assert list(ids[best[:2]]) == ["p02", "p01"] and share[:2] == pytest.approx([5 / 6, 1 / 6])


def test_the_api_and_the_batch_agree_on_what_is_popular(index: Index) -> None:
    counted = with_counts(index, recent_buyers={"p07": 3, "p05": 3, "p09": 4}, orders={"p07": 9, "p05": 8})
    state = counted.state
    statistics = pd.DataFrame({name: getattr(state, name) for name in ("product_ids", "orders", "recent_buyers")})
    statistics = statistics.rename(columns={"product_ids": "product_id"})
    batch = popular_lists(statistics, pd.Series(dtype=str), 5)
    assert batch["product_id"].to_list() == list(state.product_ids[Recommender(counted).popular()[0][:5]])
    assert batch["product_id"].to_list()[:3] == ["p09", "p07", "p05"]
