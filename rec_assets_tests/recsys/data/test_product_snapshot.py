"""How alike texts are; the rest of a product state is seen through candidates and in the whole graph."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.data.product_snapshot import ProductSnapshot, build_product_snapshot, similar_texts


def units(*rows: tuple[float, ...]) -> np.ndarray:
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_what_all_texts_have_in_common_makes_none_alike() -> None:
    # The first dimension is the shop's name, which stands in every text.
    vectors = units((1, 0.1, 0), (1, 0.1, 0), (1, -0.1, 0), (1, -0.1, 0))
    alike = similar_texts(vectors).toarray()
    assert alike[0] == pytest.approx([1, 1, 0, 0], abs=1e-4)


def test_cosines_count_squared_and_only_the_most_alike_are_kept() -> None:
    rng = np.random.default_rng(0)
    vectors = units(*rng.normal(size=(40, 6)))
    centered = vectors - vectors.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    squares = np.maximum(centered @ centered.T, 0) ** 2
    alike = similar_texts(vectors, keep=5)
    assert (np.diff(alike.indptr) == 5).all()
    for row in range(40):
        best = np.argsort(-squares[row])[:5]
        assert set(alike[row].indices) == set(best)
        assert alike[row].toarray()[0, best] == pytest.approx(squares[row, best], rel=1e-4)


def test_one_text_is_like_itself_and_none_is_no_error() -> None:
    assert similar_texts(units((3, 4))).toarray() == pytest.approx(np.ones((1, 1)))
    assert similar_texts(np.zeros((0, 1), np.float32)).shape == (0, 0)


def priced(listed: list[float], paid: list[float]) -> ProductSnapshot:
    """Products a, b, …: what the table of products says they cost, and the mean of what was paid lately."""
    ids = [chr(ord("a") + number) for number in range(len(listed))]
    products = {"title": "", "category": None, "brand": None, "content_hash": None, "excluded": False}
    counts = dict.fromkeys(("orders", "recent_orders", "recent_buyers", "new_buyers", "buyers", "returns"), 1)
    return build_product_snapshot(
        dt.date(2024, 6, 30),
        products=pd.DataFrame({"product_id": ids, "price": listed, "first_seen": dt.date(2024, 1, 1), **products}),
        statistics=pd.DataFrame({"product_id": ids, "price": paid, "repeat_share": 0, "interval_days": 1.0, **counts}),
        factors=pd.DataFrame({"product_id": [], "factors": []}),
        graph=pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []}),
        embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
    )


def test_the_price_to_show_is_the_catalog_s_to_the_cent_and_models_learn_from_what_was_paid() -> None:
    state = priced([3.49, np.nan, np.nan], [3.4634146690368652, 2.3333, np.nan])
    assert state.list_price == pytest.approx([3.49, 2.33, np.nan], nan_ok=True)
    assert state.price == pytest.approx([3.4634146690368652, 2.3333, np.nan], nan_ok=True)


def test_a_folder_of_an_earlier_version_is_read_with_what_it_had(tmp_path: Path) -> None:
    priced([3.49], [3.4]).save(tmp_path)
    for name in ("list_price", "recent_buyers"):
        (tmp_path / f"{name}.npy").unlink()
    found = ProductSnapshot.load(tmp_path)
    assert (found.list_price.tolist(), found.recent_buyers.tolist()) == (found.price.tolist(), [1])
