"""The co-purchase graph: edges by same basket, by next basket, and by EASE."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from rec_assets.recsys.data.snapshot_arrays import EASE, NEXT_BASKET, SAME_BASKET
from rec_assets.recsys.recipe import CoPurchaseRecipe
from rec_assets.recsys.retrieval.ease_weights import ease_weights, incidence
from rec_assets.recsys.spark.customers import repartition
from rec_assets.recsys.spark.sums import ordered_sum

_LINES_OF_BLOCK, _MIN_BLOCKS = 1_000_000, 8
"""Lines for each block of products, and least number of blocks. Edges do not depend on the number of blocks."""

_EDGES = "kind string, product int, neighbor int, weight float, support int"


def co_purchase_graph(purchases: DataFrame, recipe: CoPurchaseRecipe) -> DataFrame:
    """Weights product → neighbor, from net purchases: by shared shopping days, by consecutive orders, and by EASE.

    The weight of i → j is Σ 0.5^(age / half-life) over the days on which a customer bought both (or over the orders in
    which j follows i), divided by the decayed order lines of i to the power of `anchor_damping` (1 makes it a share of
    them) and by those of j to the power of `popularity_damping` (otherwise best sellers are neighbors of everything).
    Source: the asymmetric cosine of Aiolli, "Efficient top-N recommendation for very large scale binary rated
    datasets", 2013. For each order in between, a following order counts × `next_decay`. EASE: see `ease_weights`.

    Returns:
        kind, product_id, neighbor_id, weight (> 0), support (baskets, or customers). The edges of a product are
        consecutive, by kind and descending weight.
    """
    bought = repartition(purchases.select("customer_id", "order_id", "product_id", "age_days")).distinct().persist()
    # Products with fewer lines than the minimum support can't have a neighbor.
    frequent = bought.groupBy("product_id").count().where(F.col("count") >= recipe.min_support)
    decay = F.pow(F.lit(0.5), F.col("age_days") / recipe.half_life_days)
    by_age = (
        bought.join(frequent, "product_id").groupBy("product_id", "age_days").agg(F.count("*").alias("order_lines"))
    )
    decayed = by_age.groupBy("product_id").agg(ordered_sum(decay * F.col("order_lines")).alias("order_lines"))
    # One row per product, small enough for the driver.
    products = decayed.orderBy("product_id").toPandas()
    spark = purchases.sparkSession
    index = spark.createDataFrame(
        pd.DataFrame({"product_id": products["product_id"], "product": np.arange(len(products), dtype=np.int32)}),
        schema="product_id string, product int",
    )
    lines = bought.join(F.broadcast(index), "product_id").select("customer_id", "order_id", "product", "age_days")

    basket = F.slice(F.sort_array(F.collect_set("product")), 1, recipe.max_basket).alias("basket")
    orders = lines.groupBy("customer_id", "order_id").agg(basket, F.min("age_days").alias("age_days"))
    days = lines.groupBy("customer_id", "age_days").agg(basket)
    same = days.select(
        F.lit(SAME_BASKET).alias("kind"),
        "basket",
        F.lit(None).cast("array<int>").alias("other"),  # the pairs are within the basket, so it is not sent twice
        "age_days",
        F.lit(1.0).alias("share"),
    )
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
    # A basket is sent once to each block of its products, not to each product, so that sums are sparse matrix products.
    blocks = max(_MIN_BLOCKS, bought.count() // _LINES_OF_BLOCK)
    blocks_of_basket = F.array_distinct(F.transform("basket", lambda product: product % blocks))
    pairs = reduce(lambda one, other: one.unionByName(other), [same, *following])
    pairs = pairs.withColumn("weight", decay * F.col("share")).withColumn("block", F.explode(blocks_of_basket))
    strongest = _strongest_edges(products["order_lines"].to_numpy(), recipe, blocks)
    edges = pairs.groupBy("kind", "block").applyInArrow(strongest, schema=_EDGES)
    if recipe.ease_products:
        edges = edges.unionByName(spark.createDataFrame(_numbered_ease(bought, products, recipe), schema=_EDGES))
    neighbors = index.select(F.col("product").alias("neighbor"), F.col("product_id").alias("neighbor_id"))
    named = edges.join(F.broadcast(index), "product").join(F.broadcast(neighbors), "neighbor")
    # `orderBy` would compute all pairs a second time, to sample its ranges. A sort before the joins would be dropped.
    parts = repartition(named, "kind", "product").sortWithinPartitions(
        "kind", "product", F.col("weight").desc(), "neighbor"
    )
    return parts.select("kind", "product_id", "neighbor_id", "weight", "support")


def _numbered_ease(bought: DataFrame, products: pd.DataFrame, recipe: CoPurchaseRecipe) -> pd.DataFrame:
    """`ease_weights` with numbers instead of ids. All its products have `min_support` buyers, so they have numbers."""
    weights, number = ease_weights(bought, recipe), pd.Index(products["product_id"])
    for name, ids in (("product", "product_id"), ("neighbor", "neighbor_id")):
        weights[name] = number.get_indexer(weights[ids]).astype(np.int32)
    return weights.assign(kind=EASE)[["kind", "product", "neighbor", "weight", "support"]]


def _strongest_edges(order_lines: np.ndarray, recipe: CoPurchaseRecipe, blocks: int) -> Callable[[pa.Table], pa.Table]:
    """A function from the rows of a block (kind, block, basket[], other[], weight …) to its strongest edges.

    `order_lines` are the decayed order lines of each product; `blocks` is the number of blocks.
    """

    def strongest(rows: pa.Table) -> pa.Table:
        rows = rows.sort_by("weight")  # one order for sums of floats; equal weights may be swapped
        kind, block = rows["kind"][0], rows["block"][0].as_py()
        baskets = incidence(rows["basket"], len(order_lines))
        others = baskets if kind.as_py() == SAME_BASKET else incidence(rows["other"], len(order_lines))
        anchors = np.flatnonzero(np.asarray(baskets.sum(axis=0)).ravel())
        anchors = anchors[anchors % blocks == block]
        # One matrix product for both sums: the real part sums weights, the imaginary part counts baskets.
        pairs = (baskets[:, anchors].T.tocsr() @ sp.diags(rows["weight"].to_numpy() + 1j) @ others).tocoo()
        support = np.rint(pairs.data.imag)
        enough = (support >= recipe.min_support) & (anchors[pairs.row] != pairs.col)
        row, column, support = pairs.row[enough], pairs.col[enough], support[enough]
        anchor_lines, neighbor_lines = order_lines[anchors[row]], order_lines[column]
        damping = anchor_lines**recipe.anchor_damping * neighbor_lines**recipe.popularity_damping
        weight = (pairs.data.real[enough] / damping).astype(np.float32)
        order = np.lexsort((column, -weight, row))
        starts = np.searchsorted(row[order], np.arange(len(anchors)))
        best = order[np.arange(len(order)) - starts[row[order]] < recipe.neighbors]
        return pa.table(
            {
                "kind": pa.repeat(kind, len(best)),
                "product": anchors[row[best]].astype(np.int32),
                "neighbor": column[best].astype(np.int32),
                "weight": weight[best],
                "support": support[best].astype(np.int32),
            }
        )

    return strongest
