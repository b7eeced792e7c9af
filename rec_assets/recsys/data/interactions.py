"""Customer histories as rows: net purchases, returns and signs of interest in a window of days.

All models learn from them. They are made from `cleaned_interactions`, either of the whole window, or of the days since
the histories of an earlier day. `histories.py` has their arrays.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.arrays import Mask
from rec_assets.recsys.data.returns import net_returns
from rec_assets.recsys.events import PURCHASE, RETURN
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, arrow_schema

HISTORY_TYPES = (
    "customer_id string, product_id string, variant_id string, order_id string, event string, age_days int, "
    "weight double, quantity double, unit_price double, rating double, wrong_size boolean"
)
"""Spark types of `customer_histories`. `age_days` counts back from the as-of day.

`weight` is 1 for a purchase and −1 for a return; signs of interest have less than 1. A bulk order has 0: it shows no
preferences, and is there because a return may cancel it. A dismissal has −0.5. `quantity` is what was kept of a
purchase.
"""

IS_PURCHASE = "weight >= 1"
"""Condition of net purchases in histories."""

LINE_COLUMNS = (
    "line_id", "order_id", "customer_id", "product_id", "variant_id", "event", "event_time", "weight", "net_quantity",
    "unit_price", "rating", "wrong_size", "date",
)  # fmt: skip
"""Columns of `cleaned_interactions` that histories are made from."""

LINES_OF_FILE = 2**18
"""A task makes a file, and has its lines in memory."""

_MAX_FILES = 2**10


@dataclass(frozen=True)
class EarlierHistories:
    """The histories of an earlier day, in the same number of files.

    Attributes:
        as_of: The day.
        lookback_days: Of their lines, those that are now younger are kept.
        read: The rows of a file, by its number. Spark's tasks call it.
    """

    as_of: dt.date
    lookback_days: int
    read: Callable[[int], pa.Table]


def files_of_histories(lines: int) -> int:
    """Number of files for histories of a number of lines: a power of two, so that it rarely changes."""
    return min(_MAX_FILES, 1 << max(0, lines // LINES_OF_FILE).bit_length())


def customer_histories(
    interactions: DataFrame, as_of: dt.date, files: int, earlier: EarlierHistories | None = None
) -> LazyArrowRows:
    """Histories up to a day, in HISTORY_TYPES: one row per line, less purchases that were fully returned.

    The result does not depend on `earlier`, because returns cancel the newest purchases, day by day (`net_returns`).

    Args:
        interactions: `cleaned_interactions` of the window, or of the days since `earlier`, with `date`.
        as_of: The last day.
        files: Number of tasks, and so of files. Each has whole customers, sorted by id, then by time.
        earlier: The histories to continue.
    """
    is_return = F.col("event") == RETURN
    lines = interactions.select(
        "customer_id", "product_id", "variant_id", "order_id", "event",
        F.datediff(F.lit(as_of), F.col("date")).alias("age_days"),
        F.when(is_return, -F.col("weight")).otherwise(F.col("weight")).alias("weight"),
        F.col("net_quantity").alias("quantity"), "unit_price", "rating", "wrong_size",
        "event_time", "line_id",
    )  # fmt: skip
    # Spark skips the tasks of an empty frame, so there is at least one row. It has no customer, and is left out below.
    nothing = [F.lit(None).cast(type_).alias(name) for name, type_ in lines.dtypes]
    lines = lines.unionByName(lines.sparkSession.range(1).select(*nothing))
    order = ("customer_id", F.col("age_days").desc(), "event_time", is_return, "line_id", "product_id")
    lines = lines.repartition(files, "customer_id").sortWithinPartitions(*order)
    schema = arrow_schema(HISTORY_TYPES)

    def update(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        context = TaskContext.get()
        assert context is not None
        rows = pa.concat_tables([schema.empty_table(), *(table.cast(schema) for table in tables)])
        rows = rows.filter(pc.is_valid(rows["customer_id"]))
        known = schema.empty_table()
        if earlier is not None:
            known = earlier.read(context.partitionId()).select(schema.names).cast(schema)
            age = pc.add(known["age_days"], pa.scalar((as_of - earlier.as_of).days, pa.int32()))
            known = known.set_column(schema.get_field_index("age_days"), schema.field("age_days"), age)
            known = known.filter(pc.less(known["age_days"], earlier.lookback_days))
        is_new = np.arange(len(known) + len(rows)) >= len(known)
        rows = pa.concat_tables([known, rows])
        by_customer = pc.sort_indices(rows["customer_id"])  # stable, so older lines stay first
        yield _less_returns(rows.take(by_customer), is_new[by_customer.to_numpy()])

    return LazyArrowRows.from_frame(lines.select(*schema.names)).then(update, HISTORY_TYPES)


def _less_returns(rows: pa.Table, is_new: Mask) -> pa.Table:
    """Subtract new returns from their purchases. Drop purchases with nothing left, and bulk returns."""
    bought, returned = (pc.equal(rows["event"], event).to_numpy() for event in (PURCHASE, RETURN))
    quantity = rows["quantity"].to_numpy().copy()
    if (new_returns := returned & is_new).any():
        sold = pc.coalesce(rows["variant_id"], rows["product_id"])
        pair = pc.binary_join_element_wise(rows["customer_id"], sold, "\0")
        has_return = pc.is_in(pair, pair.filter(pa.array(new_returns))).to_numpy()
        line = np.flatnonzero(has_return & (bought | new_returns))
        frame = rows.select(["customer_id", "product_id", "variant_id", "event"]).take(line).to_pandas()
        net = net_returns(frame.assign(event_time=line, line_id=line, net_quantity=quantity[line]))["net_quantity"]
        is_purchase = bought[line]
        quantity[line[is_purchase]] = net.to_numpy()[is_purchase]
    weight = rows["weight"].to_numpy()
    gone = (bought & ~(quantity > 0)) | (returned & ~(weight < 0))
    column = rows.schema.get_field_index("quantity")
    return rows.set_column(column, rows.schema.field(column), pa.array(quantity)).filter(pa.array(~gone))


def history_lines(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """`customer_histories` of a window as a frame."""
    tasks = int(str(interactions.sparkSession.conf.get("spark.sql.shuffle.partitions")))
    return customer_histories(interactions, as_of, tasks).to_spark()


def net_purchases(interactions: DataFrame, as_of: dt.date) -> DataFrame:
    """Purchases of a window of `cleaned_interactions` less returns, without bulk orders, in HISTORY_TYPES."""
    return history_lines(interactions, as_of).where(IS_PURCHASE)
