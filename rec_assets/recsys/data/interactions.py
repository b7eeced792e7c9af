"""Interactions of a window of days: net purchases, signs of interest and returns.

All training data comes from `net_purchases`, or from `history_lines` if it also contains clicks, carts and returns.
`cleaning.py` cleans the raw lines of one day.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.events import INTEREST, PURCHASE, RETURN

_NETTING = ("event", "event_time", "line_id", "net_quantity")

_TOLERANCE = 1e-9
"""Smaller remainders are rounding errors, as after a return of 0.3 kg from purchases of 0.1 kg and 0.2 kg."""


def net_returns(lines: pd.DataFrame) -> pd.DataFrame:
    """Subtract returned quantities from the purchases they belong to.

    A return cancels the latest purchases of the same customer and product that are not later than the return. If these
    are not enough, the rest stays as the return's own `net_quantity`, to be matched in a wider window. Netting each day
    and then the window gives the same result as netting the window at once, because the latest purchases before a
    return are those of its own day.

    Args:
        lines: customer_id, product_id, event, event_time, line_id, net_quantity (≥ 0: for a purchase the quantity kept
            so far, for a return the quantity not matched yet). The result has the same rows with another net_quantity.
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
                    net[line] = 0.0 if net[line] - matched < _TOLERANCE else net[line] - matched
                if net[newest] == 0:
                    open_purchases.pop()
    lines["net_quantity"] = net
    return lines


def net_purchases(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """Purchases of a window of `cleaned_interactions` less returns, without bulk orders, which show no preferences.

    Returns:
        One row per purchase line that was not fully returned: customer_id, product_id, order_id, date, age_days (int,
        before `as_of`), weight (1), quantity (kept), unit_price, rating.
    """
    pairs = ["customer_id", "product_id"]
    columns = [*pairs, "order_id", "date", *_NETTING, "weight", "unit_price", "rating"]
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
