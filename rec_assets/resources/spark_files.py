"""Parquet files of an object store in Spark, where Spark's own Hadoop has no connector for it.

Spark's tasks read and write them in Python, with Arrow and fsspec. Every worker needs this package, and the store's
credentials as the driver has them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq

from rec_assets.resources.storage import Part, upload

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

OPEN_COST = 4 * 2**20
LARGEST_TASK = 128 * 2**20

AS_SPARK = {"use_deprecated_int96_timestamps": True}
"""So Spark itself writes times; a table then has the same types on a disk and in a store."""


def hadoop_opens(session: SparkSession, scheme: str) -> bool:
    """Whether Spark's Hadoop has a connector for paths of this scheme; where its JVM can't be asked, it has none."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkAttributeError

    try:
        context = session.sparkContext
        files = context._jvm.org.apache.hadoop.fs.FileSystem  # type: ignore[union-attr]
        files.getFileSystemClass(scheme, context._jsc.hadoopConfiguration())
    except (Py4JJavaError, PySparkAttributeError):
        return False
    return True


def read_parquet(session: SparkSession, files: Mapping[str, int], base: str, schema: str) -> DataFrame:
    """The rows of files, with the day of a folder `date=…` below `base` as a column `date`.

    Args:
        session: Spark's.
        files: Path in the store, without scheme → size in bytes.
        base: The table's path.
        schema: DDL of the columns.
    """
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import StructType

    tasks = _tasks(files, int(session.conf.get("spark.sql.shuffle.partitions") or 1))
    dated = {file: _day(file, base) for file in files}
    types = to_arrow_schema(cast(StructType, StructType.fromDDL(schema)), timezone="UTC")

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from upath import UPath

        filesystem = UPath(f"s3://{base}").fs
        for batch in batches:
            for number in batch.column(0).to_pylist():
                for file in tasks[number]:
                    table = pq.read_table(file, filesystem=filesystem, partitioning=None)
                    if dated[file]:
                        table = table.append_column("date", pa.array([dated[file]] * len(table), pa.date32()))
                    yield from table.select(types.names).cast(types).to_batches()

    # One row and so one task for each number.
    return session.range(0, len(tasks), 1, len(tasks)).mapInArrow(read, schema)


def write_parquet(frame: DataFrame, folder: str, token: str) -> list[Part]:
    """Compute a frame; each task uploads its rows as one file. Returns these in the order of the tasks.

    A task holds its rows in memory at once.
    """
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = to_arrow_schema(frame.schema, timezone="UTC")

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        table = pa.Table.from_batches([batch.cast(schema) for batch in batches], schema)
        context = TaskContext.get()
        assert context is not None
        if len(table):
            number = context.partitionId()
            part = upload(table, folder, token, number, **AS_SPARK)
            yield pa.RecordBatch.from_pylist([{"number": number, **part._asdict()}])

    columns = "number long, name string, digest string, rows long, bytes long"
    written = sorted(frame.mapInArrow(write, columns).collect(), key=lambda row: row["number"])
    parts = [Part(row["name"], row["digest"], row["rows"], row["bytes"]) for row in written]
    return parts or [upload(schema.empty_table(), folder, token, 0, **AS_SPARK)]


def _tasks(files: Mapping[str, int], parallelism: int) -> list[list[str]]:
    """Files into tasks as Spark does it: the largest first, up to a share of all; to open a file costs as 4 MiB do."""
    share = sum(size + OPEN_COST for size in files.values()) / parallelism
    limit = min(LARGEST_TASK, max(OPEN_COST, share))
    tasks: list[list[str]] = []
    filled = float("inf")
    for file, size in sorted(files.items(), key=lambda item: -item[1]):
        if filled + size > limit:
            tasks.append([])
            filled = 0
        tasks[-1].append(file)
        filled += size + OPEN_COST
    return tasks


def _day(file: str, base: str) -> dt.date | None:
    folder = file.removeprefix(base).strip("/").partition("/")[0]
    return dt.date.fromisoformat(folder.removeprefix("date=")) if folder.startswith("date=") else None
