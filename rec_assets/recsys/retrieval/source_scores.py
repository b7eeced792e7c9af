"""What each source thinks of the products that it can speak of, for a block of customers.

Which of them become candidates is decided in `candidates.py`; what the ranker sees of them stands in `features.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.data.product_snapshot import Floats, Ints, Longs, ProductSnapshot
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.fold_in import fold_in


@dataclass(frozen=True, eq=False)
class Scores:
    """What one source thinks, of n customers; 0 = nothing to say.

    Attributes:
        values: (n, U + 1) scores of what it can speak of (products or texts), the last column 0.
        column: (P,) each product's column; that of zeros where the source can't speak of it.
    """

    values: Floats
    column: Ints

    def of(self, customer: Longs, product: Longs) -> Floats:
        """(pairs,) scores of pairs."""
        return np.asarray(self.values[customer, self.column[product]])

    @cached_property
    def highest(self) -> Floats:
        """(n,) of all products."""
        return np.asarray(self.values.max(axis=1))


@dataclass(frozen=True, eq=False)
class NeighborScores:
    """What the sources think that go from the products of a history to their neighbors."""

    same_basket: Scores
    next_basket: Scores
    same_customer: Scores
    content: Scores

    @cached_property
    def co_purchase(self) -> Scores:
        """Same basket and next basket together."""
        return Scores(self.same_basket.values + self.next_basket.values, self.same_basket.column)


@dataclass(frozen=True, eq=False)
class SourceScores:
    """What each source thinks, for a block of n customers with N pairs of histories.

    Attributes:
        own: (N,) decayed purchases of each pair.
        als: By the customers' vectors, folded in.
        whole: By the neighbors of all their history.
        newest: By the neighbors of their newest order or session alone.
        category_taste: (n, C) share of each category in a decayed history.
    """

    own: Floats
    als: Scores
    whole: NeighborScores
    newest: NeighborScores
    category_taste: Floats


def score_sources(histories: Histories, seeds: sp.csr_matrix, state: ProductSnapshot, recipe: Recipe) -> SourceScores:
    """Score the products for a block of customers, with each source on its own.

    Args:
        histories: Of the n customers.
        seeds: (n, P) what of each history seeks neighbors, weights summing to 1.
        state: What is known of the products.
        recipe: Decays.
    """
    n, half_life = len(histories.customer_ids), recipe.candidates.own_half_life_days
    whole, newest = _of_neighbors(sp.vstack([seeds, _newest_products(histories, len(state))], format="csr"), state, n)
    taste = sums(histories.customer, state.category[histories.product], histories.interest(half_life),
                 (n, len(state.categories)))  # fmt: skip
    return SourceScores(
        own=histories.decayed(half_life),
        als=Scores(fold_in(histories, state, recipe.als) @ state.factors_of_known.T, state.with_factors.column),
        whole=whole,
        newest=newest,
        category_taste=taste / np.maximum(taste.sum(axis=1, keepdims=True), 1e-12),
    )


def _newest_products(histories: Histories, products: int) -> sp.csr_matrix:
    """(n, P) the products of each customer's newest order or session, their weights summing to 1."""
    return shares(histories, np.flatnonzero(histories.is_newest), np.ones_like(histories.orders), products)


def shares(histories: Histories, pairs: Longs, weights: Floats, products: int) -> sp.csr_matrix:
    """(n, products) the weights (N,) of some pairs (rising positions), each customer's summing to 1."""
    n, customer = len(histories.customer_ids), histories.customer[pairs]
    total = np.bincount(customer, weights=weights[pairs], minlength=n)
    share = (weights[pairs] / np.maximum(total, 1e-12)[customer]).astype(np.float32)
    product, starts = histories.product[pairs], np.searchsorted(customer, np.arange(n + 1))
    return sp.csr_matrix((share, product.astype(np.int32), starts.astype(np.int32)), shape=(n, products))


def sums(row: Longs, column: Ints, values: Floats, shape: tuple[int, int]) -> Floats:
    """`shape` the values summed by row and column."""
    flat = np.bincount(row * shape[1] + column, weights=values, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float32)


def _of_neighbors(seeds: sp.csr_matrix, state: ProductSnapshot, n: int) -> tuple[NeighborScores, NeighborScores]:
    """Scores of the first n rows of seeds, and of the others."""
    found = (seeds @ state.neighbors).toarray()
    text = state.text[seeds.indices]
    has_text = text >= 0
    # Several products of a row may have one text: the matrix product adds them up.
    texts = sp.csr_matrix(
        (seeds.data[has_text], text[has_text], np.append(0, np.cumsum(has_text))[seeds.indptr]),
        shape=(seeds.shape[0], state.alike.shape[0]),
    )
    content = (texts @ state.alike_or_none).toarray()
    width = state.in_graph.width

    def scores(rows: slice) -> NeighborScores:
        return NeighborScores(
            same_basket=Scores(found[rows, :width], state.in_graph.column),
            next_basket=Scores(found[rows, width : 2 * width], state.in_graph.column),
            same_customer=Scores(found[rows, 2 * width :], state.of_customers.column),
            content=Scores(content[rows], state.text),  # a product without a text has number -1: the last column
        )

    return scores(slice(0, n)), scores(slice(n, None))
