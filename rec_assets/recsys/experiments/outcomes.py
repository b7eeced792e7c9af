"""What units did after they were exposed: events tied to answers and, in time, to units. In Spark.

`docs/experiments.md` defines each number. What is counted here adds up to what the API logged: `Totals`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from rec_assets.recsys.events import CART, CLICK, IMPRESSION, MONEY, PURCHASE, RETURN
from rec_assets.recsys.experiments.metrics import JUDGED, NUMBERS, WON
from rec_assets.recsys.experiments.spec import CUSTOMER, Experiment
from rec_assets.recsys.experiments.statistics import Moments
from rec_assets.recsys.spark.sums import exact_sum

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True)
class Totals:
    """What was logged of a variant, in whole: robots' and everybody's.

    Attributes:
        exposures: Answers.
        units: Units exposed.
        switched: Units that saw more than one variant: never, unless the file was changed midway.
        robots: Units that look at more in a day than a shopper does; left out of all comparisons.
        impressions, clicks, carts, purchases, returns: Events that belong to its answers, or to its units in time.
        revenue, returned: Of the purchases, and of the returns of these.
        unpriced: Purchases without a price, which count as 0.
        simulated: Units that were the simulator's.
    """

    exposures: int = 0
    units: int = 0
    switched: int = 0
    robots: int = 0
    impressions: int = 0
    clicks: int = 0
    carts: int = 0
    purchases: int = 0
    returns: int = 0
    revenue: float = 0.0
    returned: float = 0.0
    unpriced: int = 0
    simulated: int = 0

    def __add__(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


def units_of(
    experiment: Experiment, exposures: DataFrame, events: DataFrame, purchases: DataFrame, most_products: int
) -> DataFrame:
    """One row a unit: unit, variant, switched, robot, simulated, exposures, and the numbers of NUMBERS and _TOTALS.

    Args:
        experiment: Which.
        exposures: `experiment_exposures` from its first day on.
        events: `raw_feedback_events` of the same days. Purchases and returns that a public key reported (`sender`)
            don't count: anybody who opens a page can report anything.
        purchases: customer_id, date, value of the BEFORE_DAYS before the experiment (`cleaned_interactions`).
        most_products: Who clicks more products in a day is taken for a robot.
    """
    from pyspark.sql import functions as F

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
    # An event is a unit's if it names one of the unit's answers, or says itself whose it is.
    named = shown.select("recommendation_id", F.col("unit").alias("of_answer"))
    told = events.where(~F.col("type").isin(*MONEY) | F.col("sender").isNull())
    told = told.join(named, "recommendation_id", "left")
    told = told.withColumn("unit", F.coalesce("of_answer", key)).where(F.col("unit").isNotNull()).persist()
    seen = _seen(told.where(F.col("of_answer").isNotNull()), shown, experiment.control)
    bought = _bought(told, shown, experiment.attribution_days)
    for more in (seen, bought, _robots(told, most_products)):
        units = units.join(more, "unit", "left")
    if experiment.unit == CUSTOMER:
        spent = purchases.groupBy(F.col("customer_id").alias("unit")).agg(exact_sum(F.col("value")).alias("before"))
        units = units.join(spent, "unit", "left")
    else:
        units = units.withColumn("before", F.lit(0.0))
    return units.select(
        "unit", "variant", "switched", "simulated", F.coalesce("robot", F.lit(False)).alias("robot"), "exposures",
        *(F.coalesce(name, F.lit(0.0)).cast("double").alias(name) for name in (*NUMBERS, *_TOTALS)),
    )  # fmt: skip


_TOTALS = ("purchases", "returns", "unpriced", JUDGED, WON)


def versions_of(experiment: Experiment, exposures: DataFrame) -> dict[str, list[int]]:
    """Variant → versions of the registry that its answers were made by."""
    from pyspark.sql import functions as F

    shown = exposures.where(F.col("experiment") == experiment.name)
    rows = shown.groupBy("variant").agg(F.sort_array(F.collect_set("model_version")).alias("versions")).collect()
    return {row["variant"]: list(row["versions"]) for row in rows}


def totals_of(units: DataFrame) -> dict[str, Totals]:
    """Variant → what `units_of` gave, in sum."""
    from pyspark.sql import functions as F

    units = units.withColumn("units", F.lit(1)).withColumnRenamed("robot", "robots")
    kinds = {each.name: "double" if each.type == "float" else "long" for each in fields(Totals)}
    sums = [
        exact_sum(F.col(name)) if kind == "double" else F.sum(F.col(name).cast(kind)) for name, kind in kinds.items()
    ]
    rows = units.groupBy("variant").agg(*sums)
    return {row["variant"]: Totals(*row[1:]) for row in rows.orderBy("variant").collect()}


def moments_of(units: DataFrame) -> dict[str, Moments]:
    """Variant → sums over its units that are no robots and saw nothing else."""
    import numpy as np
    from pyspark.sql import functions as F

    names = (*NUMBERS, JUDGED, WON)
    columns = [F.lit(1.0), *(F.col(name) for name in names)]
    pairs = [(i, j) for i in range(len(columns)) for j in range(i, len(columns))]
    sums = [exact_sum(columns[i] * columns[j]).alias(f"{i}_{j}") for i, j in pairs]
    found = {}
    for row in units.where(~F.col("robot") & ~F.col("switched")).groupBy("variant").agg(*sums).collect():
        gram = np.zeros((len(columns), len(columns)))
        for i, j in pairs:
            gram[i, j] = gram[j, i] = row[f"{i}_{j}"]
        found[row["variant"]] = Moments(names, gram)
    return found


def _seen(told: DataFrame, shown: DataFrame, control: str) -> DataFrame:
    """What happened in the unit's answers; of mixed ones, clicks on their products, and on the other's."""
    from pyspark.sql import functions as F

    def count(type_: str) -> Column:
        return F.count_if(F.col("type") == type_).cast("double")

    places = shown.where(F.size("teams") > 0).select(
        "recommendation_id", F.explode(F.arrays_zip("products", "teams")).alias("place")
    )
    places = places.select("recommendation_id", F.col("place.products").alias("product_id"), "place.teams")
    is_judged = (F.col("type") == CLICK) & F.col("teams").isNotNull()
    return (
        told.join(places, ["recommendation_id", "product_id"], "left")
        .groupBy("unit")
        .agg(
            count(IMPRESSION).alias("impressions"), count(CLICK).alias("clicks"), count(CART).alias("carts"),
            F.count_if(is_judged).cast("double").alias(JUDGED),
            F.count_if(is_judged & (F.col("teams") != control)).cast("double").alias(WON),
        )
    )  # fmt: skip


def _bought(told: DataFrame, shown: DataFrame, days: int) -> DataFrame:
    """Purchases up to so many days after an exposure of the unit, whichever product; and returns of these."""
    from pyspark.sql import functions as F

    exposed = shown.select(F.col("unit").alias("who"), F.col("time").alias("at"))
    lines = told.where(F.col("type") == PURCHASE).withColumn(
        "value", F.coalesce("quantity", F.lit(1.0)) * F.coalesce("unit_price", F.lit(0.0))
    )
    in_time = (F.col("time") >= F.col("at")) & (F.col("time") <= F.col("at") + F.make_dt_interval(F.lit(days)))
    bought = lines.join(exposed, (F.col("unit") == F.col("who")) & in_time, "left_semi").persist()
    sums = bought.groupBy("unit").agg(
        F.count("*").cast("double").alias("purchases"),
        F.countDistinct(F.coalesce("order_id", "event_id")).cast("double").alias("orders"),
        exact_sum(F.col("value")).alias("revenue"),
        F.count_if(F.col("unit_price").isNull()).cast("double").alias("unpriced"),
        F.lit(1.0).alias("buyer"),
        (F.countDistinct("date") > 1).cast("double").alias("repeater"),
    )
    orders = bought.select(
        F.col("unit").alias("who"), F.col("product_id").alias("what"), F.col("order_id").alias("order"),
        F.col("time").alias("at"), F.col("unit_price").alias("paid"),
    )  # fmt: skip
    back = told.where(F.col("type") == RETURN)
    is_of = (F.col("unit") == F.col("who")) & (F.col("product_id") == F.col("what")) & (F.col("time") >= F.col("at"))
    is_of = is_of & (F.col("order_id").isNull() | F.col("order").isNull() | (F.col("order_id") == F.col("order")))
    returned = (
        back.join(orders, is_of)
        .groupBy("unit", "event_id")
        .agg(F.max(F.coalesce("quantity", F.lit(1.0)) * F.coalesce("unit_price", "paid", F.lit(0.0))).alias("value"))
        .groupBy("unit")
        .agg(F.count("*").cast("double").alias("returns"), exact_sum(F.col("value")).alias("returned"))
    )
    return sums.join(returned, "unit", "left")


def _robots(told: DataFrame, most_products: int) -> DataFrame:
    from pyspark.sql import functions as F

    looked = (
        told.where(F.col("type").isin(CLICK, CART))
        .groupBy("unit", "date")
        .agg(F.countDistinct("product_id").alias("products"))
    )
    return looked.groupBy("unit").agg((F.max("products") > most_products).alias("robot"))
