"""Measurements of an experiment's units, in Spark: which events belong to which response and unit.

`docs/experiments.md` defines each measurement. `Totals` agree with what the API logged.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.events import CART, CLICK, IMPRESSION, MONEY, PURCHASE, RETURN
from rec_assets.recsys.experiments.experiment_metrics import (
    INTERLEAVED_CLICKS,
    MEASUREMENTS,
    PRIOR_SPEND,
    TREATMENT_CLICKS,
    Totals,
)
from rec_assets.recsys.experiments.experiments_file import CUSTOMER, Experiment
from rec_assets.recsys.experiments.moments import Moments
from rec_assets.recsys.spark.sums import exact_sum

_TOTALS = ("purchases", "returns", "unpriced", INTERLEAVED_CLICKS, TREATMENT_CLICKS)
"""Columns of `measure_units` besides MEASUREMENTS that are summed."""


def measure_units(
    experiment: Experiment, exposures: DataFrame, events: DataFrame, purchases: DataFrame, max_products: int
) -> DataFrame:
    """One row for each unit: unit, variant, switched, robot, simulated, exposures, MEASUREMENTS and _TOTALS.

    Args:
        experiment: The experiment.
        exposures: `experiment_exposures` from the first day of the experiment on.
        events: `raw_feedback_events` of the same days. Purchases and returns count only if one of the shop's own keys
            sent them: anybody who opens a page can send them with a public key (they have a `sender`), and those of an
            event log (never `received`) would count a second time.
        purchases: customer_id, date, value of the COVARIATE_DAYS before the experiment (`cleaned_interactions`).
        max_products: A unit that clicks more products in a day counts as a robot.
    """
    key = "customer_id" if experiment.unit == CUSTOMER else "session_id"
    shown = exposures.where((F.col("experiment") == experiment.name) & F.col(key).isNotNull())
    shown = shown.withColumn("unit", F.col(key)).persist()
    variants = F.collect_set("variant")
    units = shown.groupBy("unit").agg(
        F.min_by("variant", "time").alias("variant"),
        (F.size(variants) > 1).alias("switched"),
        F.max("simulated").alias("simulated"),
        F.count("*").cast("double").alias("exposures"),
    )
    # An event belongs to a unit if it has the id of one of the unit's responses, or the id of the unit.
    responses = shown.select("recommendation_id", F.col("unit").alias("unit_of_response"))
    is_sale = F.col("sender").isNull() & F.col("received").isNotNull()
    attributed = events.where(~F.col("type").isin(*MONEY) | is_sale)
    attributed = attributed.join(responses, "recommendation_id", "left")
    attributed = attributed.withColumn("unit", F.coalesce("unit_of_response", key))
    attributed = attributed.where(F.col("unit").isNotNull()).persist()
    seen = _response_events(attributed.where(F.col("unit_of_response").isNotNull()), shown, experiment.control)
    bought = _attributed_purchases(attributed, shown, experiment.attribution_days)
    for part in (seen, bought, _robots(attributed, max_products)):
        units = units.join(part, "unit", "left")
    if experiment.unit == CUSTOMER:
        spent = purchases.groupBy(F.col("customer_id").alias("unit")).agg(exact_sum(F.col("value")).alias(PRIOR_SPEND))
        units = units.join(spent, "unit", "left")
    else:
        units = units.withColumn(PRIOR_SPEND, F.lit(0.0))
    return units.select(
        "unit", "variant", "switched", "simulated", F.coalesce("robot", F.lit(False)).alias("robot"), "exposures",
        *(F.coalesce(name, F.lit(0.0)).cast("double").alias(name) for name in (*MEASUREMENTS, *_TOTALS)),
    )  # fmt: skip


def versions_by_variant(experiment: Experiment, exposures: DataFrame) -> dict[str, list[int]]:
    """Variant → registry versions that made its responses."""
    shown = exposures.where(F.col("experiment") == experiment.name)
    rows = shown.groupBy("variant").agg(F.sort_array(F.collect_set("model_version")).alias("versions")).collect()
    return {row["variant"]: list(row["versions"]) for row in rows}


def totals_by_variant(units: DataFrame) -> dict[str, Totals]:
    """Variant → sums of `measure_units`."""
    units = units.withColumn("units", F.lit(1)).withColumnRenamed("robot", "robots")
    sums = [
        exact_sum(F.col(each.name)) if each.type == "float" else F.sum(F.col(each.name).cast("long"))
        for each in fields(Totals)
    ]
    rows = units.groupBy("variant").agg(*sums)
    return {row["variant"]: Totals(*row[1:]) for row in rows.orderBy("variant").collect()}


def moments_by_variant(units: DataFrame) -> dict[str, Moments]:
    """Variant → sums over its units, except robots and units that saw more than one variant."""
    names = (*MEASUREMENTS, INTERLEAVED_CLICKS, TREATMENT_CLICKS)
    columns = [F.lit(1.0), *(F.col(name) for name in names)]
    pairs = [(i, j) for i in range(len(columns)) for j in range(i, len(columns))]
    sums = [exact_sum(columns[i] * columns[j]).alias(f"{i}_{j}") for i, j in pairs]
    moments = {}
    for row in units.where(~F.col("robot") & ~F.col("switched")).groupBy("variant").agg(*sums).collect():
        gram = np.zeros((len(columns), len(columns)))
        for i, j in pairs:
            gram[i, j] = gram[j, i] = row[f"{i}_{j}"]
        moments[row["variant"]] = Moments(names, gram)
    return moments


def _response_events(attributed: DataFrame, shown: DataFrame, control: str) -> DataFrame:
    """Events in the unit's responses; for interleaved ones, also clicks on their products by team."""

    def count(type_: str) -> Column:
        return F.count_if(F.col("type") == type_).cast("double")

    items = shown.where(F.size("teams") > 0).select(
        "recommendation_id", F.explode(F.arrays_zip("products", "teams")).alias("item")
    )
    items = items.select("recommendation_id", F.col("item.products").alias("product_id"), "item.teams")
    is_interleaved = (F.col("type") == CLICK) & F.col("teams").isNotNull()
    return (
        attributed.join(items, ["recommendation_id", "product_id"], "left")
        .groupBy("unit")
        .agg(
            count(IMPRESSION).alias("impressions"), count(CLICK).alias("clicks"), count(CART).alias("carts"),
            F.count_if(is_interleaved).cast("double").alias(INTERLEAVED_CLICKS),
            F.count_if(is_interleaved & (F.col("teams") != control)).cast("double").alias(TREATMENT_CLICKS),
        )
    )  # fmt: skip


def _attributed_purchases(attributed: DataFrame, shown: DataFrame, days: int) -> DataFrame:
    """Purchases of any product up to `days` days after an exposure of the unit, and returns of these purchases."""
    exposed = shown.select(F.col("unit").alias("buyer_unit"), F.col("time").alias("at"))
    lines = attributed.where(F.col("type") == PURCHASE).withColumn(
        "value", F.coalesce("quantity", F.lit(1.0)) * F.coalesce("unit_price", F.lit(0.0))
    )
    in_time = (F.col("time") >= F.col("at")) & (F.col("time") <= F.col("at") + F.make_dt_interval(F.lit(days)))
    bought = lines.join(exposed, (F.col("unit") == F.col("buyer_unit")) & in_time, "left_semi").persist()
    sums = bought.groupBy("unit").agg(
        F.count("*").cast("double").alias("purchases"),
        F.countDistinct(F.coalesce("order_id", "event_id")).cast("double").alias("orders"),
        exact_sum(F.col("value")).alias("revenue"),
        F.count_if(F.col("unit_price").isNull()).cast("double").alias("unpriced"),
        F.lit(1.0).alias("buyer"),
        (F.countDistinct("date") > 1).cast("double").alias("repeater"),
    )
    orders = bought.select(
        F.col("unit").alias("buyer_unit"), F.col("product_id").alias("item"), F.col("order_id").alias("order"),
        F.col("time").alias("at"), F.col("unit_price").alias("paid"),
    )  # fmt: skip
    is_of_purchase = (F.col("unit") == F.col("buyer_unit")) & (F.col("product_id") == F.col("item"))
    is_later = F.col("time") >= F.col("at")
    same_order = F.col("order_id").isNull() | F.col("order").isNull() | (F.col("order_id") == F.col("order"))
    returned = (
        attributed.where(F.col("type") == RETURN)
        .join(orders, is_of_purchase & is_later & same_order)
        .groupBy("unit", "event_id")
        .agg(F.max(F.coalesce("quantity", F.lit(1.0)) * F.coalesce("unit_price", "paid", F.lit(0.0))).alias("value"))
        .groupBy("unit")
        .agg(F.count("*").cast("double").alias("returns"), exact_sum(F.col("value")).alias("returned"))
    )
    return sums.join(returned, "unit", "left")


def _robots(attributed: DataFrame, max_products: int) -> DataFrame:
    looked = attributed.where(F.col("type").isin(CLICK, CART)).groupBy("unit", "date")
    products = looked.agg(F.countDistinct("product_id").alias("products"))
    return products.groupBy("unit").agg((F.max("products") > max_products).alias("robot"))
