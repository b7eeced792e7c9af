"""EASE: weights from product to product from shared customers, counted in Spark and solved in numpy.

EASE needs the dense matrix of shared customers of all products, so it covers only the products with most buyers
(`ease_products`) and does not scale past about twenty thousand of them. The other sources do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.linalg import lapack

from rec_assets.recsys.recipe import CoPurchaseRecipe

_ROW_BLOCKS = 8


def ease_weights(purchases: DataFrame, recipe: CoPurchaseRecipe) -> pd.DataFrame:
    """Weights product → neighbor, from net purchases: how much a history with the product predicts the neighbor.

    With G the matrix of shared customers and P = (G + λI)⁻¹, the weight of i for j is -P_ij / P_jj. Source: Steck,
    "Embarrassingly shallow autoencoders for sparse data", 2019. For each j, the largest positive weights are kept, of
    pairs with enough shared customers.

    Returns:
        product_id, neighbor_id, weight (> 0, float32), support (shared customers).

    Raises:
        ValueError: λ is too small to solve the system in float32, because products are almost always bought together.
    """
    pairs = purchases.select("customer_id", "product_id").distinct().persist()
    buyers = pairs.groupBy("product_id").agg(F.count("*").alias("buyers"))
    # One row per product, small enough for the driver.
    products = buyers.orderBy(F.col("buyers").desc(), "product_id").limit(recipe.ease_products).toPandas()
    ids = np.sort(products["product_id"].to_numpy(object))
    index = purchases.sparkSession.createDataFrame(
        pd.DataFrame({"product_id": ids, "product": np.arange(len(ids), dtype=np.int32)}),
        schema="product_id string, product int",
    )
    histories = (
        pairs.join(F.broadcast(index), "product_id")
        .groupBy("customer_id")
        .agg(F.collect_set("product").alias("bought"))
    )
    blocks = F.array_distinct(F.transform("bought", lambda product: product % _ROW_BLOCKS))
    rows = (
        histories.select("bought", F.explode(blocks).alias("block"))
        .repartition(_ROW_BLOCKS, "block")
        .mapInArrow(_count_shared(len(ids)), schema="product int, others array<int>, shared array<float>")
    )
    shared = np.zeros((len(ids), len(ids)), np.float32)
    for product, others, counts in rows.toPandas().itertuples(index=False):
        shared[product, others] = counts
    pairs.unpersist()
    weights = solve(shared, recipe.ease_regularization)
    weights[shared < recipe.min_support] = 0
    strongest, keep = weights > 0, recipe.ease_neighbors
    if len(ids) > keep:
        strongest &= weights >= np.partition(weights, -keep, axis=0)[-keep]
    product, neighbor = np.nonzero(strongest)
    return pd.DataFrame(
        {
            "product_id": ids[product],
            "neighbor_id": ids[neighbor],
            "weight": weights[product, neighbor],
            "support": shared[product, neighbor].astype(np.int32),
        }
    )


def _count_shared(products: int) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function from batches (bought[], block) to rows: product, products with shared customers, their numbers.

    It sums batch by batch, so its memory does not depend on the number of customers.
    """

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        shared: dict[int, npt.NDArray[np.float32]] = {}
        for batch in map(pa.Table.from_batches, ([batch] for batch in batches)):
            for block in pc.unique(batch["block"]).to_pylist():
                bought = incidence(batch.filter(pc.field("block") == block)["bought"], products)
                counts = (bought[:, block::_ROW_BLOCKS].T @ bought).tocoo()
                total = shared.setdefault(block, np.zeros(counts.shape, np.float32))
                total[counts.row, counts.col] += counts.data
        for block, total in shared.items():
            row, column = np.nonzero(total)
            starts = np.searchsorted(row, np.arange(len(total) + 1)).astype(np.int32)
            yield pa.record_batch(
                {
                    "product": np.arange(block, products, _ROW_BLOCKS, dtype=np.int32),
                    "others": pa.ListArray.from_arrays(starts, column.astype(np.int32)),
                    "shared": pa.ListArray.from_arrays(starts, total[row, column]),
                }
            )

    return count


def solve(shared: npt.NDArray[np.float32], regularization: float) -> npt.NDArray[np.float32]:
    """(n, n) weights from (n, n) shared customers, with a diagonal of 0. Raises the error of `ease_weights`."""
    if not len(shared):
        return shared
    system = shared.copy()
    system[np.diag_indices_from(system)] += regularization
    # The matrix is symmetric and positive definite: half the work of a general inverse.
    factor, failed = lapack.spotrf(np.asfortranarray(system), lower=1, overwrite_a=1)
    if failed:
        raise ValueError(
            "EASE has no stable solution: raise REC_RECIPE__CO_PURCHASE__EASE_REGULARIZATION, which is "
            f"{regularization:g}"
        )
    half, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(half) + np.tril(half, -1).T
    weights = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0)
    return np.asarray(weights, np.float32)


def incidence(sets: pa.ChunkedArray, products: int) -> sp.csr_matrix:
    """(sets, products) 1 if a set, which is a list of positions, contains the product."""
    lengths = np.concatenate([[0], *(pc.list_value_length(chunk).to_numpy() for chunk in sets.chunks)])
    columns = np.concatenate([np.zeros(0, np.int32), *(chunk.flatten().to_numpy() for chunk in sets.chunks)])
    return sp.csr_matrix((np.ones(len(columns), np.float32), columns, np.cumsum(lengths)), (len(sets), products))
