"""ALS: trains product and customer factors, with Spark ML or, on one machine, with the library `implicit`.

`sources/als.py` folds customers in: it computes their factors from product factors, without Spark.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from rec_assets.recsys.recipe import AlsRecipe
from rec_assets.recsys.spark.customers import repartition
from rec_assets.recsys.spark.sums import exact_mean, ordered_sum

_FACTORS = "kind string, id string, factors array<float>"

_PAIRS_OF_BLOCK, _MIN_BLOCKS, _MAX_BLOCKS = 1_000_000, 4, 200
"""Pairs of a block, and limits of the number of blocks, because Spark needs memory for each pair of blocks.

The number follows the data and not the cores, so that results do not depend on the cores.
"""

_IDS_OF_TASK = 1_000_000
"""Ids that one task numbers."""


def fit_als(lines: DataFrame, recipe: AlsRecipe, *, seed: int, explicit: bool) -> DataFrame:
    """Factorize customers × products.

    Args:
        lines: `interactions.history_lines`; returns and bulk orders are ignored.
        recipe, seed: Hyper-parameters, and the seed of the initial factors.
        explicit: Fit the `rating` column (mean per pair) instead of implicit feedback.

    Returns:
        kind ("customer" or "product"), id, factors (array<float> of length rank), sorted by kind and id. Products with
        fewer than `min_buyers` customers are absent, and so are customers who have no other products. Empty if no
        product has enough customers.

    Raises:
        ValueError: the solver can't fit ratings, or its library is missing.

    Source: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008, with
    r = Σ weight · 0.5^(age / half-life) over a pair's lines and confidence 1 + α·r.
    """
    lines = lines.where(F.col("weight") > 0)
    decayed = F.col("weight") * F.pow(F.lit(0.5), F.col("age_days") / recipe.half_life_days)
    if recipe.solver == "implicit":
        if explicit:
            raise ValueError("REC_RECIPE__ALS__SOLVER=implicit can't fit ratings: set it to spark")
        # Lines and not pairs, because summing them takes Spark longer than sending them.
        table = lines.select("customer_id", "product_id", decayed.alias("strength")).toArrow()
        return lines.sparkSession.createDataFrame(fit_on_one_machine(table, recipe, seed=seed))
    strength = exact_mean(F.col("rating")) if explicit else ordered_sum(decayed)
    pairs = lines.groupBy("customer_id", "product_id").agg(strength.cast("float").alias("strength"))
    pairs = pairs.where(F.col("strength").isNotNull() & ~F.isnan("strength"))
    return _fit_in_spark(pairs, recipe, seed=seed, explicit=explicit)


def fit_on_one_machine(lines: pa.Table, recipe: AlsRecipe, *, seed: int) -> pa.Table:
    """`fit_als` with `implicit` (Frederickson), which solves rows by conjugate gradients (Takács et al. 2011).

    `lines` are customer_id, product_id, strength. r of a pair is the sum over its lines.

    Raises:
        ValueError: the library is missing.
    """
    from threadpoolctl import threadpool_limits

    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ImportError:
        raise ValueError("REC_RECIPE__ALS__SOLVER=implicit needs: pip install 'rec_assets[implicit]'") from None

    products, product = _numbered_ids(lines["product_id"])
    customers, customer = _numbered_ids(lines["customer_id"])
    values = lines["strength"].to_numpy()
    order = np.argsort(values)  # a sum of floats depends on the order of lines, which varies
    shape = (len(customers), len(products))
    strength = sp.coo_matrix((values[order], (customer[order], product[order])), shape).tocsr()
    enough = np.bincount(strength.indices, minlength=len(products)) >= recipe.min_buyers
    strength, products = strength[:, enough], products.filter(pa.array(enough))
    known = np.diff(strength.indptr) > 0
    strength, customers = strength[known], customers.filter(pa.array(known))
    confidence = (1 + recipe.alpha * strength.data).astype(np.float32)
    matrix = sp.csr_matrix((confidence, strength.indices, strength.indptr), strength.shape)
    with threadpool_limits(limits=1, user_api="blas"):  # the library has its own threads
        model = AlternatingLeastSquares(
            factors=recipe.rank,
            iterations=recipe.iterations,
            regularization=recipe.implicit_regularization,
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    sides = [("customer", customers, model.user_factors), ("product", products, model.item_factors)]
    return pa.concat_tables(
        pa.table(
            {
                "kind": pa.repeat(kind, len(ids)),
                "id": ids,
                "factors": pa.ListArray.from_arrays(
                    np.arange(len(ids) + 1, dtype=np.int32) * recipe.rank, np.ascontiguousarray(factors).ravel()
                ),
            }
        )
        for kind, ids, factors in sides
    )


def _numbered_ids(ids: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Distinct ids, sorted, and the position of the id of each row among them."""
    encoded = pc.dictionary_encode(ids).combine_chunks()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return encoded.dictionary.take(order), position[encoded.indices.to_numpy()]


def _fit_in_spark(pairs: DataFrame, recipe: AlsRecipe, *, seed: int, explicit: bool) -> DataFrame:
    from pyspark.ml.recommendation import ALS

    enough = pairs.groupBy("product_id").count().where(F.col("count") >= recipe.min_buyers).select("product_id")
    pairs = pairs.join(F.broadcast(enough), "product_id", "left_semi").persist()
    count = pairs.count()
    if not count:  # Spark's ALS raises an error for no rows
        return pairs.sparkSession.createDataFrame([], _FACTORS)
    blocks = min(max(_MIN_BLOCKS, count // _PAIRS_OF_BLOCK), _MAX_BLOCKS)
    customers, products = number_ids(pairs, "customer_id"), number_ids(pairs, "product_id")
    joined = pairs.join(customers, "customer_id").join(F.broadcast(products), "product_id")
    # Sorted, so that sums of floats inside ALS do not depend on the join.
    indexed = repartition(
        joined.select("customer_id_index", "product_id_index", "strength"), "customer_id_index"
    ).sortWithinPartitions("customer_id_index", "product_id_index")
    model = ALS(
        rank=recipe.rank,
        maxIter=recipe.iterations,
        regParam=recipe.regularization,
        alpha=recipe.alpha,
        implicitPrefs=not explicit,
        userCol="customer_id_index",
        itemCol="product_id_index",
        ratingCol="strength",
        seed=seed,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
    ).fit(indexed)
    sides = [
        factors.join(index, factors["id"] == index[f"{key}_index"]).select(
            F.lit(kind).alias("kind"), F.col(key).alias("id"), F.col("features").alias("factors")
        )
        for kind, key, factors, index in (
            ("customer", "customer_id", model.userFactors, customers),
            ("product", "product_id", model.itemFactors, products),
        )
    ]
    return sides[0].unionByName(sides[1]).orderBy("kind", "id")


def number_ids(pairs: DataFrame, column: str, ids_of_task: int = _IDS_OF_TASK) -> DataFrame:
    """Distinct ids of a column, numbered 0, 1, 2 … as `<column>_index`, because Spark's ALS needs integers.

    Up to `ids_of_task` ids are numbered in sorted order. More ids are divided by their hash, and each part is sorted.
    """
    ids = pairs.select(column).distinct()
    parts = 1 + ids.count() // ids_of_task
    ids = ids.withColumn("part", F.pmod(F.xxhash64(column), F.lit(parts)).cast("int")).persist()
    counts: dict[int, int] = dict(ids.groupBy("part").count().collect())
    before = [sum(counts.get(other, 0) for other in range(part)) for part in range(parts)]
    number = F.row_number().over(Window.partitionBy("part").orderBy(column)) - 1
    first = F.element_at(F.array(*map(F.lit, before)), F.col("part") + 1)
    return ids.select(column, (first + number).cast("int").alias(f"{column}_index"))
