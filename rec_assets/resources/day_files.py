"""Files of many days of a table, which Spark's tasks write in one job. `data_versions.DayWriter` then commits them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.data.raw_lines import LINE
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.spark_files import File, store

FILE_LINES = 2**21
"""About the most lines of a file, which one task sorts."""

_RUN_LINES = 2**18
"""Lines of a source file that stay together if a day has several files."""


@dataclass(frozen=True)
class DayFiles:
    """Where tasks write the days of a table: its schema, its folder, and the file system of the folder."""

    schema: pa.Schema
    folder: str
    filesystem: Any

    def write(self, rows: Iterable[pa.Table], day: dt.date, number: int) -> File:
        """Write file `number` of a day. Its path is below the folder."""
        folder = f"date={day}"
        file = store(rows, self.schema, number, f"{self.folder}/{folder}", self.filesystem)
        return file._replace(path=f"{folder}/{file.path}")


def write_lines(lines: DataFrame, rows_by_day: Mapping[dt.date, int], files: DayFiles) -> dict[dt.date, list[File]]:
    """Write lines with `date` and LINE by day, sorted by LINE.

    The files of a day depend on its lines and their number alone, not on other days or on the number of tasks.

    Args:
        lines: Lines of any days.
        rows_by_day: Approximate number of lines of each day. A large day has several files.
        files: Where to write.
    """
    tasks = int(lines.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    keys = ["date", "file"]
    sorted_lines = (
        lines.withColumn("file", _file_number(rows_by_day))
        .repartition(tasks, *keys)
        .sortWithinPartitions(*keys, *LINE)
        .select(*keys, *files.schema.names)
    )

    def write(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for (day, number), run in itertools.groupby(runs(tables, keys), lambda piece: piece[0]):
            file = files.write((table for _, table in run), day, number)
            yield pa.Table.from_pylist([{"date": day, **file._asdict()}])

    types = "date date, path string, bytes long, rows long"
    written = defaultdict(list)
    for day, *file in LazyArrowRows.from_frame(sorted_lines).then(write, types).to_spark().collect():
        written[day].append(File(*file))
    return {day: sorted(each) for day, each in written.items()}


def _file_number(rows_by_day: Mapping[dt.date, int]) -> Column:
    """Number of the file that a line goes to: 0 on all but large days."""
    number = F.lit(0)
    for day, rows in rows_by_day.items():
        if (count := -(-rows // FILE_LINES)) > 1:
            run = F.xxhash64("source_file", F.floor(F.col("source_row") / _RUN_LINES))
            number = F.when(F.col("date") == F.lit(day), F.pmod(run, F.lit(count)).cast("int")).otherwise(number)
    return number


def runs(tables: Iterable[pa.Table], keys: list[str]) -> Iterator[tuple[tuple[Any, ...], pa.Table]]:
    """Consecutive rows with equal keys, with their keys."""
    for table in tables:
        if not len(table):
            continue
        columns = [table[key].to_numpy() for key in keys]
        is_new = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        starts = [0, *(np.flatnonzero(is_new) + 1), len(table)]
        for first, end in itertools.pairwise(starts):
            yield tuple(table[key][first].as_py() for key in keys), table.slice(first, end - first)
