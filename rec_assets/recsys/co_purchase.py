"""The co-purchase graph: which product goes with, and which follows, another one; computed in Spark."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from rec_assets.recsys.recipe import CoPurchaseRecipe

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SAME_BASKET, NEXT_BASKET = "same_basket", "next_basket"

_ANCHOR_BLOCKS = 8
_EDGES = "kind string, product int, neighbour int, weight float, support int"


def co_purchase_graph(purchases: DataFrame, recipe: CoPurchaseRecipe) -> DataFrame:
    """Weights product → neighbour, from baskets shared and from one shopping day to the next.

    The weight of i → j is Σ 0.5^(age/half-life) over the baskets in which j goes with (or follows) i, divided by
    the decayed baskets of i (so it estimates P(j | i)) and by those of j to the power of `popularity_damping`
    (so that best sellers are not everybody's neighbour). Source: the asymmetric cosine of Aiolli, "Efficient
    top-N recommendation for very large scale binary rated datasets", 2013.

    Args:
        purchases: Net purchases (`interactions.net_purchases`).
        recipe: Decay, floor of support, neighbours kept, damping.

    Returns:
        kind, product_id, neighbour_id, weight (> 0), support (baskets), sorted by kind, product, falling weight.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    lines = purchases.select("customer_id", "order_id", "product_id", "age_days").distinct().persist()
    # Products too rare to reach the support can't have a neighbour.
    frequent = lines.groupBy("product_id").count().where(F.col("count") >= recipe.min_support)
    decay = F.pow(F.lit(0.5), F.col("age_days") / recipe.half_life_days)
    degrees = lines.join(frequent, "product_id").groupBy("product_id").agg(F.sum(decay).alias("degree"))
    # Product-sized, so it may come to the driver; lines and customers never do.
    products = degrees.orderBy("product_id").toPandas()
    spark = purchases.sparkSession
    index = spark.createDataFrame(
        pd.DataFrame({"product_id": products["product_id"], "product": np.arange(len(products), dtype=np.int32)}),
        schema="product_id string, product int",
    )
    lines = lines.join(F.broadcast(index), "product_id").select("customer_id", "order_id", "product", "age_days")

    basket = F.slice(F.sort_array(F.collect_set("product")), 1, recipe.max_basket).alias("basket")
    orders = lines.groupBy("customer_id", "order_id").agg(basket, F.min("age_days").alias("age_days"))
    itself = F.lit(None).cast("array<int>").alias("other")  # the basket itself, not sent twice
    same = orders.select(F.lit(SAME_BASKET).alias("kind"), "basket", itself, "age_days")
    days = lines.groupBy("customer_id", "age_days").agg(basket)
    following = Window.partitionBy("customer_id").orderBy(F.col("age_days").desc())
    next_ = (
        days.withColumn("other", F.lead("basket").over(following))
        .withColumn("age_days", F.lead("age_days").over(following))
        .where(F.col("other").isNotNull())
        .select(F.lit(NEXT_BASKET).alias("kind"), "basket", "other", "age_days")
    )
    # A basket goes once to each block of anchors that it holds, not once to each anchor: the sums are then products of
    # sparse matrices.
    blocks = F.array_distinct(F.transform("basket", lambda product: product % _ANCHOR_BLOCKS))
    pairs = same.unionByName(next_).withColumn("weight", decay).withColumn("block", F.explode(blocks))
    edges = pairs.groupBy("kind", "block").applyInPandas(
        _count_pairs(products["degree"].to_numpy(), recipe), schema=_EDGES
    )
    neighbours = index.select(F.col("product").alias("neighbour"), F.col("product_id").alias("neighbour_id"))
    return (
        edges.join(F.broadcast(index), "product")
        .join(F.broadcast(neighbours), "neighbour")
        .select("kind", "product_id", "neighbour_id", "weight", "support")
        .orderBy("kind", "product_id", F.col("weight").desc(), "neighbour_id")
    )


def _count_pairs(degree: np.ndarray, recipe: CoPurchaseRecipe) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A function from one block's rows (kind, block, basket[], other[], weight, age_days) to its strongest edges."""

    def count(rows: pd.DataFrame) -> pd.DataFrame:
        held = _incidence(rows["basket"], len(degree))
        others = held if rows["other"].isna().all() else _incidence(rows["other"], len(degree))
        anchors = np.flatnonzero(np.asarray(held.sum(axis=0)).ravel())
        anchors = anchors[anchors % _ANCHOR_BLOCKS == rows["block"].iloc[0]]
        baskets = held[:, anchors].T.tocsr()
        weights = (baskets @ sp.diags(rows["weight"].to_numpy()) @ others).tocsr()
        support = (baskets @ others).tocsr()
        for matrix in (weights, support):
            matrix.sort_indices()
        weights, support = weights.tocoo(), support.tocoo()
        itself = anchors[weights.row] == weights.col
        enough = (support.data >= recipe.min_support) & ~itself  # both matrices hold the same entries, in one order
        row, column = weights.row[enough], weights.col[enough]
        final = weights.data[enough] / (degree[anchors[row]] * degree[column] ** recipe.popularity_damping)
        final = final.astype(np.float32)  # the last bits would tell in which order Spark brought the baskets
        order = np.lexsort((column, -final, row))
        starts = np.searchsorted(row[order], np.arange(len(anchors)))
        best = order[np.arange(len(order)) - starts[row[order]] < recipe.neighbours]
        return pd.DataFrame(
            {
                "kind": rows["kind"].iloc[0],
                "product": anchors[row[best]].astype(np.int32),
                "neighbour": column[best].astype(np.int32),
                "weight": final[best],
                "support": support.data[enough][best].astype(np.int32),
            }
        )

    return count


def _incidence(baskets: pd.Series, products: int) -> sp.csr_matrix:
    """(baskets, products) 1 where a basket holds a product."""
    lengths = baskets.str.len().to_numpy(np.int64)
    columns = np.concatenate(baskets.to_list())
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    return sp.csr_matrix((np.ones(len(columns)), columns, bounds), shape=(len(baskets), products))
