"""Parquet files that Spark's tasks read and write in Python: with Arrow, and with fsspec in an object store.

Used for `LazyArrowRows`, to avoid a conversion to Java's rows, and for every table in an object store for which Spark's
Hadoop has no connector. Executors need this package and the same credentials of the store as the driver.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, arrow_schema
from rec_assets.resources.manifest import Part

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from pyspark.sql import SparkSession

OPEN_COST = 4 * 2**20
LARGEST_TASK = 128 * 2**20
GROUP_ROWS = 2**18
"""Rows of a row group, which a task keeps in memory while it writes."""

AS_SPARK = {"use_deprecated_int96_timestamps": True}
"""Spark writes timestamps in this format, so a table has the same types whichever of the two wrote it."""


def hadoop_opens(session: SparkSession, scheme: str) -> bool:
    """Whether Spark's Hadoop has a connector for paths of this scheme. False if the JVM is not reachable."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkAttributeError

    try:
        context = session.sparkContext
        files = context._jvm.org.apache.hadoop.fs.FileSystem  # type: ignore[union-attr]
        files.getFileSystemClass(scheme, context._jsc.hadoopConfiguration())
    except (Py4JJavaError, PySparkAttributeError):
        return False
    return True


def read_parquet(
    session: SparkSession, files: Mapping[str, int], base: str, types: str, filesystem: AbstractFileSystem | None
) -> LazyArrowRows:
    """The rows of files. A file is read in order in one task; a folder `date=…` below `base` becomes the column `date`.

    Args:
        session: Spark session.
        files: Path in the storage → size in bytes.
        base: The table's path.
        types: DDL of the columns.
        filesystem: File system of the paths; None for the local one.
    """
    tasks = _tasks(files, int(session.conf.get("spark.sql.shuffle.partitions") or 1))
    dated = {file: _day(file, base) for file in files}
    schema = arrow_schema(types)

    def read(numbers: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for number in (number for table in numbers for number in table.column(0).to_pylist()):
            for file in tasks[number]:
                with pq.ParquetFile(file, filesystem=filesystem, pre_buffer=True) as opened:
                    for batch in opened.iter_batches():
                        table = pa.Table.from_batches([batch])
                        if dated[file]:
                            table = table.append_column("date", pa.array([dated[file]] * len(table), pa.date32()))
                        yield table.select(schema.names).cast(schema)

    # One row, and so one task, per number.
    return LazyArrowRows.from_frame(session.range(0, len(tasks), 1, len(tasks))).then(read, types)


def write_parquet(rows: LazyArrowRows, put: Callable[[Path, int], Part], within: Path | None = None) -> list[Part]:
    """Compute the rows; each task writes its rows to one file. Returns the files in the order of the tasks.

    Args:
        rows: Rows to write.
        put: Called in the task: takes a file and the number of its task, and stores the file as a part.
        within: Folder of the files before that; None for the system's temporary folder.
    """
    schema = rows.schema

    def write(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        number = context.partitionId()
        with tempfile.TemporaryDirectory(dir=within) as folder:
            path = Path(folder) / "part.parquet"
            if _write_groups(tables, schema, path):
                yield pa.Table.from_pylist([{"number": number, **put(path, number)._asdict()}])

    columns = "number long, name string, digest string, rows long, bytes long, checksum long"
    written = sorted(rows.then(write, columns).to_spark().collect(), key=lambda row: row["number"])
    if written:
        return [Part(*row[1:]) for row in written]
    with tempfile.TemporaryDirectory(dir=within) as folder:
        path = Path(folder) / "part.parquet"
        _write_groups([schema.empty_table()], schema, path)
        return [put(path, 0)]


def _write_groups(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> int:
    """Write tables to one file. Its bytes do not depend on how the rows are split. Returns the number of rows."""
    held, rows = schema.empty_table(), 0
    with pq.ParquetWriter(path, schema, compression="zstd", **AS_SPARK) as writer:
        for table in tables:
            held, rows = pa.concat_tables([held, table.cast(schema)]), rows + len(table)
            while len(held) >= GROUP_ROWS:
                writer.write_table(held.slice(0, GROUP_ROWS).combine_chunks())
                held = held.slice(GROUP_ROWS)
        if len(held):
            writer.write_table(held.combine_chunks())
    return rows


def _tasks(files: Mapping[str, int], parallelism: int) -> list[list[str]]:
    """Assign files to tasks as Spark does: the largest first, up to an equal share; opening a file counts as 4 MiB."""
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
