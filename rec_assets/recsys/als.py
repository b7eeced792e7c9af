"""ALS on Spark ML: product and customer factors from a window of interactions.

Folding a history into given product factors without Spark is in `fold_in.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rec_assets.recsys.interactions import spread
from rec_assets.recsys.recipe import AlsRecipe

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def fit_als(interactions: DataFrame, recipe: AlsRecipe, *, seed: int, explicit: bool) -> DataFrame:
    """Factorise customers × products.

    Args:
        interactions: Purchases and interest (`interactions.purchases_and_interest`).
        recipe: Rank, iterations, λ, α, half-life, floor of buyers.
        seed: Initial factors.
        explicit: Learn the `rating` column (mean per pair) instead of implicit confidence.

    Returns:
        kind ("customer" or "product"), id, factors (array<float>, rank long), sorted by kind and id. Products with
        fewer than `min_buyers` customers are absent, so are customers who have nothing else.

    Source: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008, with
    r = Σ weight · 0.5^(age / half-life) over a pair's lines and confidence 1 + α·r.
    """
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import functions as F

    decayed = F.sum(F.col("weight") * F.pow(F.lit(0.5), F.col("age_days") / recipe.half_life_days))
    strength = F.avg("rating") if explicit else decayed
    pairs = interactions.groupBy("customer_id", "product_id").agg(strength.cast("float").alias("strength"))
    pairs = pairs.where(F.col("strength").isNotNull() & ~F.isnan("strength"))
    enough = pairs.groupBy("product_id").count().where(F.col("count") >= recipe.min_buyers).select("product_id")
    pairs = pairs.join(F.broadcast(enough), "product_id", "left_semi").persist()
    customers, products = _numbered(pairs, "customer_id"), _numbered(pairs, "product_id")
    joined = pairs.join(customers, "customer_id").join(F.broadcast(products), "product_id")
    # Sorted, so that sums of floats inside ALS have one order whatever the join did.
    indexed = spread(
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
