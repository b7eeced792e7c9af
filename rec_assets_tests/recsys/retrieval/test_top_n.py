"""The best products of each customer, compared with a plain sort."""

import numpy as np
import pytest

from rec_assets.recsys.retrieval.similar import _highest as highest
from rec_assets.recsys.retrieval.sources.helpers import best_of_groups, best_unbought, orders_since

CUSTOMERS, SIZE = 7, 100


class Block:
    """The part of a `CustomerBlock` that is read."""

    def __init__(self, bought: np.ndarray) -> None:
        self.bought = bought


@pytest.mark.parametrize("columns", [0, 3, 100, 4097, 20_001])
@pytest.mark.parametrize("distinct", [2, 50, 10_000_000], ids=["nearly all tied", "many ties", "no ties"])
def test_the_products_are_those_of_a_stable_sort(columns: int, distinct: int) -> None:
    rng = np.random.default_rng(columns)
    scores = rng.integers(-1, distinct, size=(CUSTOMERS, columns + 1)).astype(np.float32)
    scores[0], scores[:, -1] = 0, 9e9  # nothing positive; a column beyond the products
    products = np.sort(rng.choice(2 * columns, columns, replace=False))
    bought = rng.random((CUSTOMERS, 2 * columns)) < 0.1
    customer, product = best_unbought(Block(bought), products, scores, SIZE)
    for row in range(CUSTOMERS):
        allowed = (scores[row, :-1] > 0) & ~bought[row, products]
        order = np.argsort(-scores[row, :-1], kind="stable")
        assert sorted(product[customer == row]) == sorted(products[order[allowed[order]][:SIZE]])


@pytest.mark.parametrize("distinct", [2, 40, 10_000_000], ids=["nearly all tied", "many ties", "no ties"])
def test_groups_share_a_score(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    group = rng.integers(0, 300, 3000)
    products, starts = np.argsort(group, kind="stable"), np.searchsorted(np.sort(group), np.arange(301))
    scores = rng.integers(-1, distinct, size=(CUSTOMERS, 301)).astype(np.float32)
    bought = rng.random((CUSTOMERS, 3000)) < 0.1
    customer, product = best_of_groups(starts, products, scores, bought, SIZE)
    for row in range(CUSTOMERS):
        score = scores[row, group]
        order = np.argsort(-score, kind="stable")
        expected = order[((score > 0) & ~bought[row])[order]][:SIZE]
        assert sorted(product[customer == row]) == sorted(expected)


@pytest.mark.parametrize("distinct", [2, 40, 10_000_000], ids=["nearly all tied", "many ties", "no ties"])
@pytest.mark.parametrize("size", [0, 1, 20, 5000])
def test_the_highest_of_each_row_are_those_of_a_stable_sort(distinct: int, size: int) -> None:
    scores = np.random.default_rng(size).integers(-1, distinct, size=(CUSTOMERS, 999)).astype(np.float32)
    scores[0] = 0
    row, rank, column = highest(scores, size)
    for number in range(CUSTOMERS):
        expected = [place for place in np.argsort(-scores[number], kind="stable") if scores[number, place] > 0][:size]
        assert column[row == number].tolist() == expected
        assert rank[row == number].tolist() == list(range(len(expected)))


def test_a_size_of_zero_gives_nothing() -> None:
    block = Block(np.zeros((1, 3), bool))
    assert best_unbought(block, np.arange(3), np.ones((1, 3), np.float32), 0)[1].tolist() == []


def test_orders_since_a_group_was_bought_with_more_groups_than_products() -> None:
    class History:
        customer, product = np.array([0, 0, 1]), np.array([0, 1, 2])
        orders_since = np.array([3, np.nan, 0], np.float32)

    groups = np.array([9000, 9000, -1, 8000], np.int32)
    customer, product = np.array([0, 0, 1, 1]), np.array([1, 3, 0, 2])
    since = orders_since(History(), groups, customer, product)
    np.testing.assert_array_equal(since, np.array([3, np.nan, np.nan, np.nan], np.float32))
