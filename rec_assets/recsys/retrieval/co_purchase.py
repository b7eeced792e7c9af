"""The co-purchase graph: which product goes with, which follows, and which has the customers of another one."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from rec_assets.recsys.data.interactions import repartition
from rec_assets.recsys.data.product_snapshot import NEXT_BASKET, SAME_BASKET, SAME_CUSTOMER
from rec_assets.recsys.recipe import CoPurchaseRecipe
from rec_assets.recsys.retrieval.ease import ease_weights
from rec_assets.recsys.retrieval.incidence import incidence
from rec_assets.recsys.spark.sums import ordered_sum

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_ANCHOR_BLOCKS = 8
_EDGES = "kind string, product int, neighbor int, weight float, support int"


def co_purchase_graph(purchases: DataFrame, recipe: CoPurchaseRecipe) -> DataFrame:
    """Weights product → neighbor, from shopping days shared, from one order to the next ones, and by EASE.

    The weight of i → j is Σ 0.5^(age/half-life) over the days on which j goes with i (or the orders with which it
    follows i), divided by the decayed orders of i to the power of `anchor_damping` (at 1 it is a share of them) and by
    those of j to the power of `popularity_damping` (so that best sellers are not everybody's neighbor). Source: the
    asymmetric cosine of Aiolli, "Efficient top-N recommendation for very large scale binary rated datasets", 2013. An
    order that is not the very next one counts `next_decay` for each step. EASE: see `ease.ease_weights`.

    Args:
        purchases: Net purchases (`interactions.net_purchases`).
        recipe: Decays, floor of support, neighbors kept, damping.

    Returns:
        kind, product_id, neighbor_id, weight (> 0), support (baskets, or customers); a product's side by side, by
        kind and falling weight.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    bought = repartition(purchases.select("customer_id", "order_id", "product_id", "age_days")).distinct().persist()
    # Products too rare to reach the support can't have a neighbor.
    frequent = bought.groupBy("product_id").count().where(F.col("count") >= recipe.min_support)
    decay = F.pow(F.lit(0.5), F.col("age_days") / recipe.half_life_days)
    by_age = bought.join(frequent, "product_id").groupBy("product_id", "age_days").agg(F.count("*").alias("orders"))
    degrees = by_age.groupBy("product_id").agg(ordered_sum(decay * F.col("orders")).alias("degree"))
    # Product-sized, so it may come to the driver; lines and customers never do.
    products = degrees.orderBy("product_id").toPandas()
    spark = purchases.sparkSession
    index = spark.createDataFrame(
        pd.DataFrame({"product_id": products["product_id"], "product": np.arange(len(products), dtype=np.int32)}),
        schema="product_id string, product int",
    )
    lines = bought.join(F.broadcast(index), "product_id").select("customer_id", "order_id", "product", "age_days")

    basket = F.slice(F.sort_array(F.collect_set("product")), 1, recipe.max_basket).alias("basket")
    orders = lines.groupBy("customer_id", "order_id").agg(basket, F.min("age_days").alias("age_days"))
    itself = F.lit(None).cast("array<int>").alias("other")  # the basket itself, not sent twice
    whole = F.lit(1.0).alias("share")
    days = lines.groupBy("customer_id", "age_days").agg(basket)
    same = days.select(F.lit(SAME_BASKET).alias("kind"), "basket", itself, "age_days", whole)
    in_time = Window.partitionBy("customer_id").orderBy(F.col("age_days").desc(), "order_id")
    following = [
        orders.select(
            F.lit(NEXT_BASKET).alias("kind"),
            "basket",
            F.lead("basket", step).over(in_time).alias("other"),
            F.lead("age_days", step).over(in_time).alias("age_days"),
            F.lit(recipe.next_decay ** (step - 1)).alias("share"),
        ).where(F.col("other").isNotNull())
        for step in range(1, recipe.next_orders + 1)
    ]
    # A basket goes once to each block of anchors that it holds, not once to each anchor: the sums are then products of
    # sparse matrices.
    blocks = F.array_distinct(F.transform("basket", lambda product: product % _ANCHOR_BLOCKS))
    pairs = reduce(lambda one, other: one.unionByName(other), [same, *following])
    pairs = pairs.withColumn("weight", decay * F.col("share")).withColumn("block", F.explode(blocks))
    edges = pairs.groupBy("kind", "block").applyInArrow(
        _count_pairs(products["degree"].to_numpy(), recipe), schema=_EDGES
    )
    if recipe.ease_products:
        edges = edges.unionByName(spark.createDataFrame(_numbered_ease(bought, products, recipe), schema=_EDGES))
    neighbors = index.select(F.col("product").alias("neighbor"), F.col("product_id").alias("neighbor_id"))
    named = edges.join(F.broadcast(index), "product").join(F.broadcast(neighbors), "neighbor")
    # Not `orderBy`: to find out where its ranges end, Spark would count all the pairs a second time. And not before the
    # joins: Spark drops a sort that a join follows.
    parts = repartition(named, "kind", "product").sortWithinPartitions(
        "kind", "product", F.col("weight").desc(), "neighbor"
    )
    return parts.select("kind", "product_id", "neighbor_id", "weight", "support")


def _numbered_ease(bought: DataFrame, products: pd.DataFrame, recipe: CoPurchaseRecipe) -> pd.DataFrame:
    """`ease_weights` with the numbers of the products; who shares `min_support` customers with any is one of them."""
    shared, number = ease_weights(bought, recipe), pd.Index(products["product_id"])
    return pd.DataFrame(
        {
            "kind": SAME_CUSTOMER,
            "product": number.get_indexer(shared["product_id"]).astype(np.int32),
            "neighbor": number.get_indexer(shared["neighbor_id"]).astype(np.int32),
            "weight": shared["weight"],
            "support": shared["support"],
        }
    )


def _count_pairs(degree: np.ndarray, recipe: CoPurchaseRecipe) -> Callable[[pa.Table], pa.Table]:
    """A function from one block's rows (kind, block, basket[], other[], weight …) to its strongest edges."""

    def count(rows: pa.Table) -> pa.Table:
        rows = rows.sort_by("weight")  # sums of floats then have one order; among equal weights it doesn't matter
        kind, block = rows["kind"][0], rows["block"][0].as_py()
        held = incidence(rows["basket"], len(degree))
        others = held if kind.as_py() == SAME_BASKET else incidence(rows["other"], len(degree))
        anchors = np.flatnonzero(np.asarray(held.sum(axis=0)).ravel())
        anchors = anchors[anchors % _ANCHOR_BLOCKS == block]
        baskets = held[:, anchors].T.tocsr()
        # One product of matrices for both sums: weights are the real part, the baskets' number the imaginary one.
        found = (baskets @ sp.diags(rows["weight"].to_numpy() + 1j) @ others).tocoo()
        support = np.rint(found.data.imag)
        enough = (support >= recipe.min_support) & (anchors[found.row] != found.col)
        row, column, support = found.row[enough], found.col[enough], support[enough]
        final = found.data.real[enough] / (
            degree[anchors[row]] ** recipe.anchor_damping * degree[column] ** recipe.popularity_damping
        )
        final = final.astype(np.float32)
        order = np.lexsort((column, -final, row))
        starts = np.searchsorted(row[order], np.arange(len(anchors)))
        best = order[np.arange(len(order)) - starts[row[order]] < recipe.neighbors]
        return pa.table(
            {
                "kind": pa.repeat(kind, len(best)),
                "product": anchors[row[best]].astype(np.int32),
                "neighbor": column[best].astype(np.int32),
                "weight": final[best],
                "support": support[best].astype(np.int32),
            }
        )

    return count
