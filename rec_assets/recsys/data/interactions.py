"""Interactions over a window of days: order lines, with what was returned taken off what was bought, and interest.

Everything the models learn from passes through `net_purchases`, or `history_lines` where customers' tastes are sought.
`cleaning` cleans one day's raw lines.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rec_assets.recsys.events import INTEREST, PURCHASE, RETURN

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_NETTING = ("event", "event_time", "line_id", "net_quantity")

_NOTHING = 1e-9
"""Less than this is left by rounding only: 0.3 kg returned of 0.1 kg and 0.2 kg."""


def net_returns(lines: pd.DataFrame) -> pd.DataFrame:
    """Take returned quantities off the purchases they belong to.

    A return cancels the newest purchases of the same customer and product that are not later than itself.
    What is left of it when these run out stays as its own `net_quantity`, to be matched in a wider window.
    Netting each day and then the window of these days gives what netting the window at once gives: the newest
    purchases before a return are those of its own day.

    Args:
        lines: customer_id, product_id, event, event_time, line_id, net_quantity (≥ 0: for a purchase what the
            customer has kept so far, for a return what is not matched yet); any further columns are kept.

    Returns:
        The same rows in the same order, with `net_quantity` updated.
    """
    lines = lines.copy()
    is_return = lines["event"] == RETURN
    if not is_return.any():
        return lines
    pair = ["customer_id", "product_id"]
    keys = pd.MultiIndex.from_frame(lines[pair])
    touched = np.flatnonzero(keys.isin(keys[is_return]))
    net = lines["net_quantity"].to_numpy(float).copy()
    order = lines.iloc[touched].assign(_row=touched, _return=is_return.to_numpy()[touched])
    order = order.sort_values([*pair, "event_time", "_return", "line_id"], kind="stable")
    for _, group in order.groupby(pair, sort=False):
        open_purchases: list[int] = []
        for row, returned in zip(group["_row"], group["_return"], strict=True):
            if not returned:
                open_purchases.append(row)
                continue
            while net[row] > 0 and open_purchases:
                newest = open_purchases[-1]
                matched = min(net[row], net[newest])
                for line in (row, newest):
                    net[line] = 0.0 if net[line] - matched < _NOTHING else net[line] - matched
                if net[newest] == 0:
                    open_purchases.pop()
    lines["net_quantity"] = net
    return lines


def net_purchases(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """Purchases of a window that were kept, in Spark; but for bulk orders, which tell nothing of tastes.

    Args:
        interactions: `cleaned_interactions` of the window, none later than `as_of`.
        as_of: Day from which ages are counted.

    Returns:
        One row per purchase line of which something was kept: customer_id, product_id, order_id, date,
        age_days (int), weight (1), quantity (what was kept), unit_price, rating.
    """
    from pyspark.sql import functions as F

    pairs = ["customer_id", "product_id"]
    columns = [*pairs, "order_id", "date", *_NETTING, "weight", "unit_price", "rating"]
    lines = interactions.where(F.col("event").isin(PURCHASE, RETURN)).select(*columns)
    returned = lines.where(F.col("event") == RETURN).select(*pairs).distinct()
    untouched = lines.join(returned, pairs, "left_anti")
    touched = lines.join(returned, pairs, "left_semi")
    netted = touched.groupBy("customer_id").applyInPandas(net_returns, schema=touched.schema)
    kept = untouched.unionByName(netted).where((F.col("event") == PURCHASE) & (F.col("net_quantity") > 0))
    return _aged(kept.where(F.col("weight") > 0), as_of)


def returns(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """Return lines, whatever they take back, with weight −1, in the columns of `net_purchases`; none of bulk orders."""
    from pyspark.sql import functions as F

    returned = interactions.where((F.col("event") == RETURN) & (F.col("weight") > 0))
    return _aged(returned.withColumn("weight", F.lit(-1.0)), as_of)


def history_lines(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """What a customer's history is made of, in the columns of `net_purchases`.

    Net purchases (weight 1), clicks and carts with their weights (from 0 to 1), and returns (−1).
    """
    from pyspark.sql import functions as F

    interest = _aged(interactions.where(F.col("event").isin(*INTEREST)), as_of)
    return net_purchases(interactions, as_of).unionByName(interest).unionByName(returns(interactions, as_of))


def repartition(frame: DataFrame, *by: str) -> DataFrame:
    """The same rows, each customer's (or those of one value of `by`) in one partition.

    What is then grouped by customer needn't move once more. And the number of partitions is said: without it Spark may
    read them as they were written, which is in another order on each cluster.
    """
    partitions = int(str(frame.sparkSession.conf.get("spark.sql.shuffle.partitions")))
    return frame.repartition(partitions, *(by or ("customer_id",)))


def _aged(lines: DataFrame, as_of: dt.date) -> DataFrame:
    from pyspark.sql import functions as F

    return lines.select(
        "customer_id",
        "product_id",
        "order_id",
        "date",
        F.datediff(F.lit(as_of), F.col("date")).alias("age_days"),
        "weight",
        F.col("net_quantity").alias("quantity"),
        "unit_price",
        "rating",
    )
