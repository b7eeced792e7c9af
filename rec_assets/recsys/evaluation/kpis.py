"""Business KPIs of a period, each a numerator divided by a denominator; `docs/kpis.md` defines them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from rec_assets.recsys.data.interactions import repartition
from rec_assets.recsys.events import CLICK, IMPRESSION, PURCHASE, RETURN
from rec_assets.recsys.spark.sums import exact_sum

PERIOD_DAYS = 28
"""Whole weeks, so that each period has the same weekdays."""

ATTRIBUTION_DAYS = 7
"""A purchase counts as recommended up to this many days after a click on the product in a response of the API."""

REGULAR_DAYS = 4
"""Purchase days from which a customer is a regular: three intervals between purchases."""

OVERDUE_FACTOR = 2.0
"""A regular is at risk of churn after this many times the median interval without a purchase."""

HEAD_SHARE = 0.2
"""Share of the catalog with the best sellers; the other products are the long tail."""

Unit = Literal["money", "number", "share", "days"]


@dataclass(frozen=True)
class Kpi:
    """A KPI: title, unit, and the sums that it divides; without a denominator it is the sum itself."""

    title: str
    unit: Unit
    numerator: str
    denominator: str | None = None


KPIS = {
    "revenue": Kpi("revenue", "money", "revenue"),
    "orders": Kpi("orders", "number", "orders"),
    "average_order_value": Kpi("average order value", "money", "revenue", "orders"),
    "items_per_order": Kpi("items per order", "number", "items", "orders"),
    "active_customers": Kpi("active customers", "number", "customers"),
    "repeat_purchase_rate": Kpi("customers who bought before", "share", "repeaters", "customers"),
    "repeat_interval_days": Kpi("days between two purchases", "days", "interval"),
    "churn_risk": Kpi("regulars at risk of churn", "share", "overdue", "regulars"),
    "return_rate_value": Kpi("return rate by value", "share", "returned_value", "revenue"),
    "return_rate_lines": Kpi("return rate by lines", "share", "returned_lines", "lines"),
    "catalog_coverage": Kpi("catalog sold", "share", "products_sold", "catalog"),
    "catalog_shown": Kpi("catalog shown", "share", "products_shown", "catalog"),
    "tail_revenue": Kpi("revenue from the long tail", "share", "tail_revenue", "revenue"),
    "tail_views": Kpi("views of the long tail", "share", "tail_views", "views"),
    "recommended_revenue": Kpi("revenue after a recommendation", "share", "recommended_revenue", "revenue"),
}
"""Name → definition, in display order."""

LINE_COLUMNS = ("customer_id", "product_id", "order_id", "date", "event", "quantity", "unit_price")
"""Columns of `cleaned_interactions` that the KPIs need."""

NEEDS_EVENTS = ("catalog_shown", "tail_views", "recommended_revenue")
"""KPIs that need events from the API; unknown in a period without impressions."""


def business_kpis(lines: DataFrame, events: DataFrame, products: DataFrame, day: dt.date) -> pd.DataFrame:
    """The KPIs of the PERIOD_DAYS up to and including a day.

    Args:
        lines: LINE_COLUMNS of `cleaned_interactions` of the lookback, up to the day.
        events: `raw_feedback_events` of the period and the ATTRIBUTION_DAYS before it, with `date`.
        products: product_id, first_seen, excluded.
        day: The last day of the period.

    Returns:
        One row for each of KPIS: kpi, value, numerator, denominator (NaN for a sum). The value is NaN if the
        denominator is 0 or the needed events are missing.
    """
    begin = day - dt.timedelta(days=PERIOD_DAYS - 1)
    in_period = F.col("date").between(begin, day)
    paid, any_line = F.col("quantity") * F.col("unit_price"), F.count("*") > 0
    bought = lines.where(F.col("event") == PURCHASE).withColumn("value", paid)
    bought = repartition(bought.select("customer_id", "product_id", "order_id", "date", "quantity", "value")).persist()
    returned = lines.where(F.col("event") == RETURN)
    catalog = products.where((F.col("first_seen") <= F.lit(day)) & ~F.col("excluded")).select("product_id")
    size = catalog.count()
    head = _best_sellers(bought, catalog, size)
    sums = [
        _sales(bought.where(in_period), catalog, head),
        _purchase_intervals(bought, begin, day),
        returned.agg(
            # A shop without any return most likely does not log returns.
            F.when(any_line, F.count(F.when(in_period, 1))).alias("returned_lines"),
            F.when(any_line, _money(paid, in_period)).alias("returned_value"),
        ),
        _impressions(events.where(in_period), catalog, head),
        _after_clicks(bought.where(in_period), events),
    ]
    values = {str(name): float(value) for part in sums for name, value in part.toPandas().astype(float).iloc[0].items()}
    for frame in (bought, head):
        frame.unpersist()
    return pd.DataFrame([_kpi_row(name, {**values, "catalog": float(size)}) for name in KPIS])


def _kpi_row(name: str, sums: dict[str, float]) -> dict[str, object]:
    kpi, unknown = KPIS[name], float("nan")
    numerator, denominator = sums[kpi.numerator], sums[kpi.denominator] if kpi.denominator else unknown
    value = numerator / (denominator or unknown) if kpi.denominator else numerator
    if name in NEEDS_EVENTS and not sums["views"]:
        value = unknown
    return {"kpi": name, "value": value, "numerator": numerator, "denominator": denominator}


def _best_sellers(bought: DataFrame, catalog: DataFrame, size: int) -> DataFrame:
    """product_id, is_head (true): the HEAD_SHARE of the catalog with most purchase lines; ties go to the lower id."""
    sold = bought.groupBy("product_id").agg(F.count("*").alias("sold")).join(catalog, "product_id", "left_semi")
    head = sold.orderBy(F.col("sold").desc(), "product_id").limit(round(HEAD_SHARE * size))
    return head.select("product_id", F.lit(True).alias("is_head")).persist()


def _sales(bought: DataFrame, catalog: DataFrame, head: DataFrame) -> DataFrame:
    listed = catalog.withColumn("listed", F.col("product_id"))
    lines = bought.join(F.broadcast(head), "product_id", "left").join(listed, "product_id", "left")
    return lines.agg(
        F.count("*").alias("lines"),
        F.coalesce(exact_sum(F.col("quantity")), F.lit(0.0)).alias("items"),
        _money(F.col("value")).alias("revenue"),
        _money(F.col("value"), F.col("is_head").isNull()).alias("tail_revenue"),
        F.countDistinct("customer_id", "order_id").alias("orders"),
        F.countDistinct("listed").alias("products_sold"),
    )


def _money(value: Column, where: Column | None = None) -> Column:
    """The sum; null if there are lines but none has a price."""
    counted = value if where is None else F.when(where, value)
    total = F.coalesce(exact_sum(counted), F.lit(0.0))
    return F.when((F.count("*") > 0) & (F.count(value) == 0), None).otherwise(total)


def _purchase_intervals(bought: DataFrame, begin: dt.date, day: dt.date) -> DataFrame:
    """Counts of customers by their purchase days."""
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
    is_overdue = F.datediff(F.lit(day), F.col("last")) > OVERDUE_FACTOR * F.col("usual")
    counts = customers.agg(
        F.count_if(is_active).alias("customers"),
        F.count_if(is_active & (F.col("days") > 1)).alias("repeaters"),
        F.count_if(is_regular).alias("regulars"),
        F.count_if(is_regular & is_overdue).alias("overdue"),
    )
    gaps = customers.select(F.explode("gaps").alias("gap")).agg(F.percentile("gap", F.lit(0.5)).alias("interval"))
    return counts.crossJoin(gaps)


def _impressions(events: DataFrame, catalog: DataFrame, head: DataFrame) -> DataFrame:
    views = events.where(F.col("type") == IMPRESSION).select("product_id").join(catalog, "product_id", "left_semi")
    return views.join(F.broadcast(head), "product_id", "left").agg(
        F.count("*").alias("views"),
        F.count_if(F.col("is_head").isNull()).alias("tail_views"),
        F.countDistinct("product_id").alias("products_shown"),
    )


def _after_clicks(bought: DataFrame, events: DataFrame) -> DataFrame:
    """Value of purchases after a click on the product in a response, by days, because many logs have no time of day."""
    clicks = events.where((F.col("type") == CLICK) & F.col("recommendation_id").isNotNull()).select(
        F.col("customer_id").alias("clicking_customer"),
        F.col("product_id").alias("clicked_product"),
        F.col("date").alias("clicked"),
    )
    is_same = (F.col("customer_id") == F.col("clicking_customer")) & (F.col("product_id") == F.col("clicked_product"))
    in_time = F.datediff("date", "clicked").between(0, ATTRIBUTION_DAYS)
    return bought.join(clicks, is_same & in_time, "left_semi").agg(_money(F.col("value")).alias("recommended_revenue"))
