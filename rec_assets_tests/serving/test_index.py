"""The serving index: building histories, reading unreadable indexes, and very small indexes."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rec_assets.recsys.data.histories import build_histories
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.lists import LISTS
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.serving.index_files.ids import Ids
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.manifest import IndexUnreadable, write_manifest
from rec_assets.serving.index_files.stored import StoredHistories, StoredList, number_lines
from rec_assets.serving.recommender import Recommender
from rec_assets_tests.serving import shop

pytestmark = pytest.mark.integration


def test_histories_built_from_blocks_of_customers_equal_those_built_at_once() -> None:
    lines, known = shop.histories().sample(frac=1, random_state=1), shop.product_snapshot()
    lines.loc[lines.index[:9], "product_id"] = "unknown"
    block = lines["customer_id"].map(lambda each: int(each[1:]) % 3)
    parts = [
        number_lines(rows, pd.Index(known.product_ids), pd.Index(known.variants.ids))
        for _, rows in lines.groupby(block)
    ]
    at_once = StoredHistories.from_lines(lines, known)
    in_blocks = StoredHistories.from_numbered(pd.concat(parts, ignore_index=True))
    assert len(at_once.product) == len(lines) - 9
    for name in ("customers", "starts", "product", "age", "weight", "rating"):
        np.testing.assert_array_equal(getattr(in_blocks, name), getattr(at_once, name))
    # Order numbers differ, but are distinct within each customer.
    expected = build_histories(lines, known)
    for customer, key in enumerate(in_blocks.customers):
        rows = in_blocks.rows_of(key.decode())
        assert rows is not None
        assert len(np.unique(in_blocks.order[rows])) == expected.customer_orders[customer]


def test_an_index_without_customers() -> None:
    empty = StoredHistories.from_lines(shop.histories().iloc[:0], shop.product_snapshot())
    assert empty.rows_of("c01") is None
    assert empty.starts.tolist() == [0]


@pytest.mark.parametrize("missing", ["snapshot/brand.npy", "histories/rating.npy", "the recipe's list_size"])
def test_an_unreadable_index_says_what_to_do(tmp_path: Path, missing: str) -> None:
    shop.index().save(tmp_path)
    if (tmp_path / missing).exists():
        (tmp_path / missing).unlink()
    else:
        metadata = json.loads((tmp_path / "metadata.json").read_text())
        metadata["recipe"]["list_size"] = -1
        (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    write_manifest(tmp_path)
    with pytest.raises(IndexUnreadable, match=r"can't be read by this version .* publish a new one with"):
        Index.load(tmp_path)


def test_one_long_id_does_not_make_the_others_longer(tmp_path: Path) -> None:
    ids = sorted(["a", "ab", "é", "x" * 512, *(f"c{number}" for number in range(1000))], key=str.encode)
    (tmp_path / "ids").mkdir()
    Ids.from_sorted(each.encode() for each in ids).save(tmp_path / "ids", "customers")
    found = Ids.load(tmp_path / "ids", "customers")
    assert [each.decode() for each in found] == ids
    assert [found.find(each.encode()) for each in ids] == list(range(len(ids)))
    assert [found.find(each) for each in (b"", b"aa", b"zz", b"c", b"x" * 600)] == [None] * 5
    assert (tmp_path / "ids" / "customers.npy").stat().st_size < 6000


def build_recommender(folder: Path, product_ids: list[str], customers: list[str]) -> Recommender:
    """Load the index of a shop with untrained models, in which each customer bought all products."""
    known = build_product_snapshot(
        shop.AS_OF,
        products=pd.DataFrame(
            {"product_id": product_ids, "title": "Product", "category": None, "brand": None, "price": 1.0,
             "content_hash": None, "first_seen": dt.date(2026, 1, 1), "excluded": False}
        ),
        statistics=pd.DataFrame(
            {"product_id": product_ids, "order_lines": 3, "recent_order_lines": 1, "recent_buyers": 1, "new_buyers": 1,
             "buyers": 1, "returns": 0, "repeat_share": 1.0, "interval_days": 7.0, "price": 1.0}
        ),
        factors=pd.DataFrame({"product_id": [], "factors": []}),
        graph=pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []}),
        embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
    )  # fmt: skip
    rows = [(customer, product, 7) for customer in customers for product in product_ids]
    lines = pd.DataFrame(rows, columns=["customer_id", "product_id", "age_days"])
    lines = lines.assign(order_id=lines["customer_id"], weight=1.0, rating=np.nan, wrong_size=False)
    blend = Ranker(None, FEATURES)
    no_scores = pa.schema(
        {"customer_id": pa.string(), "rank": pa.int32(), "product_id": pa.string(), "score": pa.float32(),
         "source": pa.string(), "reason": pa.string(), "rule": pa.string()}
    ).empty_table()  # fmt: skip
    stored = {name: StoredList.from_scores(no_scores, known) for name in LISTS}
    index = Index(known, blend, shop.RECIPE, StoredHistories.from_lines(lines, known), stored, {})
    index.save(folder)
    return Recommender.load(folder)


@pytest.mark.parametrize("customers", [[], ["ann"]])
def test_an_index_with_untrained_models_recommends_what_exists(tmp_path: Path, customers: list[str]) -> None:
    found = build_recommender(tmp_path, ["only"], customers)
    for customer in ("ann", "stranger"):
        assert found.recommend(customer)["product_id"].tolist() == ["only"]
    assert found.recommend("ann")["source"].tolist() == (["repeat_purchase"] if customers else ["best_sellers"])


def test_a_customer_who_bought_everything_has_an_empty_discover_list(tmp_path: Path) -> None:
    found = build_recommender(tmp_path, ["one", "two"], ["ann"]).recommend("ann", list_name="discover")
    assert found.empty and list(found) == ["product_id", "rank", "score", "source", "reason", "product"]


def test_an_index_without_products_recommends_nothing(tmp_path: Path) -> None:
    assert build_recommender(tmp_path, [], []).recommend("ann").empty
