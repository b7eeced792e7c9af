"""Rows of whole customers in Spark tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, in_pandas


def repartition(frame: DataFrame, *by: str) -> DataFrame:
    """Put the rows of each customer (or of each value of `by`) into one partition.

    Grouping by customer then needs no further shuffle. The number of partitions is explicit: otherwise Spark may keep
    the partitions of the files, whose order differs between clusters.
    """
    partitions = int(str(frame.sparkSession.conf.get("spark.sql.shuffle.partitions")))
    return frame.repartition(partitions, *(by or ("customer_id",)))


def map_customers(
    rows: DataFrame | LazyArrowRows,
    function: Callable[[pd.DataFrame], pd.DataFrame],
    types: str,
    *,
    customers: int = 256,
) -> LazyArrowRows:
    """Apply a function to the rows of whole customers, in Spark tasks.

    Args:
        rows: A frame in any order; or the result of this function, directly or read back from its files. The latter
            already has partitions of whole customers, which is not checked.
        function: From the rows of some customers to the output rows.
        types: DDL of the output rows.
        customers: About the number of customers at a time, so that the memory of a task does not grow with all.
    """
    if not isinstance(rows, LazyArrowRows):
        rows = LazyArrowRows.from_frame(repartition(rows).sortWithinPartitions("customer_id"))

    def task(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        return map(function, whole_customers(frames, customers))

    return rows.then(in_pandas(task, types), types)


def whole_customers(frames: Iterable[pd.DataFrame], customers: int) -> Iterator[pd.DataFrame]:
    """Regroup frames sorted by `customer_id` into frames of at most `customers` customers, none of them split."""
    held: list[pd.DataFrame] = []
    count = 0
    for frame in frames:
        held.append(frame)
        count += frame["customer_id"].nunique()
        if count > customers:
            rows = pd.concat(held, ignore_index=True)
            whole = rows["customer_id"] != rows["customer_id"].iloc[-1]  # the next frame may have more of the last one
            yield from _parts(rows[whole], customers)
            held, count = [rows[~whole]], 1
    if held:
        yield from _parts(pd.concat(held, ignore_index=True), customers)


def _parts(rows: pd.DataFrame, customers: int) -> Iterator[pd.DataFrame]:
    """A frame in parts of this number of customers. Frames of tasks can have thousands."""
    ids = rows["customer_id"].to_numpy(object)
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.zeros(0, np.int64)
    cuts = [*starts[::customers], len(rows)]
    return (rows.iloc[begin:end] for begin, end in pairwise(cuts))
