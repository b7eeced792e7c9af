"""Product statistics of a window: order lines, buyers, repeat purchases, prices and returns of each product."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.spark.sums import exact_sum


def product_statistics(purchases: DataFrame, returns: DataFrame, *, recent_days: int) -> DataFrame:
    """One row per product bought in the window; 0 order lines if all were returned.

    Args:
        purchases, returns: Lines of `interactions.customer_histories`: IS_PURCHASE and IS_RETURN.
        recent_days: Ages 0 … recent_days - 1 count as recent.

    Returns:
        product_id, order_lines, recent_order_lines, recent_buyers (distinct customers with a recent purchase),
        new_buyers (customers whose first purchase is recent), buyers (distinct customers), repeat_share (share of
        buyers who bought on more than one day), interval_days (their mean gap between purchase days, null if nobody
        bought twice), price (mean unit price, null if unknown), revenue, last_age (null if nothing was kept),
        returns (lines); sorted by product_id.
    """
    per_pair = purchases.groupBy("product_id", "customer_id").agg(
        F.count("*").alias("order_lines"),
        F.sum((F.col("age_days") < recent_days).cast("long")).alias("recent_order_lines"),
        F.countDistinct("age_days").alias("days"),
        (F.max("age_days") - F.min("age_days")).alias("span"),
        (F.max("age_days") < recent_days).cast("long").alias("is_new"),
        F.min("age_days").alias("last_age"),
        exact_sum(F.col("quantity")).alias("quantity"),
        exact_sum(F.col("quantity") * F.col("unit_price")).alias("revenue"),
        exact_sum(F.when(F.col("unit_price").isNotNull(), F.col("quantity"))).alias("priced"),
    )
    again = F.col("days") > 1
    kept = per_pair.groupBy("product_id").agg(
        F.sum("order_lines").alias("order_lines"),
        F.sum("recent_order_lines").alias("recent_order_lines"),
        F.sum((F.col("recent_order_lines") > 0).cast("long")).alias("recent_buyers"),
        F.sum("is_new").alias("new_buyers"),
        F.count("*").alias("buyers"),
        F.avg(again.cast("double")).alias("repeat_share"),
        (F.sum(F.when(again, F.col("span"))) / F.sum(F.when(again, F.col("days") - 1))).alias("interval_days"),
        F.try_divide(exact_sum(F.col("revenue")), exact_sum(F.col("priced"))).alias("price"),
        exact_sum(F.col("revenue")).alias("revenue"),
        F.min("last_age").alias("last_age"),
    )
    returned = returns.groupBy("product_id").agg(F.count("*").alias("returns"))
    counts = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers", "returns", "repeat_share")
    return kept.join(returned, "product_id", "full_outer").fillna(0, counts).orderBy("product_id")
