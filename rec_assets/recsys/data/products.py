"""The table of products: one row each, from the catalog and from the purchase log."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DateType

from rec_assets.recsys.events import PURCHASE, RETURN
from rec_assets.recsys.spark.sums import exact_sum

_DESCRIBED = ("title", "category", "brand", "text")


def build_products(interactions: DataFrame, catalog: DataFrame) -> DataFrame:
    """Join the catalog with the purchase log. The catalog wins if both have a value.

    If purchase lines differ, the most common value is taken; ties go to the first in alphabetical order. A product
    without purchases and without `available_from` is first seen on the newest day.

    Args:
        interactions, catalog: `cleaned_interactions` of all days, with `date`, and `raw_product_catalog`.

    Returns:
        product_id, title, category, brand, text, content_hash (SHA-256 of text), price, first_seen (date),
        in_catalog, excluded; sorted by product_id.
    """
    lines = interactions.where(F.col("event").isin(PURCHASE, RETURN))  # clicks and carts have no product data
    has_price, paid = F.col("unit_price").isNotNull(), F.col("unit_price") * F.col("quantity")
    sold = [("", has_price & (F.col("weight") > 0)), ("bulk_", has_price)]
    counted = lines.groupBy("product_id", *_DESCRIBED).agg(
        F.count("*").alias("lines"),
        F.min("date").alias("first"),
        F.max("date").alias("last"),
        # A bulk order (weight 0) has a special price, which is used only if there is no other.
        *(exact_sum(F.when(which, paid)).alias(f"{name}value") for name, which in sold),
        *(exact_sum(F.when(which, F.col("quantity"))).alias(f"{name}pieces") for name, which in sold),
    )
    counted = counted.persist()
    totals = [[exact_sum(F.col(f"{name}{part}")) for part in ("value", "pieces")] for name, _ in sold]
    price = F.coalesce(*(F.try_divide(value, pieces) for value, pieces in totals)).alias("line_price")
    bought = counted.groupBy("product_id").agg(F.min("first").alias("first_bought"), price)
    for name in _DESCRIBED:
        bought = bought.join(_most_common(counted, name), "product_id", "left")
    newest = counted.agg(F.max("last").alias("newest"))
    listed = catalog.select("product_id", *_DESCRIBED, "price", "available_from", "excluded")
    joined = bought.join(listed, "product_id", "full_outer").crossJoin(F.broadcast(newest))
    text = F.coalesce("text", "line_text")
    first = F.least(F.col("first_bought"), F.col("available_from").cast(DateType()))
    title = F.coalesce("title", "line_title", "category", "line_category", F.concat(F.lit("product "), "product_id"))
    return joined.select(
        "product_id",
        title.alias("title"),
        *(F.coalesce(name, f"line_{name}").alias(name) for name in ("category", "brand")),
        text.alias("text"),
        F.sha2(text, 256).alias("content_hash"),
        F.coalesce("price", "line_price").alias("price"),
        F.coalesce(first, "newest").alias("first_seen"),
        F.col("excluded").isNotNull().alias("in_catalog"),
        F.coalesce("excluded", F.lit(False)).alias("excluded"),
    ).orderBy("product_id")


def _most_common(counted: DataFrame, name: str) -> DataFrame:
    """product_id → the most common value of a column, as `line_<name>`; products without a value are absent."""
    values = counted.where(F.col(name).isNotNull()).groupBy("product_id", name).agg(F.sum("lines").alias("lines"))
    best = F.min(F.struct((-F.col("lines")).alias("rarest"), F.col(name).alias("value")))
    return values.groupBy("product_id").agg(best.getField("value").alias(f"line_{name}"))
