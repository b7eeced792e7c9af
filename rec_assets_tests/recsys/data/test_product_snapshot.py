"""Similarity of texts, prices, and snapshots of earlier versions. Tests of candidates cover the rest."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.data.text_neighbors import similar_texts


def units(*rows: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_what_all_texts_share_makes_none_similar() -> None:
    # The first dimension is the name of the shop, which is in every text.
    vectors = units((1, 0.1, 0), (1, 0.1, 0), (1, -0.1, 0), (1, -0.1, 0))
    similarity = similar_texts(vectors).toarray()
    assert similarity[0] == pytest.approx([1, 1, 0, 0], abs=1e-4)


def test_similarity_is_the_squared_cosine_of_the_nearest_neighbors() -> None:
    rng = np.random.default_rng(0)
    vectors = units(*rng.normal(size=(40, 6)))
    centered = vectors - vectors.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    squares = np.maximum(centered @ centered.T, 0) ** 2
    similarity = similar_texts(vectors, keep=5)
    assert (np.diff(similarity.indptr) == 5).all()
    for row in range(40):
        best = np.argsort(-squares[row])[:5]
        assert set(similarity[row].indices) == set(best)
        assert similarity[row].toarray()[0, best] == pytest.approx(squares[row, best], rel=1e-4)


def test_one_text_is_similar_to_itself_and_no_text_is_no_error() -> None:
    assert similar_texts(units((3, 4))).toarray() == pytest.approx(np.ones((1, 1)))
    assert similar_texts(np.zeros((0, 1), np.float32)).shape == (0, 0)


NO_EDGES = pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []})


def priced(listed: list[float], paid: list[float], graph: pd.DataFrame = NO_EDGES) -> ProductSnapshot:
    """Products a, b, … with their prices in the table of products, and the mean prices paid."""
    ids = [chr(ord("a") + number) for number in range(len(listed))]
    products = {"title": "", "category": None, "brand": None, "content_hash": None, "excluded": False}
    counts = dict.fromkeys(("orders", "recent_orders", "recent_buyers", "new_buyers", "buyers", "returns"), 1)
    return build_product_snapshot(
        dt.date(2024, 6, 30),
        products=pd.DataFrame({"product_id": ids, "price": listed, "first_seen": dt.date(2024, 1, 1), **products}),
        statistics=pd.DataFrame({"product_id": ids, "price": paid, "repeat_share": 0, "interval_days": 1.0, **counts}),
        factors=pd.DataFrame({"product_id": [], "factors": []}),
        graph=graph,
        embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
    )


def test_the_list_price_is_the_catalog_s_and_the_price_feature_is_the_mean_paid() -> None:
    snapshot = priced([3.49, np.nan, np.nan], [3.4634146690368652, 2.3333, np.nan])
    assert snapshot.list_price == pytest.approx([3.49, 2.33, np.nan], nan_ok=True)
    assert snapshot.price == pytest.approx([3.4634146690368652, 2.3333, np.nan], nan_ok=True)


def test_a_folder_of_an_earlier_version_is_read_under_its_old_names(tmp_path: Path) -> None:
    priced([3.49], [3.4]).save(tmp_path)
    for name in ("list_price", "recent_buyers"):
        (tmp_path / f"{name}.npy").unlink()
    for name, old in (("ease", "same_customer"), ("text_neighbors", "alike")):
        for part in ("data", "indices", "indptr"):
            (tmp_path / f"{name}.{part}.npy").rename(tmp_path / f"{old}.{part}.npy")
    loaded = ProductSnapshot.load(tmp_path)
    assert (loaded.list_price.tolist(), loaded.recent_buyers.tolist()) == (loaded.price.tolist(), [1])
    assert (loaded.ease.shape, loaded.text_neighbors.shape) == ((1, 1), (0, 0))


def test_edges_of_an_earlier_version_have_todays_kind() -> None:
    edges = pd.DataFrame({"kind": ["same_customer"], "product_id": ["a"], "neighbor_id": ["b"], "weight": [0.5]})
    assert priced([1.0, 1.0], [1.0, 1.0], edges).ease.toarray().tolist() == [[0, 0.5], [0, 0]]
