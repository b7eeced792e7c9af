"""Ranking metrics and metrics beyond accuracy, as formulas over frames and arrays.

All functions take these frames:
    recommendations: `customer_id`, `product_id`, `rank` (from 1; one product for each customer and rank).
    truth: `customer_id`, `product_id`; the distinct products that each customer bought.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

# Lists whose summed embeddings are in memory at once: 384 float32 each, so 30 MiB.
_BLOCK_LISTS = 20_000


def ranking_metrics(
    recommendations: pd.DataFrame, truth: pd.DataFrame, ks: Sequence[int] = (5, 10, 20)
) -> pd.DataFrame:
    r"""Six ranking metrics for each customer who bought something.

    `hit(r)` is 1 if the product at rank r was bought, else 0; `bought` is the number of products bought.

    - `precision@k` = Σ_{r≤k} hit(r) / k. The missing items of a list shorter than k count as misses.
    - `recall@k` = Σ_{r≤k} hit(r) / bought.
    - `ndcg@k` = DCG / ideal DCG, where DCG = Σ_{r≤k} hit(r) / log2(r + 1), and the ideal has hits at the first
      min(k, bought) ranks (Järvelin & Kekäläinen 2002, doi:10.1145/582415.582418; binary gain).
    - `map@k` = Σ_{r≤k} hit(r) · precision@r / min(k, bought): the average precision.
    - `mrr@k` = 1 / rank of the first hit, 0 without a hit (Voorhees 1999).
    - `hit_rate@k` = 1 if there is a hit, else 0.

    Args:
        recommendations: The lists of one model. Customers outside `truth` are ignored.

    Returns:
        One row for each customer of `truth`, sorted by `customer_id` (the index); one column for each metric and k,
        such as `ndcg@10`. A customer without recommendations has 0 in each.

    Raises:
        ValueError: A rank is below 1, two products share a rank, a bought product is twice in a list, or a pair is
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
    """(customers, depth): 1 if the customer bought the product at rank column + 1, else 0."""
    products = pd.Index(truth["product_id"].unique())

    def pair_codes(pairs: pd.DataFrame) -> NDArray[np.int64]:
        # Each (customer, product) pair as one integer: much faster than a merge.
        customer = customers.get_indexer(pd.Index(pairs["customer_id"])).astype(np.int64)
        product = products.get_indexer(pd.Index(pairs["product_id"]))
        return np.where((customer >= 0) & (product >= 0), customer * len(products) + product, -1)

    bought = pair_codes(truth)
    if len(np.unique(bought)) < len(bought):
        raise ValueError("a pair of customer and product is twice in truth")

    top = recommendations[recommendations["rank"] <= depth]
    if (top["rank"] < 1).any():
        raise ValueError("ranks must be at least 1")
    recommended = pair_codes(top)
    hit = np.isin(recommended, bought)
    if len(np.unique(recommended[hit])) < hit.sum():
        raise ValueError("a product is recommended twice to one customer")

    row = customers.get_indexer(pd.Index(top["customer_id"]))
    cell = row.astype(np.int64) * depth + top["rank"].to_numpy() - 1
    if np.bincount(cell[row >= 0], minlength=1).max() > 1:
        raise ValueError("two recommendations to one customer share a rank")
    hits = np.zeros(len(customers) * depth)
    hits[cell[hit]] = 1.0
    return hits.reshape(len(customers), depth)


def catalog_coverage(recommendations: pd.DataFrame, *, k: int, catalog_size: int) -> float:
    """Share of the catalog that is in at least one top k; NaN for an empty catalog.

    Raises:
        ValueError: More products are recommended than the catalog has.

    >>> lists = pd.DataFrame({"customer_id": ["a", "b"], "product_id": ["milk", "milk"], "rank": [1, 1]})
    >>> catalog_coverage(lists, k=10, catalog_size=4)
    0.25
    """
    shown = len(_exposures(recommendations, k, catalog_size))
    return shown / catalog_size if catalog_size else float("nan")


def gini(recommendations: pd.DataFrame, *, k: int, catalog_size: int) -> float:
    """Gini coefficient of the exposures: how unevenly the top k positions are distributed over all products.

    Σ_i (2i − n − 1) x_i / (n Σ x), for the exposures x in ascending order and i from 1 to n = `catalog_size`. 0: all
    products are shown equally often. Close to 1: one product takes all positions. NaN without recommendations.

    Raises:
        ValueError: More products are recommended than the catalog has.

    >>> lists = pd.DataFrame({"customer_id": ["a", "b"], "product_id": ["milk", "tea"], "rank": [1, 1]})
    >>> gini(lists, k=10, catalog_size=2), gini(lists, k=10, catalog_size=4)
    (0.0, 0.5)
    """
    shown = np.sort(_exposures(recommendations, k, catalog_size))
    if len(shown) == 0:
        return float("nan")
    # Products that are never shown add 0 to the sum, but they come first in the order.
    position = np.arange(catalog_size - len(shown) + 1, catalog_size + 1)
    return float(((2 * position - catalog_size - 1) * shown).sum() / (catalog_size * shown.sum()))


def _exposures(recommendations: pd.DataFrame, k: int, catalog_size: int) -> NDArray[np.int64]:
    """(shown products,): the number of lists that have each product in the top k."""
    shown = recommendations.loc[recommendations["rank"] <= k, "product_id"].value_counts()
    if len(shown) > catalog_size:
        raise ValueError(f"{len(shown)} products are recommended out of a catalog of {catalog_size}")
    return shown.to_numpy().astype(np.int64)


def novelty(recommendations: pd.DataFrame, *, k: int, buyers: pd.Series, customers: int) -> float:
    """Mean self-information of the products in the top k, in bits: how far the lists are from best sellers.

    −log2((buyers + 1) / (customers + 1)), averaged over all positions (Zhou et al. 2010, doi:10.1073/pnas.1000488107;
    add-one smoothing for products without buyers). A product bought by half of the customers has 1 bit, one bought by a
    thousandth has 10 bits. NaN without recommendations.

    Args:
        buyers: Number of distinct customers who bought the product, by `product_id`; missing means 0.
        customers: Number of all customers.

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

    Ziegler et al. 2005, doi:10.1145/1060745.1060754. The mean over all pairs of n unit vectors is
    (‖Σ v‖² − n) / (n (n − 1)), which needs no loop over pairs.

    Args:
        rows: Row of `vectors` by `product_id`; products can share a row. Missing products are left out.
        vectors: (texts, dimensions) embeddings of unit length.

    Returns:
        Between 0 (all products equal) and 2; NaN if no list has two products with an embedding.

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
