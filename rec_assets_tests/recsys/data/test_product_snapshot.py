"""Similarity of texts, and prices. Tests of candidates cover the rest."""

from __future__ import annotations

import numpy as np
import pytest

from rec_assets.recsys.data.similar_texts import similar_texts
from rec_assets_tests.recsys.snapshots import small_snapshot


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


def test_the_list_price_is_the_catalog_s_and_the_price_feature_is_the_mean_paid() -> None:
    snapshot = small_snapshot(["a", "b", "c"], [3.49, np.nan, np.nan], [3.4634146690368652, 2.3333, np.nan])
    assert snapshot.list_price == pytest.approx([3.49, 2.33, np.nan], nan_ok=True)
    assert snapshot.price == pytest.approx([3.4634146690368652, 2.3333, np.nan], nan_ok=True)
