"""Parquet files of the lake's tables: how Spark reads them, and how this process and Spark's tasks write them.

All files are written with Arrow, so equal rows give equal bytes. Executors need this package, and the credentials of an
object store that the driver has.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, spark_type

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

GROUP_ROWS = 2**18
"""Rows of a row group, which a task keeps in memory while it writes."""

DATE = pa.field("date", pa.date32())
"""The partition column, which the folders of a table name: `date=2017-12-03`."""

_DIGEST = re.compile(r"part-\d{5}-([0-9a-f]{32})-[0-9a-f]{8}\.parquet$")


class File(NamedTuple):
    """A Parquet file of a table, with its path below the table."""

    path: str
    bytes: int
    rows: int

    @property
    def digest(self) -> str:
        """First half of the SHA-256 of its bytes, from its name; the whole path of a file that others wrote."""
        match = _DIGEST.search(self.path)
        return match[1] if match else self.path


def digest_of(path: str) -> str:
    """First half of the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()[:32]


def dataset(files: list[str], schema: pa.Schema, table: str, filesystem: Any) -> ds.Dataset:
    """Files of a table, with the column `date` if they are in folders `date=…`.

    Args:
        files: Paths without a scheme.
        schema: Columns.
        table: Path of the table.
        filesystem: File system of the paths.
    """
    days = ds.partitioning(pa.schema([DATE]), flavor="hive")
    return ds.dataset(files, schema, "parquet", filesystem, days, table)


def read(session: SparkSession, files: list[str], schema: pa.Schema, table: str, filesystem: Any) -> DataFrame:
    """`dataset` as a Spark frame. Spark itself reads files on a disk; in a store, tasks read them with Arrow."""
    if not isinstance(filesystem, LocalFileSystem):
        return read_lazily(session, files, schema, table, filesystem).to_spark()
    literal = (re.sub(r"([\\*?\[\]{}])", r"\\\1", file) for file in files)  # Spark interprets paths as globs
    return session.read.option("basePath", table).schema(_ddl(schema)).parquet(*literal)


def read_lazily(
    session: SparkSession, files: list[str], schema: pa.Schema, table: str, filesystem: Any
) -> LazyArrowRows:
    """`dataset`, read with Arrow in Spark's tasks. A task reads its files in order."""
    count = min(len(files), int(session.conf.get("spark.sql.shuffle.partitions") or 1))
    tasks = [files[number::count] for number in range(count)]

    def read(numbers: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for number in (number for rows in numbers for number in rows.column(0).to_pylist()):
            rows = dataset(tasks[number], schema, table, filesystem)
            for batch in rows.to_batches(batch_readahead=1, fragment_readahead=1, use_threads=False):
                yield pa.Table.from_batches([batch])

    # One row, and so one task, per number.
    return LazyArrowRows.from_frame(session.range(0, count, 1, count)).then(read, _ddl(schema))


def write(rows: LazyArrowRows, schema: pa.Schema, folder: str, filesystem: Any) -> list[File]:
    """Compute rows; each task writes its rows to one file. Returns the files in the order of the tasks.

    Args:
        rows: The rows.
        schema: Columns of the files.
        folder, filesystem: Folder of the files, without a scheme, and its file system.
    """

    def write(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        from pyspark import TaskContext

        context = TaskContext.get()
        assert context is not None
        if (file := store(tables, schema, context.partitionId(), folder, filesystem)).rows:
            yield pa.Table.from_pylist([file._asdict()])

    written = [File(*row) for row in rows.then(write, "path string, bytes long, rows long").to_spark().collect()]
    return sorted(written) or [store([], schema, 0, folder, filesystem)]


def store(tables: Iterable[pa.Table], schema: pa.Schema, number: int, folder: str, filesystem: Any) -> File:
    """Write tables to a new file. Its content does not depend on how the rows are split, and its name is unique.

    Args:
        tables: The rows.
        schema: Columns of the file.
        number: Position of the file in its partition.
        folder, filesystem: As in `write`.
    """
    with tempfile.NamedTemporaryFile() as unnamed:
        rows, digest = _write_groups(tables, schema, unnamed.name), digest_of(unnamed.name)
        name = f"part-{number:05d}-{digest}-{uuid.uuid4().hex[:8]}.parquet"
        filesystem.put_file(unnamed.name, f"{folder}/{name}")
        return File(name, os.path.getsize(unnamed.name), rows)


def _write_groups(tables: Iterable[pa.Table], schema: pa.Schema, path: str) -> int:
    """Write tables to a file in row groups of equal length. Returns the number of rows."""
    held, rows = schema.empty_table(), 0
    with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
        for table in tables:
            held, rows = pa.concat_tables([held, table.select(schema.names).cast(schema)]), rows + len(table)
            while len(held) >= GROUP_ROWS:
                writer.write_table(held.slice(0, GROUP_ROWS).combine_chunks())
                held = held.slice(GROUP_ROWS)
        if len(held):
            writer.write_table(held.combine_chunks())
    return rows


def _ddl(schema: pa.Schema) -> str:
    return ", ".join(f"`{field.name}` {spark_type(field.type)}" for field in schema)
