"""The serving index: how histories come into it, what is read of one that earlier code wrote, or of nearly nothing."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rec_assets.recsys.data.histories import build_histories
from rec_assets.recsys.data.product_snapshot import build_product_snapshot
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.hybrid import LISTS
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.serving.ids import Ids
from rec_assets.serving.index import Index, StoredHistories, StoredList, numbered
from rec_assets.serving.manifest import MANIFEST, IndexUnreadable, seal
from rec_assets.serving.recommender import Recommender
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


def test_lists_written_before_their_sources_were_named_say_the_same(tmp_path: Path) -> None:
    written = shop.index()
    written.save(tmp_path)
    for name, entries in written.lists.items():
        today = [entries.why(entry) for entry in range(len(entries.product))]
        folder = tmp_path / "lists" / name
        # So earlier code wrote them: places among the groups of features, and no names.
        once = ("own", "als", "co_purchase", "same_customer", "content", "category", "brand", "popular", "product",
                "customer", "pinned")  # fmt: skip
        np.save(folder / "source.npy", np.array([once.index(source) for source, _ in today], np.int8))
        (folder / "sources.arrow").unlink()
        seal(tmp_path)
        read = Index.load(tmp_path).lists[name]
        assert [read.why(entry) for entry in range(len(read.product))] == today


@pytest.mark.parametrize("lacks", ["state/brand.npy", "histories/rating.npy", "the recipe's list_size"])
def test_an_index_that_this_code_can_not_read_says_what_to_do(tmp_path: Path, lacks: str) -> None:
    shop.index().save(tmp_path)
    if (tmp_path / lacks).exists():
        (tmp_path / lacks).unlink()
    else:
        about = json.loads((tmp_path / "about.json").read_text())
        about["recipe"]["list_size"] = -1
        (tmp_path / "about.json").write_text(json.dumps(about))
    seal(tmp_path)
    with pytest.raises(IndexUnreadable, match=r"can't be read by this version .* publish a new one with"):
        Index.load(tmp_path)


def test_an_index_of_an_earlier_version_is_read_and_the_log_says_that_nothing_vouches_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = shop.index()
    made.save(tmp_path)
    about = json.loads((tmp_path / "about.json").read_text())
    del about["sealed"]
    (tmp_path / "about.json").write_text(json.dumps(about))
    (tmp_path / MANIFEST).unlink()
    for folder in (tmp_path / "histories", *(tmp_path / "lists").iterdir()):
        np.save(folder / "customers.npy", np.array(list(made.histories.customers)))
        (folder / "customers_ends.npy").unlink()
    found = Index.load(tmp_path)
    assert list(found.histories.customers) == list(made.histories.customers)
    assert found.histories.rows_of("c03") == made.histories.rows_of("c03") is not None
    assert "nothing tells whether it is whole" in caplog.text


def test_one_long_id_does_not_widen_the_others(tmp_path: Path) -> None:
    ids = sorted(["a", "ab", "é", "x" * 512, *(f"c{number}" for number in range(1000))], key=str.encode)
    (tmp_path / "ids").mkdir()
    Ids.of(each.encode() for each in ids).save(tmp_path / "ids", "customers")
    found = Ids.load(tmp_path / "ids", "customers")
    assert [each.decode() for each in found] == ids
    assert [found.find(each.encode()) for each in ids] == list(range(len(ids)))
    assert [found.find(each) for each in (b"", b"aa", b"zz", b"c", b"x" * 600)] == [None] * 5
    assert (tmp_path / "ids" / "customers.npy").stat().st_size < 6000


def recommender_of(folder: Path, product_ids: list[str], customers: list[str]) -> Recommender:
    """Of a shop in which nothing was learned, as written to disk and read back; each bought all there is."""
    known = build_product_snapshot(
        shop.AS_OF,
        products=pd.DataFrame(
            {"product_id": product_ids, "title": "Ware", "category": None, "brand": None, "price": 1.0,
             "content_hash": None, "first_seen": dt.date(2026, 1, 1), "excluded": False}
        ),
        statistics=pd.DataFrame(
            {"product_id": product_ids, "orders": 3, "recent_orders": 1, "new_buyers": 1, "buyers": 1, "returns": 0,
             "repeat_share": 1.0, "interval_days": 7.0, "price": 1.0}
        ),
        factors=pd.DataFrame({"product_id": [], "factors": []}),
        graph=pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []}),
        embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
    )  # fmt: skip
    rows = [(customer, product, 7) for customer in customers for product in product_ids]
    lines = pd.DataFrame(rows, columns=["customer_id", "product_id", "age_days"])
    lines = lines.assign(order_id=lines["customer_id"], weight=1.0, rating=np.nan)
    blend = Ranker(None, FEATURES)
    nobody = pa.schema(
        {"customer_id": pa.string(), "rank": pa.int32(), "product_id": pa.string(), "score": pa.float32(),
         "source": pa.string(), "reason": pa.string(), "rule": pa.string()}
    ).empty_table()  # fmt: skip
    stored = {name: StoredList.of_entries(nobody, known) for name in LISTS}
    index = Index(known, blend, shop.RECIPE, StoredHistories.of_lines(lines, known), stored, {})
    index.save(folder)
    return Recommender.load(folder)


@pytest.mark.parametrize("customers", [[], ["ann"]])
def test_an_index_in_which_nothing_was_learned_answers_with_what_there_is(tmp_path: Path, customers: list[str]) -> None:
    found = recommender_of(tmp_path, ["only"], customers)
    for customer in ("ann", "stranger"):
        assert found.recommend(customer)["product_id"].tolist() == ["only"]
    assert found.recommend("ann")["source"].tolist() == (["own"] if customers else ["segment"])


def test_who_bought_all_there_is_has_nothing_to_discover(tmp_path: Path) -> None:
    found = recommender_of(tmp_path, ["one", "two"], ["ann"]).recommend("ann", list_name="discover")
    assert found.empty and list(found) == ["product_id", "rank", "score", "source", "reason", "product"]


def test_an_index_without_a_product_answers_with_nothing(tmp_path: Path) -> None:
    assert recommender_of(tmp_path, [], []).recommend("ann").empty
