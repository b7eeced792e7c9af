"""A product snapshot as a table of the lake and as mapped files: all arrays come back, equal to the last bit."""

import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from rec_assets.recsys.data import list_columns
from rec_assets.recsys.data.product_snapshot import ProductSnapshot, map_snapshot
from rec_assets.recsys.data.snapshot_arrays import SnapshotArrays
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot, with_models
from rec_assets.recsys.data.snapshot_table import SNAPSHOT_COLUMNS, from_table, to_table
from rec_assets.resources.lake import Lake
from rec_assets.resources.table_columns import TABLES
from rec_assets_tests.recsys.retrieval.test_candidates import MUG, NEW_TEA, TEA, a_snapshot
from rec_assets_tests.recsys.snapshots import small_snapshot

NO_FACTORS = pd.DataFrame({"product_id": [], "factors": []})
NO_GRAPH = pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []})


def random_snapshot(products: int = 300, texts: int = 120) -> ProductSnapshot:
    """Products of which some share a text, and some have no text, factors, neighbors, category or price."""
    random = np.random.default_rng(7)
    ids = np.array([f"p{number:04}" for number in range(products)], object)
    hashes = np.where(random.random(products) < 0.1, None, [f"t{n:03}" for n in random.integers(0, texts, products)])
    frame = pd.DataFrame({"product_id": ids, "title": ids, "content_hash": hashes})
    frame["category"] = np.where(random.random(products) < 0.2, None, random.choice(["tea", "bath"], products))
    frame["brand"] = None
    for name in ("image", "link", "attributes", "taste", "variants"):
        frame[name] = np.where(np.arange(products) % len(name), None, f"some {name}")
    frame["in_stock"] = np.arange(products) % 3 > 0
    frame["price"] = np.where(random.random(products) < 0.3, np.nan, random.random(products) * 9)
    frame["first_seen"], frame["excluded"] = pd.Timestamp("2024-01-01").date(), random.random(products) < 0.05
    sold = random.choice(ids, products // 2, replace=False)
    counts = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers", "returns")
    statistics = pd.DataFrame({"product_id": sold, **{name: random.integers(0, 50, len(sold)) for name in counts}})
    statistics["repeat_share"], statistics["price"] = random.random(len(sold)), random.random(len(sold))
    statistics["interval_days"] = np.where(random.random(len(sold)) < 0.5, np.nan, 30 * random.random(len(sold)))
    edges = pd.DataFrame({"kind": random.choice(["same_basket", "next_basket", "ease"], 2000)})
    edges["product_id"], edges["neighbor_id"] = random.choice(sold, 2000), random.choice(ids, 2000)
    edges["weight"] = random.random(2000)
    vectors = random.normal(size=(texts, 8))
    return build_product_snapshot(
        pd.Timestamp("2024-06-30").date(), products=frame, statistics=statistics,
        factors=pd.DataFrame({"product_id": sold, "factors": list(random.normal(size=(len(sold), 5)))}),
        graph=edges.drop_duplicates(["kind", "product_id", "neighbor_id"]),
        embeddings=pd.DataFrame({"content_hash": [f"t{n:03}" for n in range(texts)], "vector": list(vectors)}),
    )  # fmt: skip


SNAPSHOTS = {
    "a few products": a_snapshot,
    "many products": random_snapshot,
    "no texts, factors and neighbors": lambda: small_snapshot(["a", "b"]),
    "no products": lambda: small_snapshot([]),
}


def assert_equal(one: SnapshotArrays, other: SnapshotArrays) -> None:
    for field in fields(SnapshotArrays):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, sp.csr_matrix):
            assert left.shape == right.shape, field.name
            for part in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(left, part), getattr(right, part), field.name)
                assert getattr(left, part).dtype == getattr(right, part).dtype, field.name
        else:
            np.testing.assert_array_equal(left, right, field.name)
            assert getattr(left, "dtype", None) == getattr(right, "dtype", None), field.name


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_is_the_same_after_it_was_a_table_of_the_lake(name: str, tmp_path: Path) -> None:
    snapshot, lake = SNAPSHOTS[name](), Lake(tmp_path)
    lake.write("product_snapshot", to_table(snapshot), snapshot.as_of)
    assert_equal(from_table(lake.table("product_snapshot").read([snapshot.as_of]), snapshot.as_of), snapshot)


def test_a_table_in_several_row_groups_gives_the_same_snapshot(tmp_path: Path) -> None:
    snapshot = random_snapshot()
    pq.write_table(to_table(snapshot), tmp_path / "a.parquet", row_group_size=70)
    assert_equal(from_table(pq.read_table(tmp_path / "a.parquet"), snapshot.as_of), snapshot)


def test_the_order_of_the_rows_in_files_makes_no_difference() -> None:
    table, snapshot = to_table(random_snapshot()), random_snapshot()
    shuffled = table.take(np.random.default_rng(3).permutation(len(table)))
    assert_equal(from_table(shuffled, snapshot.as_of), snapshot)


def test_lists_that_do_not_fit_into_an_array_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_columns, "_MAX_VALUES", 10)
    with pytest.raises(ValueError, match=r"282 products have .* values, more than 10: split the catalog"):
        to_table(random_snapshot())


def test_the_table_has_its_documented_columns_and_neighbors_by_row() -> None:
    table = to_table(a_snapshot())
    assert tuple(table.column_names) == SNAPSHOT_COLUMNS == tuple(TABLES["product_snapshot"])[: len(SNAPSHOT_COLUMNS)]
    rows = table.to_pylist()
    by_id = {row["product_id"]: row for row in rows}
    tea = by_id[TEA]
    assert [rows[neighbor]["product_id"] for neighbor in tea["same_basket"]] == [MUG]
    assert tea["same_basket_weight"] == [0.5]
    assert tea["embedding"] and by_id[NEW_TEA]["text_row"] == tea["text_row"], "both have the same text"


def test_a_mapped_snapshot_is_pickled_as_its_folder_and_shares_its_files(tmp_path: Path) -> None:
    random_snapshot().save(tmp_path)
    mapped = map_snapshot(tmp_path)
    assert_equal(mapped, random_snapshot())
    assert isinstance(mapped.embeddings.base, np.memmap) or isinstance(mapped.embeddings.base.base, np.memmap)
    pickled = pickle.dumps(mapped)
    assert len(pickled) < 1000 and pickle.loads(pickled) is mapped


def test_a_changed_copy_of_a_mapped_snapshot_is_pickled_with_its_changes(tmp_path: Path) -> None:
    random_snapshot().save(tmp_path)
    mapped = map_snapshot(tmp_path)
    changed = replace(mapped, price=mapped.price + 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(changed)).price, mapped.price + 1)


def test_other_models_change_factors_and_graph_and_nothing_else() -> None:
    snapshot = random_snapshot()
    other = with_models(snapshot, NO_FACTORS, NO_GRAPH)
    assert not other.has_factors.any() and other.same_basket.nnz == other.ease.nnz == 0
    models = {name: getattr(snapshot, name) for name in ("factors", "same_basket", "next_basket", "ease")}
    assert_equal(replace(other, **models), snapshot)
