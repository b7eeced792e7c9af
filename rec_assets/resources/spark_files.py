"""Parquet files of the lake's tables: how Spark reads them, and how this process and Spark's tasks write them.

All files are written with Arrow, so equal rows give equal bytes. Executors need this package, and the credentials of an
object store that the driver has.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession

from rec_assets.files import sha256_of, sha256_of_file
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, equal_tables, spark_type

GROUP_ROWS = 2**18
"""Rows of a row group, which a task keeps in memory while it writes."""

DATE = pa.field("date", pa.date32())
"""The partition column, which the folders of a table name: `date=2017-12-03`."""


class File(NamedTuple):
    """A Parquet file of a table, with its path below the table."""

    path: str
    bytes: int
    rows: int

    @property
    def digest(self) -> str:
        """First half of the SHA-256 of its bytes, from its name; the whole path of a file that others wrote."""
        match = re.search(r"-([0-9a-f]{32})-[0-9a-f]{8}\.parquet$", self.path)
        return match[1] if match else self.path

    @property
    def number(self) -> int:
        """Number of the task that wrote it; −1 for a file that others wrote."""
        match = re.search(r"part-(\d{5})-[^/]*$", self.path)
        return int(match[1]) if match else -1

    def is_content_of(self, path: str) -> bool:
        """Whether a file has its digest; also True if others wrote it."""
        return self.digest in (self.path, sha256_of_file(path)[:32])


def dataset(files: list[str], schema: pa.Schema, table: str, filesystem: Any) -> ds.Dataset:
    """Files of a table (paths without a scheme), with the column `date` if they are in folders `date=…`."""
    days = ds.partitioning(pa.schema([DATE]), flavor="hive")
    return ds.dataset(files, schema, "parquet", filesystem, days, table)


def read(session: SparkSession, files: list[str], schema: pa.Schema, table: str, filesystem: Any) -> DataFrame:
    """`dataset` as a Spark frame. Spark itself reads files on a disk; in a store, tasks read them with Arrow."""
    if not isinstance(filesystem, LocalFileSystem):
        return read_lazily(session, files, schema, table, filesystem).to_spark()
    literal = (re.sub(r"([\\*?\[\]{}])", r"\\\1", file) for file in files)  # Spark interprets paths as globs
    return session.read.option("basePath", table).schema(_ddl(schema)).parquet(*literal)


def read_lazily(
    session: SparkSession, files: list[str], schema: pa.Schema, table: str, filesystem: Any, whole_days: bool = False
) -> LazyArrowRows:
    """`dataset`, read with Arrow in Spark's tasks. A task reads its files in order; or all files of its days."""
    groups = [[*group] for _, group in itertools.groupby(files, os.path.dirname if whole_days else None)]
    count = min(len(groups), int(session.conf.get("spark.sql.shuffle.partitions") or 1))
    tasks = [[*itertools.chain(*groups[number::count])] for number in range(count)]
    numbers = session.range(0, count, 1, count)  # one row, and so one task, per number

    def of_columns(*columns: str) -> LazyArrowRows:
        def read(numbers: Iterator[pa.Table]) -> Iterator[pa.Table]:
            for number in (number for rows in numbers for number in rows.column(0).to_pylist()):
                rows = dataset(tasks[number], schema, table, filesystem)
                for batch in rows.to_batches([*columns], batch_readahead=1, fragment_readahead=1, use_threads=False):
                    yield pa.Table.from_batches([batch])

        return LazyArrowRows(numbers, read, _ddl(pa.schema([schema.field(name) for name in columns])), of_columns)

    return of_columns(*schema.names)


def write(rows: LazyArrowRows, schema: pa.Schema, folder: str, filesystem: Any) -> list[File]:
    """Compute rows; each task writes its rows to one file in a folder. Returns the files in the order of the tasks."""

    def write(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        context = TaskContext.get()
        assert context is not None
        if (file := store(tables, schema, context.partitionId(), folder, filesystem)).rows:
            yield pa.Table.from_pylist([file._asdict()])

    written = [File(*row) for row in rows.then(write, "path string, bytes long, rows long").to_spark().collect()]
    return sorted(written) or [store([], schema, 0, folder, filesystem)]


def store(tables: Iterable[pa.Table], schema: pa.Schema, number: int, folder: str, filesystem: Any) -> File:
    """Write tables to file `number` of a partition, in row groups of equal length, under a unique name.

    Equal rows give equal bytes, however they are split into tables.
    """
    if is_local := isinstance(filesystem, LocalFileSystem):
        os.makedirs(folder, exist_ok=True)
    # Vacuuming deletes what a killed writer leaves in the folder.
    with tempfile.NamedTemporaryFile(dir=folder if is_local else None, suffix=".tmp") as file:
        rows, parts = 0, (table.select(schema.names).cast(schema) for table in tables)
        texts = [field.name for field in schema if field.type == pa.string()]  # dictionaries of floats only cost time
        with pq.ParquetWriter(
            file.name, schema, compression="snappy", use_dictionary=texts, store_schema=False
        ) as writer:
            for group in equal_tables(parts, GROUP_ROWS):
                writer.write_table(group.combine_chunks())
                rows += len(group)
        name = f"part-{number:05d}-{sha256_of(file)[:32]}-{uuid.uuid4().hex[:8]}.parquet"
        filesystem.put_file(file.name, f"{folder}/{name}")
        return File(name, os.path.getsize(file.name), rows)


def _ddl(schema: pa.Schema) -> str:
    return ", ".join(f"`{field.name}` {spark_type(field.type)}" for field in schema)
