"""How the shop does: key figures of a period, each a numerator over a denominator; `docs/kpis.md` defines them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

from rec_assets.recsys.data.interactions import repartition
from rec_assets.recsys.events import CLICK, IMPRESSION, PURCHASE, RETURN
from rec_assets.recsys.spark.sums import exact_sum

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

PERIOD_DAYS = 28
"""Whole weeks: a weekday more or less would move every figure."""

ATTRIBUTION_DAYS = 7
"""A purchase counts as recommended up to so many days after the customer clicked the product in an answer of ours."""

REGULAR_DAYS = 4
"""Purchase days from which a customer has a rhythm: three gaps."""

LATE = 2.0
"""So many times their usual gap without a purchase, and a regular may be lost."""

HEAD = 0.2
"""Share of the catalog that sells most; all the rest is the long tail."""

Unit = Literal["money", "number", "share", "days"]


@dataclass(frozen=True)
class Kpi:
    """A key figure: what it is called, its unit, and which sums it divides; without `over` it is the sum itself."""

    title: str
    unit: Unit
    of: str
    over: str | None = None


KPIS = {
    "revenue": Kpi("revenue", "money", "revenue"),
    "orders": Kpi("orders", "number", "orders"),
    "average_order_value": Kpi("average order value", "money", "revenue", "orders"),
    "items_per_order": Kpi("items per order", "number", "items", "orders"),
    "active_customers": Kpi("active customers", "number", "customers"),
    "repeat_purchase_rate": Kpi("customers who had bought before", "share", "repeaters", "customers"),
    "repeat_interval_days": Kpi("days between two purchases", "days", "interval"),
    "churn_risk": Kpi("regulars who may be lost", "share", "overdue", "regulars"),
    "return_rate_value": Kpi("returned, by value", "share", "returned_value", "revenue"),
    "return_rate_lines": Kpi("returned, by lines", "share", "returned_lines", "lines"),
    "catalog_coverage": Kpi("catalog sold", "share", "products_sold", "catalog"),
    "catalog_shown": Kpi("catalog shown", "share", "products_shown", "catalog"),
    "tail_revenue": Kpi("revenue from the long tail", "share", "tail_revenue", "revenue"),
    "tail_views": Kpi("views of the long tail", "share", "tail_views", "views"),
    "recommended_revenue": Kpi("revenue after a recommendation", "share", "recommended_revenue", "revenue"),
}
"""Name → definition, in the order in which they are shown."""

NEEDS_EVENTS = ("catalog_shown", "tail_views", "recommended_revenue")
"""Figures that rest on what the API was told; unknown in a period without any impression."""


def business_kpis(lines: DataFrame, events: DataFrame, products: DataFrame, day: dt.date) -> pd.DataFrame:
    """The figures of the PERIOD_DAYS up to and including a day.

    Args:
        lines: `cleaned_interactions` of the lookback, with `date`, none later than the day.
        events: `raw_feedback_events` of the period and the ATTRIBUTION_DAYS before it, with `date`.
        products: product_id, first_seen, excluded.
        day: The last day of the period.

    Returns:
        One row each of KPIS: kpi, value, numerator, denominator (NaN for a sum). The value is NaN where there is
        nothing to divide by, or nothing was logged that tells.
    """
    from pyspark.sql import functions as F

    begin = day - dt.timedelta(days=PERIOD_DAYS - 1)
    in_period = F.col("date").between(begin, day)
    bought = lines.where(F.col("event") == PURCHASE).withColumn("value", F.col("quantity") * F.col("unit_price"))
    bought = repartition(bought.select("customer_id", "product_id", "order_id", "date", "quantity", "value")).persist()
    returned = lines.where(F.col("event") == RETURN)
    catalog = products.where((F.col("first_seen") <= F.lit(day)) & ~F.col("excluded")).select("product_id")
    size = catalog.count()
    head = _best_sellers(bought, catalog, size)
    sums = [
        _sold(bought.where(in_period), catalog, head),
        _rhythm(bought, begin, day),
        returned.agg(
            # A shop that never had anything back doesn't log returns.
            F.when(F.count("*") > 0, F.count(F.when(in_period, 1))).alias("returned_lines"),
            F.when(F.count("*") > 0, _money(F.col("quantity") * F.col("unit_price"), in_period)).alias(
                "returned_value"
            ),
        ),
        _seen(events.where(in_period), catalog, head),
        _after_clicks(bought.where(in_period), events),
    ]
    found = {str(name): float(value) for each in sums for name, value in each.toPandas().astype(float).iloc[0].items()}
    for kept in (bought, head):
        kept.unpersist()
    return pd.DataFrame([_figure(name, {**found, "catalog": float(size)}) for name in KPIS])


def _figure(name: str, sums: dict[str, float]) -> dict[str, object]:
    kpi = KPIS[name]
    numerator, denominator = sums[kpi.of], float("nan") if kpi.over is None else sums[kpi.over]
    value = numerator if kpi.over is None else numerator / denominator if denominator else float("nan")
    if name in NEEDS_EVENTS and not sums["views"]:
        value = float("nan")
    return {"kpi": name, "value": value, "numerator": numerator, "denominator": denominator}


def _best_sellers(bought: DataFrame, catalog: DataFrame, size: int) -> DataFrame:
    """product_id of the head: the HEAD of the catalog with most purchase lines, ties to the lower id."""
    from pyspark.sql import functions as F

    sold = bought.groupBy("product_id").agg(F.count("*").alias("sold")).join(catalog, "product_id", "left_semi")
    return sold.orderBy(F.col("sold").desc(), "product_id").limit(round(HEAD * size)).select("product_id").persist()


def _sold(bought: DataFrame, catalog: DataFrame, head: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    is_head = head.withColumn("is_head", F.lit(True))
    listed = catalog.withColumn("listed", F.col("product_id"))
    lines = bought.join(F.broadcast(is_head), "product_id", "left").join(listed, "product_id", "left")
    return lines.agg(
        F.count("*").alias("lines"),
        F.coalesce(exact_sum(F.col("quantity")), F.lit(0.0)).alias("items"),
        _money(F.col("value")).alias("revenue"),
        _money(F.col("value"), F.col("is_head").isNull()).alias("tail_revenue"),
        F.countDistinct("customer_id", "order_id").alias("orders"),
        F.countDistinct("listed").alias("products_sold"),
    )


def _money(value: Column, where: Column | None = None) -> Column:
    """The sum; null where there are lines and none has a price, as then nobody knows."""
    from pyspark.sql import functions as F

    counted = value if where is None else F.when(where, value)
    total = F.coalesce(exact_sum(counted), F.lit(0.0))
    return F.when((F.count("*") > 0) & (F.count(value) == 0), None).otherwise(total)


def _rhythm(bought: DataFrame, begin: dt.date, day: dt.date) -> DataFrame:
    """Customers by the days on which they bought."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    in_order = Window.partitionBy("customer_id").orderBy("date")
    days = bought.select("customer_id", "date").distinct()
    days = days.withColumn("gap", F.datediff("date", F.lag("date").over(in_order)))
    customers = days.groupBy("customer_id").agg(
        F.count("*").alias("days"),
        F.max("date").alias("last"),
        F.percentile("gap", F.lit(0.5)).alias("usual"),
        F.collect_list(F.when(F.col("date") >= F.lit(begin), F.col("gap"))).alias("gaps"),
    )
    is_active, is_regular = F.col("last") >= F.lit(begin), F.col("days") >= REGULAR_DAYS
    is_late = F.datediff(F.lit(day), F.col("last")) > LATE * F.col("usual")
    counts = customers.agg(
        F.count_if(is_active).alias("customers"),
        F.count_if(is_active & (F.col("days") > 1)).alias("repeaters"),
        F.count_if(is_regular).alias("regulars"),
        F.count_if(is_regular & is_late).alias("overdue"),
    )
    gaps = customers.select(F.explode("gaps").alias("gap")).agg(F.percentile("gap", F.lit(0.5)).alias("interval"))
    return counts.crossJoin(gaps)


def _seen(events: DataFrame, catalog: DataFrame, head: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    views = events.where(F.col("type") == IMPRESSION).select("product_id").join(catalog, "product_id", "left_semi")
    is_head = head.withColumn("is_head", F.lit(True))
    return views.join(F.broadcast(is_head), "product_id", "left").agg(
        F.count("*").alias("views"),
        F.count_if(F.col("is_head").isNull()).alias("tail_views"),
        F.countDistinct("product_id").alias("products_shown"),
    )


def _after_clicks(bought: DataFrame, events: DataFrame) -> DataFrame:
    """Value of what was bought after a click on it in an answer of ours, by days: many logs know no hours."""
    from pyspark.sql import functions as F

    clicks = events.where((F.col("type") == CLICK) & F.col("recommendation_id").isNotNull()).select(
        F.col("customer_id").alias("who"), F.col("product_id").alias("what"), F.col("date").alias("clicked")
    )
    is_same = (F.col("customer_id") == F.col("who")) & (F.col("product_id") == F.col("what"))
    in_time = F.datediff("date", "clicked").between(0, ATTRIBUTION_DAYS)
    return bought.join(clicks, is_same & in_time, "left_semi").agg(_money(F.col("value")).alias("recommended_revenue"))
