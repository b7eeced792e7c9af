"""The measures themselves: how good one set of lists is, and how sure we are of it.

Here belong formulas over plain frames and arrays. Which customers and purchases are judged, and which models
are compared, is decided in `judge`; how it is shown, in `report`.

Frames, throughout:
    recommendations: `customer_id`, `product_id`, `rank` (from 1; at most one product per customer and rank).
    truth: `customer_id`, `product_id`; the distinct products that each customer bought.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

RANKING_METRICS = ("precision", "recall", "ndcg", "map", "mrr", "hit_rate")

# Resampling works on blocks of this many (resample × customer) cells: 32 MiB of float64, whatever the data.
_BLOCK_CELLS = 4_194_304
# Lists whose summed embeddings are held at once: 384 float32 each, so 30 MiB.
_BLOCK_LISTS = 20_000


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval, each a scalar or an array of shape (columns,)."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def ranking_metrics(
    recommendations: pd.DataFrame, truth: pd.DataFrame, ks: Sequence[int] = (5, 10, 20)
) -> pd.DataFrame:
    r"""Six ranking metrics for each customer who bought something.

    With `h_r` = 1 if the product at rank r was bought and 0 otherwise, and R the number of products bought:

    - `precision@k` = Σ_{r≤k} h_r / k. A list shorter than k is punished: its empty places are misses.
    - `recall@k` = Σ_{r≤k} h_r / R.
    - `ndcg@k` = DCG / ideal DCG, where DCG = Σ_{r≤k} h_r / log2(r + 1) and the ideal has its first min(k, R)
      places right (Järvelin & Kekäläinen 2002, doi:10.1145/582415.582418; binary gain).
    - `map@k` = Σ_{r≤k} h_r · precision@r / min(k, R): the average precision, 1 for a list that could not be
      better.
    - `mrr@k` = 1 / rank of the first hit, 0 without one (Voorhees 1999).
    - `hit_rate@k` = 1 if there is any hit, else 0.

    Args:
        recommendations: One set of lists. Customers outside `truth` are ignored.
        truth: What was bought.
        ks: Depths at which lists are cut.

    Returns:
        One row per customer of `truth`, sorted by `customer_id` (the index); one column per metric and k,
        named `ndcg@10` and so on. A customer without recommendations scores 0 in each.

    Raises:
        ValueError: A rank below 1, two products on one rank, a bought product twice in a list, or a pair
            twice in `truth`.

    >>> lists = pd.DataFrame({"customer_id": ["a", "a"], "product_id": ["milk", "tea"], "rank": [1, 2]})
    >>> truth = pd.DataFrame({"customer_id": ["a", "a", "b"], "product_id": ["tea", "salt", "milk"]})
    >>> ranking_metrics(lists, truth, ks=[2]).round(3).T
    customer_id      a    b
    precision@2  0.500  0.0
    recall@2     0.500  0.0
    ndcg@2       0.387  0.0
    map@2        0.250  0.0
    mrr@2        0.500  0.0
    hit_rate@2   1.000  0.0
    """
    bought = truth.groupby("customer_id", observed=True).size()
    hits = _hit_matrix(recommendations, truth, bought.index, depth=max(ks))
    relevant = bought.to_numpy()

    ranks = np.arange(1, hits.shape[1] + 1)
    found = hits.cumsum(axis=1)
    discounts = 1 / np.log2(ranks + 1)
    dcg = (hits * discounts).cumsum(axis=1)
    ideal_dcg = discounts.cumsum()
    summed_precision = (hits * found / ranks).cumsum(axis=1)
    reciprocal_rank = (hits / ranks).max(axis=1, initial=0.0)

    columns: dict[str, NDArray[np.float64]] = {}
    for k in ks:
        reachable = np.minimum(relevant, k)
        columns[f"precision@{k}"] = found[:, k - 1] / k
        columns[f"recall@{k}"] = found[:, k - 1] / relevant
        columns[f"ndcg@{k}"] = dcg[:, k - 1] / ideal_dcg[reachable - 1]
        columns[f"map@{k}"] = summed_precision[:, k - 1] / reachable
        columns[f"mrr@{k}"] = np.where(reciprocal_rank >= 1 / k, reciprocal_rank, 0.0)
        columns[f"hit_rate@{k}"] = (found[:, k - 1] > 0).astype(np.float64)
    return pd.DataFrame(columns, index=bought.index)


def _hit_matrix(
    recommendations: pd.DataFrame, truth: pd.DataFrame, customers: pd.Index, depth: int
) -> NDArray[np.float64]:
    """1 where the customer (row) bought what stands at the rank (column r − 1); shape (customers, depth)."""
    products = pd.Index(truth["product_id"].unique())

    def pair_codes(pairs: pd.DataFrame) -> NDArray[np.int64]:
        # Every (customer, product) as one integer: looking those up takes a fraction of a merge's time.
        customer = customers.get_indexer(pd.Index(pairs["customer_id"])).astype(np.int64)
        product = products.get_indexer(pd.Index(pairs["product_id"]))
        return np.where((customer >= 0) & (product >= 0), customer * len(products) + product, -1)

    bought = pair_codes(truth)
    if len(np.unique(bought)) < len(bought):
        raise ValueError("truth names a product twice for one customer")

    top = recommendations[recommendations["rank"] <= depth]
    if (top["rank"] < 1).any():
        raise ValueError("ranks count from 1")
    recommended = pair_codes(top)
    hit = np.isin(recommended, bought)
    if len(np.unique(recommended[hit])) < hit.sum():
        raise ValueError("a product is recommended twice to one customer")

    row = customers.get_indexer(pd.Index(top["customer_id"]))
    place = row.astype(np.int64) * depth + top["rank"].to_numpy() - 1
    if np.bincount(place[row >= 0], minlength=1).max() > 1:
        raise ValueError("two recommendations to one customer share a rank")
    hits = np.zeros(len(customers) * depth)
    hits[place[hit]] = 1.0
    return hits.reshape(len(customers), depth)


def catalog_coverage(recommendations: pd.DataFrame, *, k: int, catalog_size: int) -> float:
    """Share of the catalog that is shown to anyone: |products in any top k| / `catalog_size`; NaN of no catalog.

    Raises:
        ValueError: More products are shown than the catalog has.

    >>> lists = pd.DataFrame({"customer_id": ["a", "b"], "product_id": ["milk", "milk"], "rank": [1, 1]})
    >>> catalog_coverage(lists, k=10, catalog_size=4)
    0.25
    """
    shown = len(_exposures(recommendations, k, catalog_size))
    return shown / catalog_size if catalog_size else float("nan")


def gini(recommendations: pd.DataFrame, *, k: int, catalog_size: int) -> float:
    """How unevenly the places in the top k are shared out among all products, those never shown included.

    G = Σ_i (2i − n − 1) x_i / (n Σ x), with x ascending and i from 1 to n = `catalog_size`. 0: every
    product is shown equally often; toward 1: a single product takes every place. NaN when nothing is shown.

    Raises:
        ValueError: More products are shown than the catalog has.

    >>> lists = pd.DataFrame({"customer_id": ["a", "b"], "product_id": ["milk", "tea"], "rank": [1, 1]})
    >>> gini(lists, k=10, catalog_size=2), gini(lists, k=10, catalog_size=4)
    (0.0, 0.5)
    """
    shown = np.sort(_exposures(recommendations, k, catalog_size))
    if len(shown) == 0:
        return float("nan")
    # Products never shown add nothing to the sum: they only push the shown ones to the end of the order.
    position = np.arange(catalog_size - len(shown) + 1, catalog_size + 1)
    return float(((2 * position - catalog_size - 1) * shown).sum() / (catalog_size * shown.sum()))


def _exposures(recommendations: pd.DataFrame, k: int, catalog_size: int) -> NDArray[np.int64]:
    """In how many top k each shown product stands; shape (shown products,)."""
    shown = recommendations.loc[recommendations["rank"] <= k, "product_id"].value_counts()
    if len(shown) > catalog_size:
        raise ValueError(f"{len(shown)} products are recommended out of a catalog of {catalog_size}")
    return shown.to_numpy().astype(np.int64)


def novelty(recommendations: pd.DataFrame, *, k: int, buyers: pd.Series, customers: int) -> float:
    """Mean self-information of the products in the top k, in bits: how far from bestsellers the lists reach.

    −log2((buyers + 1) / (customers + 1)), averaged over all places shown (Zhou et al. 2010,
    doi:10.1073/pnas.1000488107; add-one smoothing gives a product nobody bought a finite value). A product
    bought by half of the customers is worth 1 bit, one bought by a thousandth 10 bits. NaN when nothing is
    shown.

    Args:
        recommendations: One set of lists.
        k: Depth at which lists are cut.
        buyers: Number of distinct customers who bought the product, by `product_id`; absent means none.
        customers: Number of customers the buyers were counted among.

    >>> lists = pd.DataFrame({"customer_id": ["a", "a"], "product_id": ["milk", "new"], "rank": [1, 2]})
    >>> novelty(lists, k=10, buyers=pd.Series({"milk": 7}), customers=7)
    1.5
    """
    products = recommendations.loc[recommendations["rank"] <= k, "product_id"]
    bought_by = products.map(buyers).fillna(0).to_numpy(np.float64)
    if len(bought_by) == 0:
        return float("nan")
    return float(np.mean(np.log2((customers + 1) / (bought_by + 1))))


def intra_list_diversity(
    recommendations: pd.DataFrame, *, k: int, rows: pd.Series, vectors: NDArray[np.float32]
) -> float:
    """How different the products of one list are: 1 − mean pairwise cosine in the top k, averaged over lists.

    Ziegler et al. 2005, doi:10.1145/1060745.1060754. The mean over all pairs of n unit vectors comes without
    visiting the pairs: (‖Σ v‖² − n) / (n (n − 1)).

    Args:
        recommendations: One set of lists.
        k: Depth at which lists are cut.
        rows: Row of `vectors` by `product_id`; several products may share one. Absent products are left out.
        vectors: Embeddings of unit length, shape (texts, dimensions).

    Returns:
        Between 0 (all alike) and 2; NaN when no list has two products with an embedding.

    >>> lists = pd.DataFrame({"customer_id": ["a", "a"], "product_id": ["milk", "soap"], "rank": [1, 2]})
    >>> rows, vectors = pd.Series({"milk": 0, "soap": 1}), np.eye(2, dtype=np.float32)
    >>> intra_list_diversity(lists, k=10, rows=rows, vectors=vectors)
    1.0
    """
    top = recommendations[recommendations["rank"] <= k]
    row = top["product_id"].map(rows)
    embedded = row.notna().to_numpy()
    if not embedded.any():
        return float("nan")
    lists, names = pd.factorize(top.loc[embedded, "customer_id"])
    columns = row[embedded].to_numpy(np.int64)
    membership = sparse.csr_array(
        (np.ones(len(columns), dtype=np.float32), (lists, columns)), shape=(len(names), len(vectors))
    )
    sizes = np.bincount(lists)
    squared_norms = np.concatenate(
        [
            np.square(membership[start : start + _BLOCK_LISTS] @ vectors).sum(axis=1, dtype=np.float64)
            for start in range(0, len(names), _BLOCK_LISTS)
        ]
    )
    pairs = sizes > 1
    if not pairs.any():
        return float("nan")
    n = sizes[pairs]
    return float(np.mean(1 - (squared_norms[pairs] - n) / (n * (n - 1))))


def bootstrap_interval(values: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int) -> Interval:
    """The mean over customers with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Customers, not purchases, are drawn again with replacement: the purchases of one customer hang together.
    All columns see the same draws, so intervals of several models or metrics are comparable and cost one
    pass.

    Args:
        values: One value per customer, shape (customers,) or (customers, columns).
        resamples: How often the customers are drawn again.
        level: Share of resampled means between the two ends.
        seed: Same seed, same interval.

    Returns:
        Mean, low and high end; scalars for one-dimensional values, else arrays of shape (columns,).

    Raises:
        ValueError: There are no customers.

    >>> mean, low, high = bootstrap_interval([0, 1, 1, 0, 1, 0, 1, 0], seed=1)
    >>> f"{mean:.3f}, {low:.3f} to {high:.3f}"
    '0.500, 0.125 to 0.875'
    """
    table = np.asarray(values, dtype=np.float64)
    customers = len(table)
    if customers == 0:
        raise ValueError("a mean needs at least one customer")
    columns = table.reshape(customers, -1)
    draw = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    block = max(1, _BLOCK_CELLS // customers)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = draw.integers(customers, size=(rows, customers)) + np.arange(rows)[:, None] * customers
        weights = np.bincount(drawn.ravel(), minlength=rows * customers).reshape(rows, customers)
        means[start : start + rows] = weights.astype(np.float64) @ columns / customers
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    shape = table.shape[1:]
    return Interval(columns.mean(axis=0).reshape(shape), low.reshape(shape), high.reshape(shape))


def paired_bootstrap_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """The mean of `a − b` over the same customers, with its percentile bootstrap interval.

    Much narrower than comparing the two models' own intervals, since customers who are easy (or hard) for one
    are so for the other too. Where the interval leaves out 0, the difference is more than chance at that
    level.

    Args:
        a: Values of one model, shape (customers,) or (customers, columns).
        b: Values of the other on the same customers in the same order; shape of `a`, or one that broadcasts
            to it.
        resamples: How often the customers are drawn again.
        level: Share of resampled differences between the two ends.
        seed: Same seed, same interval.

    Returns:
        Mean difference, low and high end; scalars, or arrays of shape (columns,).

    Raises:
        ValueError: There are no customers, or the two are of different length.

    >>> mean, low, high = paired_bootstrap_difference([0.5, 0.7, 0.2], [0.4, 0.6, 0.1], seed=1)
    >>> f"{mean:.2f}, {low:.2f} to {high:.2f}"
    '0.10, 0.10 to 0.10'
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(first) != len(second):
        raise ValueError(f"not the same customers: {len(first)} and {len(second)} values")
    return bootstrap_interval(first - second, resamples=resamples, level=level, seed=seed)
