"""ALS: product and customer factors from a window of interactions, by Spark ML or, on one machine, by `implicit`.

Folding a history into given product factors without Spark is in `fold_in.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from rec_assets.recsys.data.interactions import repartition
from rec_assets.recsys.recipe import AlsRecipe
from rec_assets.recsys.spark.sums import exact_mean, ordered_sum

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_FACTORS = "kind string, id string, factors array<float>"


def fit_als(interactions: DataFrame, recipe: AlsRecipe, *, seed: int, explicit: bool) -> DataFrame:
    """Factorise customers × products.

    Args:
        interactions: `interactions.history_lines`, of which returns don't count.
        recipe: Solver, rank, iterations, λ, α, half-life, floor of buyers.
        seed: Initial factors.
        explicit: Learn the `rating` column (mean per pair) instead of implicit confidence.

    Returns:
        kind ("customer" or "product"), id, factors (array<float>, rank long), sorted by kind and id. Products with
        fewer than `min_buyers` customers are absent, so are customers who have nothing else. Empty where no product
        has as many.

    Raises:
        ValueError: ratings were to be learned by a solver that can't, or the solver's library is missing.

    Source: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008, with
    r = Σ weight · 0.5^(age / half-life) over a pair's lines and confidence 1 + α·r.
    """
    from pyspark.sql import functions as F

    interactions = interactions.where(F.col("weight") >= 0)
    decayed = F.col("weight") * F.pow(F.lit(0.5), F.col("age_days") / recipe.half_life_days)
    if recipe.solver == "implicit":
        if explicit:
            raise ValueError("REC_RECIPE__ALS__SOLVER=implicit can't learn ratings: set it to spark")
        # Lines, as adding them up takes Spark longer than sending them.
        lines = interactions.select("customer_id", "product_id", decayed.alias("strength")).toArrow()
        return interactions.sparkSession.createDataFrame(fit_on_one_machine(lines, recipe, seed=seed))
    strength = exact_mean(F.col("rating")) if explicit else ordered_sum(decayed)
    pairs = interactions.groupBy("customer_id", "product_id").agg(strength.cast("float").alias("strength"))
    pairs = pairs.where(F.col("strength").isNotNull() & ~F.isnan("strength"))
    return _fit_in_spark(pairs, recipe, seed=seed, explicit=explicit)


def fit_on_one_machine(lines: pa.Table, recipe: AlsRecipe, *, seed: int) -> pa.Table:
    """Factorise by `implicit` (Frederickson), whose rows are solved by conjugate gradients (Takács et al. 2011).

    Args:
        lines: customer_id, product_id, strength; what the lines of a pair have is added up to its r.
        recipe, seed: As of `fit_als`.

    Returns:
        As `fit_als`.

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
    order = np.argsort(values)  # lines come in any order, and the sum of a pair's floats depends on it
    strength = sp.coo_matrix(
        (values[order], (customer[order], product[order])), (len(customers), len(products))
    ).tocsr()
    enough = np.bincount(strength.indices, minlength=len(products)) >= recipe.min_buyers
    strength, products = strength[:, enough], products.filter(pa.array(enough))
    known = np.diff(strength.indptr) > 0
    strength, customers = strength[known], customers.filter(pa.array(known))
    matrix = sp.csr_matrix(
        ((1 + recipe.alpha * strength.data).astype(np.float32), strength.indices, strength.indptr), strength.shape
    )
    with threadpool_limits(limits=1, user_api="blas"):  # it has threads of its own
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
    """Distinct ids, sorted, and the position of each row's among them."""
    encoded = pc.dictionary_encode(ids).combine_chunks()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return encoded.dictionary.take(order), place[encoded.indices.to_numpy()]


def _fit_in_spark(pairs: DataFrame, recipe: AlsRecipe, *, seed: int, explicit: bool) -> DataFrame:
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import functions as F

    enough = pairs.groupBy("product_id").count().where(F.col("count") >= recipe.min_buyers).select("product_id")
    pairs = pairs.join(F.broadcast(enough), "product_id", "left_semi").persist()
    if pairs.isEmpty():  # which ALS refuses
        return pairs.sparkSession.createDataFrame([], _FACTORS)
    customers, products = _numbered(pairs, "customer_id"), _numbered(pairs, "product_id")
    joined = pairs.join(customers, "customer_id").join(F.broadcast(products), "product_id")
    # Sorted, so that sums of floats inside ALS have one order whatever the join did.
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
        numUserBlocks=4,
        numItemBlocks=4,
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


def _numbered(pairs: DataFrame, column: str) -> DataFrame:
    """Distinct ids of a column with 0, 1, 2 … in their sorted order: Spark's ALS takes ints only."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    number = F.row_number().over(Window.orderBy(column)) - 1
    return pairs.select(column).distinct().withColumn(f"{column}_index", number)
