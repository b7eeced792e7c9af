"""How alike texts are; the rest of a product state is seen through candidates and in the whole graph."""

from __future__ import annotations

import numpy as np
import pytest

from rec_assets.recsys.product_state import similar_texts


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
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    squares = np.maximum(centred @ centred.T, 0) ** 2
    alike = similar_texts(vectors, keep=5)
    assert (np.diff(alike.indptr) == 5).all()
    for row in range(40):
        best = np.argsort(-squares[row])[:5]
        assert set(alike[row].indices) == set(best)
        assert alike[row].toarray()[0, best] == pytest.approx(squares[row, best], rel=1e-4)


def test_one_text_is_like_itself_and_none_is_no_error() -> None:
    assert similar_texts(units((3, 4))).toarray() == pytest.approx(np.ones((1, 1)))
    assert similar_texts(np.zeros((0, 1), np.float32)).shape == (0, 0)
