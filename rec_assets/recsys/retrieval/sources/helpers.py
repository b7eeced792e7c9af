"""Functions that several sources share: scores by column, neighbors of profile items, the best products of a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask
from rec_assets.recsys.compiled import compiled
from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.data.product_snapshot import Edges
from rec_assets.recsys.retrieval.sources.base import CustomerBlock, FeatureValues, ItemWeights, Pairs

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
        return take(self.values, customer, self.column, product)

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


@compiled
def take(values: Floats, customer: Longs, column: Ints, product: Longs) -> Floats:
    """(pairs,) `values[customer, column[product]]`."""
    out = np.empty(len(customer), np.float32)
    for pair in range(len(customer)):
        out[pair] = values[customer[pair], column[product[pair]]]
    return out


def neighbor_scores(block: CustomerBlock, edges: Edges, column: Ints) -> NeighborScores:
    """Sum, over the items of a customer, of item weight × edge weight.

    `edges` lead to U + 1 columns, of which the last one gets no edge; `column` is (P,), see `ProductScores`.
    """
    of_edges = edges.starts, edges.ends, edges.column, edges.weight, edges.columns
    profile, last_visit = (
        _sums_of_edges(items.starts, items.items, items.weights, *of_edges)
        for items in (block.profile, block.last_visit)
    )
    return NeighborScores(ProductScores(profile, column), ProductScores(last_visit, column))


@compiled
def _sums_of_edges(
    begins: Ints, items: Ints, item_weight: Floats, starts: Longs, ends: Longs, column: Ints, edge_weight: Floats,
    columns: int,
) -> Floats:  # fmt: skip
    out = np.zeros((len(begins) - 1, columns), np.float32)
    for row in range(len(out)):
        for place in range(begins[row], begins[row + 1]):
            item, weight = items[place], item_weight[place]
            for edge in range(starts[item], ends[item]):
                out[row, column[edge]] += weight * edge_weight[edge]
    return out


def strongest_items(histories: Histories, weights: Floats, most: int) -> ItemWeights:
    """At most `most` items of each customer, those with the greatest positive weights. Ties go to the lower position.

    `weights` are (N,), those of the pairs of the histories.
    """
    pairs = histories.customer, histories.product, weights
    return ItemWeights(*_strongest_items(*pairs, len(histories.customer_ids), most))


@compiled
def _strongest_items(
    customer: Longs, product: Longs, weight: Floats, customers: int, most: int
) -> tuple[Ints, Ints, Floats]:
    starts = np.zeros(customers + 1, np.int32)
    items, share = np.empty(len(product), np.int32), np.empty(len(product), np.float32)
    begin = end = 0
    for row in range(customers):
        first = begin
        while begin < len(customer) and customer[begin] == row:
            begin += 1
        lowest, tied = np.float32(0), 0
        if begin - first > most:
            lowest, tied = _kth_largest(weight[first:begin].copy(), most), most
            for pair in range(first, begin):
                tied -= weight[pair] > lowest
        total = 0.0
        for pair in range(first, begin):
            if weight[pair] > lowest or (weight[pair] == lowest and tied > 0):
                tied -= weight[pair] == lowest
                items[end], share[end] = product[pair], weight[pair]
                total += weight[pair]
                end += 1
        for place in range(starts[row], end):
            share[place] = share[place] / max(total, 1e-12)
        starts[row + 1] = end
    return starts, items[:end], share[:end]


def heaviest_items(items: ItemWeights, graph: sp.csr_matrix, customer: Longs, product: Longs) -> Longs:
    """(pairs,) the item of the pair's customer with the largest item weight × edge weight to the product; -1 for none.

    Args:
        items: Weights of items, such as `Candidates.profile`. Ties go to the item with the lowest position.
        graph: (P, P) edge weights.
        customer, product: (pairs,) sorted by customer and product, without duplicates.
    """
    pairs = np.searchsorted(customer, np.arange(len(items.starts)))
    of_graph = graph.indptr, graph.indices, graph.data
    return np.asarray(_heaviest_items(items.starts, items.items, items.weights, *of_graph, pairs, product))


@compiled
def _heaviest_items(
    begins: Ints, items: Ints, item_weight: Floats, indptr: Ints, indices: Ints, edge_weight: Floats, pairs: Longs,
    product: Longs,
) -> Longs:  # fmt: skip
    out, largest = np.empty(len(product), np.int64), np.zeros(len(product), np.float32)
    place_of = np.zeros(len(indptr) - 1, np.int64)  # 1 + place of each product among the pairs of the customer
    for row in range(len(begins) - 1):
        for pair in range(pairs[row], pairs[row + 1]):
            out[pair], place_of[product[pair]] = -1, pair + 1
        for place in range(begins[row], begins[row + 1]):
            item = items[place]
            for edge in range(indptr[item], indptr[item + 1]):
                pair = place_of[indices[edge]] - 1
                weight = item_weight[place] * edge_weight[edge]
                if pair >= 0 and weight > largest[pair]:
                    out[pair], largest[pair] = item, weight
        for pair in range(pairs[row], pairs[row + 1]):
            place_of[product[pair]] = 0
    return out


def best_unbought(block: CustomerBlock, products: Longs, scores: Floats, size: int) -> Pairs:
    """The `size` products of each customer with the highest positive scores, without products bought before.

    `products` are positions to choose from, ascending. `scores` are (n, len(products) or more): further columns are
    ignored. Ties go to the lower position.
    """
    pairs: Pairs = _best_unbought(products, np.ascontiguousarray(scores, np.float32), block.bought, size)
    return pairs


@compiled
def _best_unbought(products: Longs, scores: Floats, bought: Mask, size: int) -> tuple[Longs, Longs]:
    customer, product = np.empty(len(bought) * size, np.int64), np.empty(len(bought) * size, np.int64)
    found, found_score = np.empty(4 * size + 1, np.int64), np.empty(4 * size + 1, np.float32)
    end = 0
    for row in range(len(bought) if size else 0):
        # Holds the best products so far, and some more. Later products must be better than the worst of the best.
        count, lowest = 0, np.float32(0)
        of_row, is_bought = scores[row], bought[row]
        for place in range(len(products)):
            if of_row[place] > lowest and not is_bought[products[place]]:
                found[count], found_score[count] = products[place], of_row[place]
                count += 1
                if count == len(found):
                    count, lowest = _keep_best(found, found_score, count, size)
        if count > size:
            count, lowest = _keep_best(found, found_score, count, size)
        for place in range(count):
            customer[end], product[end] = row, found[place]
            end += 1
    return customer[:end], product[:end]


def best_of_groups(starts: Longs, products: Longs, scores: Floats, excluded: Mask, size: int) -> Pairs:
    """The `size` products of each customer with the highest positive scores, among groups that share a score.

    Args:
        starts: (groups + 1,) start of each group in `products`.
        scores: (n, groups or more).
        excluded: (n, P) products not to choose.
    """
    pairs: Pairs = _best_of_groups(starts, products, scores, excluded, size)
    return pairs


@compiled
def _best_of_groups(starts: Longs, products: Longs, scores: Floats, excluded: Mask, size: int) -> tuple[Longs, Longs]:
    customer, product = np.empty(len(excluded) * size, np.int64), np.empty(len(excluded) * size, np.int64)
    found, found_score = np.empty(4 * size + 1, np.int64), np.empty(4 * size + 1, np.float32)
    end = 0
    for row in range(len(excluded) if size else 0):
        count, lowest = 0, np.float32(0)
        for group in range(len(starts) - 1):
            score = scores[row, group]
            if score <= 0 or score < lowest:  # an equal score wins with a lower position
                continue
            for place in range(starts[group], starts[group + 1]):
                if not excluded[row, products[place]]:
                    found[count], found_score[count] = products[place], score
                    count += 1
                    if count == len(found):
                        count, lowest = _keep_best(found, found_score, count, size)
        if count > size:
            count, lowest = _keep_best(found, found_score, count, size)
        for place in range(count):
            customer[end], product[end] = row, found[place]
            end += 1
    return customer[:end], product[:end]


@compiled
def _keep_best(found: Longs, score: Floats, count: int, size: int) -> tuple[int, np.float32]:
    """Move the `size` best of `count` > `size` products to the front, ties by position: `size`, the lowest score."""
    lowest = _kth_largest(score[:count].copy(), size)
    tied, above, ties = np.empty(count, np.int64), 0, 0
    for place in range(count):
        above += score[place] > lowest
        if score[place] == lowest:
            tied[ties] = found[place]
            ties += 1
    last = _kth_largest(tied[:ties], ties - (size - above) + 1)
    kept = 0
    for place in range(count):
        if score[place] > lowest or (score[place] == lowest and found[place] <= last):
            found[kept], score[kept] = found[place], score[place]
            kept += 1
    return kept, lowest


@compiled
def _kth_largest(values: npt.NDArray[Any], k: int) -> Any:
    """The k-th largest value, from 1; `values` change their order. Quickselect (Hoare 1961).

    numba's own partition compiles longer than everything else here.
    """
    low, high, wanted = 0, len(values) - 1, len(values) - k
    while low < high:
        pivot, left, right = values[(low + high) // 2], low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if wanted <= right:
            high = right
        elif wanted >= left:
            low = left
        else:
            break
    return values[wanted]


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


def row_sums(row: Longs, column: Ints, values: Floats, shape: tuple[int, int]) -> Floats:
    """Values summed by row and column, as an array of this shape."""
    flat = np.bincount(row * shape[1] + column, weights=values, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float32)


def group_sums(histories: Histories, weights: Floats, groups: Ints, customer: Longs, product: Longs) -> Floats:
    """(pairs,) sum of the weights of the customer's pairs whose product is in the product's group.

    `weights` are (N,), those of the pairs of the histories. `groups` is (P,); -1 for products without a group, which
    get 0. The pairs are sorted by customer.
    """
    sums = _group_sums(histories.customer, histories.product, weights, groups, customer, product)
    return np.asarray(sums)


@compiled
def _group_sums(
    known_customer: Longs, known_product: Longs, weight: Floats, groups: Ints, customer: Longs, product: Longs
) -> Floats:
    out = np.zeros(len(product), np.float32)
    last_group = 0
    for each in known_product:
        last_group = max(last_group, groups[each])
    total = np.zeros(last_group + 1, np.float32)
    first = begin = 0
    while begin < len(customer):
        while first < len(known_customer) and known_customer[first] < customer[begin]:
            first += 1
        last = first
        while last < len(known_customer) and known_customer[last] == customer[begin]:
            group = groups[known_product[last]]
            if group >= 0:
                total[group] += weight[last]
            last += 1
        end = begin
        while end < len(customer) and customer[end] == customer[begin]:
            group = groups[product[end]]
            if group >= 0 and group <= last_group:
                out[end] = total[group]
            end += 1
        for pair in range(first, last):
            group = groups[known_product[pair]]
            if group >= 0:
                total[group] = 0
        begin = end
    return out


def orders_since(histories: Histories, groups: Ints, customer: Longs, product: Longs) -> Floats:
    """(pairs,) orders since the customer last bought from the product's group, such as its brand.

    `groups` is (P,); -1 for products without a group. NaN for these, and if the customer never bought from the group.
    The pairs are sorted by customer.
    """
    known = histories.customer, histories.product, histories.orders_since
    return np.asarray(_orders_since(*known, groups, customer, product))


@compiled
def _orders_since(
    known_customer: Longs, known_product: Longs, since: Floats, groups: Ints, customer: Longs, product: Longs
) -> Floats:
    out = np.empty(len(product), np.float32)
    last_group = 0
    for each in known_product:
        last_group = max(last_group, groups[each])
    for each in product:
        last_group = max(last_group, groups[each])
    latest = np.zeros(last_group + 1, np.float32)  # orders since + 1, by group; 0 = none
    first = begin = 0
    while begin < len(customer):
        while first < len(known_customer) and known_customer[first] < customer[begin]:
            first += 1
        last = first
        while last < len(known_customer) and known_customer[last] == customer[begin]:
            group = groups[known_product[last]]
            if group >= 0 and since[last] >= 0 and (latest[group] == 0 or since[last] + 1 < latest[group]):
                latest[group] = since[last] + 1
            last += 1
        end = begin
        while end < len(customer) and customer[end] == customer[begin]:
            group = groups[product[end]]
            out[end] = latest[group] - 1 if group >= 0 and latest[group] > 0 else np.nan
            end += 1
        for pair in range(first, last):
            group = groups[known_product[pair]]
            if group >= 0:
                latest[group] = 0
        begin = end
    return out
