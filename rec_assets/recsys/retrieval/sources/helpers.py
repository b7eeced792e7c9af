"""Functions that several sources share: scores by column, neighbors of profile items, the best products of a row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask
from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.retrieval.sources.base import CustomerBlock, FeatureValues, Pairs

_TOP_GROUPS = 1024


@dataclass(frozen=True, eq=False)
class ProductScores:
    """Scores of products for n customers. 0 = the source has no score.

    Attributes:
        values: (n, U + 1) scores of the U products (see `Coverage`) or texts that the source can score, and a last
            column of zeros.
        column: (P,) column of each product; U for a product that is not covered.
    """

    values: Floats
    column: Ints

    def at(self, customer: Longs, product: Longs) -> Floats:
        """(pairs,) scores of pairs."""
        return np.asarray(self.values[customer, self.column[product]])

    @cached_property
    def highest(self) -> Floats:
        """(n,) highest score of each customer, at least 1e-9."""
        return np.maximum(np.asarray(self.values.max(axis=1)), 1e-9)


@dataclass(frozen=True, eq=False)
class NeighborScores:
    """Scores of the neighbors of the whole profile, and of the last visit alone."""

    profile: ProductScores
    last_visit: ProductScores

    def features(self, name: str, customer: Longs, product: Longs) -> FeatureValues:
        """`<name>_score`, `<name>_relative` to the customer's highest score, and `<name>_last_visit` of pairs."""
        score, last_visit = self.profile.at(customer, product), self.last_visit.at(customer, product)
        relative = score / self.profile.highest[customer]
        return {f"{name}_score": score, f"{name}_relative": relative, f"{name}_last_visit": last_visit}


def neighbor_scores(items: sp.csr_matrix, graph: sp.csr_matrix, column: Ints) -> NeighborScores:
    """Sum, over the items of a customer, of item weight × edge weight.

    Args:
        items: (2n, products or texts) weights; see `CustomerBlock.profile_and_last_visit`.
        graph: (products or texts, U + 1) edge weights, with a last column of zeros.
        column: (P,) see `ProductScores`.
    """
    values, n = (items @ graph).toarray(), items.shape[0] // 2
    return NeighborScores(ProductScores(values[:n], column), ProductScores(values[n:], column))


def heaviest_items(items: sp.csr_matrix, graph: sp.csr_matrix, customer: Longs, product: Longs) -> Longs:
    """(pairs,) the item of the pair's customer with the largest item weight × edge weight to the product; -1 for none.

    Args:
        items: (n, P) weights, such as `Candidates.profile`. Ties go to the item with the lowest position.
        graph: (P, P) edge weights.
        customer, product: (pairs,) sorted by customer, without duplicates.
    """
    out, place = np.full(len(product), -1, np.int64), np.full(graph.shape[1], -1, np.int64)
    bounds = np.searchsorted(customer, np.arange(items.shape[0] + 1))
    for row in range(items.shape[0]):
        pairs, known = slice(*bounds[row : row + 2]), slice(*items.indptr[row : row + 2])
        place[product[pairs]] = np.arange(pairs.stop - pairs.start)
        item = items.indices[known]
        edges = graph.indptr[item + 1] - graph.indptr[item]
        edge = concatenate_ranges(graph.indptr[item], edges)
        target = place[graph.indices[edge]]
        hit = target >= 0
        target, item = target[hit], np.repeat(item, edges)[hit]
        weight = np.repeat(items.data[known], edges)[hit] * graph.data[edge][hit]
        largest = np.zeros(pairs.stop - pairs.start, np.float32)
        np.maximum.at(largest, target, weight)
        is_largest = weight == largest[target]
        # In reverse, so that the item with the lowest position is written last and wins a tie.
        out[pairs][target[is_largest][::-1]] = item[is_largest][::-1]
        place[product[pairs]] = -1
    return out


def best_unbought(block: CustomerBlock, products: Longs, scores: Iterable[Floats], size: int) -> Pairs:
    """The `size` products of each customer with the highest positive scores, without products bought before.

    `products` are positions to choose from, ascending; `scores` n rows of their scores. Ties go to the lower position.
    """
    rows = zip(scores, block.bought, strict=True)
    return as_pairs([best_of_row(products, row, size, is_bought) for row, is_bought in rows])


def as_pairs(products: list[Longs]) -> Pairs:
    """Pairs of customers 0, 1, 2 … with their products."""
    customer = np.repeat(np.arange(len(products)), [len(row) for row in products])
    return customer, np.concatenate([np.zeros(0, np.int64), *products])


def best_of_row(products: Longs, scores: Floats, size: int, is_bought: Mask) -> Longs:
    """`best_unbought` for one customer; `is_bought` is (P,)."""
    positive = np.flatnonzero(scores > 0)  # most scores are 0, and partitioning ties is slow
    positive = positive[~is_bought[products[positive]]]
    if len(positive) > size:
        values = scores[positive]
        lowest = np.partition(values, len(values) - size)[len(values) - size] if size else np.inf
        above, tied = positive[values > lowest], positive[values == lowest]
        positive = np.concatenate([above, tied[: size - len(above)]])
    return products[positive]


def top_columns(scores: Floats, size: int) -> Longs:
    """(n, size) columns of the highest scores of each row, descending; ties go to the lower column.

    The columns are divided into groups. The `size` highest group maxima are `size` different scores, so the lowest of
    them is a bound that the wanted scores reach and few others do. Only these are sorted. Finding maxima is much faster
    than partitioning whole rows. The scores are (n, columns), finite or -inf. With fewer columns, all are returned.
    """
    n, columns = scores.shape
    size, groups = min(size, columns), max(_TOP_GROUPS, 4 * size)
    if not size:
        return np.empty((n, 0), np.int64)
    if columns > 4 * groups:
        maxima = scores[:, : columns // groups * groups].reshape(n, -1, groups).max(axis=1)
    else:
        maxima = scores
    bound = np.partition(maxima, maxima.shape[1] - size, axis=1)[:, maxima.shape[1] - size]
    top = np.empty((n, size), np.int64)
    for row, (values, lowest) in enumerate(zip(scores, bound, strict=True)):
        candidates = np.flatnonzero(values >= lowest)
        top[row] = candidates[np.argsort(-values[candidates], kind="stable")[:size]]
    return top


def concatenate_ranges(starts: Longs, lengths: Longs) -> Longs:
    """The ranges start … start + length - 1, one after another."""
    offsets = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    return np.asarray(offsets + np.arange(int(lengths.sum())), dtype=np.int64)


def row_sums(row: Longs, column: Ints, values: Floats, shape: tuple[int, int]) -> Floats:
    """Values summed by row and column, as an array of this shape."""
    flat = np.bincount(row * shape[1] + column, weights=values, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float32)


def orders_since(histories: Histories, groups: Ints, customer: Longs, product: Longs) -> Floats:
    """(pairs,) orders since the customer last bought from the product's group, such as its brand.

    `groups` is (P,); -1 for products without a group. NaN for these, and if the customer never bought from the group.
    """
    count = len(groups)  # there are no more groups than products
    grouped = histories.is_bought & (groups[histories.product] >= 0)
    key = histories.customer[grouped] * count + groups[histories.product[grouped]]
    since = histories.orders_since[grouped]
    order = np.lexsort((since, key))
    known, first = np.unique(key[order], return_index=True)
    wanted = np.where(groups[product] >= 0, customer * count + groups[product], -1)
    position = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    is_known = known[position] == wanted if len(known) else np.zeros(len(wanted), bool)
    return np.where(is_known, since[order][first][position] if len(known) else 0, np.nan).astype(np.float32)
