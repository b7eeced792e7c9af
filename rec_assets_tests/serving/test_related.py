"""Trending products and best sellers count customers, not order lines."""

import dataclasses

import numpy as np
import pytest

from rec_assets.recsys.ranking.lists import popular_lists
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.recommender import Recommender
from rec_assets.serving.related import trending


def with_counts(index: Index, **counts: dict[str, float]) -> Index:
    """The index with these counts of some products; all others have one buyer, long ago."""
    snapshot = index.snapshot
    columns = {name: np.ones(len(snapshot), np.float32) * (name in ("order_lines", "buyers")) for name in
               ("order_lines", "recent_order_lines", "buyers", "recent_buyers")}  # fmt: skip
    for name, of in counts.items():
        for product, value in of.items():
            columns[name][list(snapshot.product_ids).index(product)] = value
    return dataclasses.replace(index, snapshot=dataclasses.replace(snapshot, **columns))


def test_many_order_lines_of_one_customer_make_no_trend_and_no_best_seller(index: Index) -> None:
    counted = with_counts(
        index,
        order_lines={"p01": 40, "p02": 5}, recent_order_lines={"p01": 40, "p02": 5},
        buyers={"p01": 1, "p02": 5}, recent_buyers={"p01": 1, "p02": 5},
    )  # fmt: skip
    ids = counted.snapshot.product_ids
    position, score = trending(counted.snapshot)
    assert list(ids[position]) == ["p02", "p01"] and score[0] > 2 * score[1]
    best, share = Recommender(counted).popular()
    assert list(ids[best[:2]]) == ["p02", "p01"] and share[:2] == pytest.approx([5 / 6, 1 / 6])


def test_the_api_and_the_batch_agree_on_best_sellers(index: Index) -> None:
    counted = with_counts(index, recent_buyers={"p07": 3, "p05": 3, "p09": 4}, order_lines={"p07": 9, "p05": 8})
    snapshot = counted.snapshot
    batch = popular_lists(snapshot.catalog, 5)
    assert batch["product_id"].to_list() == list(snapshot.product_ids[Recommender(counted).popular()[0][:5]])
    assert batch["product_id"].to_list()[:3] == ["p09", "p07", "p05"]
