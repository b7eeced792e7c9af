"""The highest scores of rows, compared with a plain sort."""

import numpy as np
import pytest

from rec_assets.recsys.retrieval.sources.helpers import top_columns


@pytest.mark.parametrize("columns", [0, 3, 100, 4097, 9000, 20_001])
@pytest.mark.parametrize("distinct", [2, 50, 10_000_000], ids=["nearly all tied", "many ties", "no ties"])
def test_the_columns_are_those_of_a_stable_sort(columns: int, distinct: int) -> None:
    rng = np.random.default_rng(columns)
    scores = rng.integers(0, distinct, size=(7, columns)).astype(np.float32)
    scores[0] = -np.inf
    scores[1, rng.random(columns) < 0.999] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    assert np.array_equal(top_columns(scores, 100), expected)


def test_a_larger_size_than_columns_gives_all_columns() -> None:
    assert top_columns(np.array([[1.0, 3.0, 2.0]], np.float32), 10).tolist() == [[1, 2, 0]]
