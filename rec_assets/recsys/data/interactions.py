"""Interactions of a window of days: net purchases, signs of interest and returns.

All training data comes from `net_purchases`, or from `history_lines` if it also contains clicks, carts and returns.
`cleaning.py` cleans the raw lines of one day.
"""

from __future__ import annotations

import datetime as dt

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.data.returns import net_returns
from rec_assets.recsys.events import INTEREST, PURCHASE, RETURN


def net_purchases(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """Purchases of a window of `cleaned_interactions` less returns, without bulk orders, which show no preferences.

    Returns:
        One row per purchase line that was not fully returned: customer_id, product_id, order_id, date, age_days (int,
        before `as_of`), weight (1), quantity (kept), unit_price, rating.
    """
    pairs = ["customer_id", "product_id"]
    netting = ["event", "event_time", "line_id", "net_quantity"]
    columns = [*pairs, "order_id", "date", *netting, "weight", "unit_price", "rating"]
    lines = interactions.where(F.col("event").isin(PURCHASE, RETURN)).select(*columns)
    returned = lines.where(F.col("event") == RETURN).select(*pairs).distinct()
    untouched = lines.join(returned, pairs, "left_anti")
    touched = lines.join(returned, pairs, "left_semi")
    netted = touched.groupBy("customer_id").applyInPandas(net_returns, schema=touched.schema)
    kept = untouched.unionByName(netted).where((F.col("event") == PURCHASE) & (F.col("net_quantity") > 0))
    return _aged(kept.where(F.col("weight") > 0), as_of)


def return_lines(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """All return lines, with weight −1, in the columns of `net_purchases`, without those of bulk orders."""
    returned = interactions.where((F.col("event") == RETURN) & (F.col("weight") > 0))
    return _aged(returned.withColumn("weight", F.lit(-1.0)), as_of)


def history_lines(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """The lines of customer histories, in the columns of `net_purchases`.

    They are net purchases (weight 1), clicks and carts with their weights (from 0 to 1), and returns (−1).
    """
    interest = _aged(interactions.where(F.col("event").isin(*INTEREST)), as_of)
    return net_purchases(interactions, as_of).unionByName(interest).unionByName(return_lines(interactions, as_of))


def repartition(frame: DataFrame, *by: str) -> DataFrame:
    """Put the rows of each customer (or of each value of `by`) into one partition.

    Grouping by customer then needs no further shuffle. The number of partitions is explicit: otherwise Spark may keep
    the partitions of the files, whose order differs between clusters.
    """
    partitions = int(str(frame.sparkSession.conf.get("spark.sql.shuffle.partitions")))
    return frame.repartition(partitions, *(by or ("customer_id",)))


def _aged(lines: DataFrame, as_of: dt.date) -> DataFrame:
    age, quantity = F.datediff(F.lit(as_of), F.col("date")).alias("age_days"), F.col("net_quantity").alias("quantity")
    pair = ("customer_id", "product_id")
    return lines.select(*pair, "order_id", "date", age, "weight", quantity, "unit_price", "rating")
