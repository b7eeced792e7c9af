"""Rows that Python functions make in Spark tasks, as Arrow tables.

Functions are chained within a task. Otherwise Spark converts the output of each function to its own rows and back to
Arrow for the next one. For millions of rows with dozens of columns, that costs more than the functions do.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DataType, StructType

TableFunction = Callable[[Iterator[pa.Table]], Iterator[pa.Table]]
"""Maps the tables of one partition to the tables of its output."""


@dataclass(frozen=True)
class LazyArrowRows:
    """Rows that are computed when they are read, and again at each further read.

    Attributes:
        frame: The input of the tasks, one partition each.
        function: Maps the tables of a partition to the rows.
        types: Types of the rows: a Spark schema, or its DDL.
        project: `select`, where it is possible to read only the columns.
    """

    frame: DataFrame
    function: TableFunction
    types: StructType | str
    project: Callable[..., LazyArrowRows] | None = None

    @classmethod
    def from_frame(cls, frame: DataFrame) -> LazyArrowRows:
        """The rows of a frame, unchanged."""
        return cls(frame, lambda tables: tables, frame.schema, lambda *names: cls.from_frame(frame.select(*names)))

    def then(self, function: TableFunction, types: StructType | str) -> LazyArrowRows:
        """The output of another function of these rows, partition by partition; `types` are those of the output."""
        first = self.function
        return LazyArrowRows(self.frame, lambda tables: function(first(tables)), types)

    def select(self, *columns: str) -> LazyArrowRows:
        """Some of the columns."""
        if self.project is not None:
            return self.project(*columns)
        types = ", ".join(f"`{name}` {spark_type(self.schema.field(name).type)}" for name in columns)
        return self.then(lambda tables: (table.select(columns) for table in tables), types)

    def to_spark(self) -> DataFrame:
        """The rows as a Spark frame."""
        function = self.function

        def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for table in function(pa.Table.from_batches([batch]) for batch in batches):
                yield from table.to_batches()

        return self.frame.mapInArrow(task, self.types)

    @property
    def schema(self) -> pa.Schema:
        """Schema of the tables."""
        return arrow_schema(self.types)


@contextmanager
def as_parquet_files(rows: DataFrame | LazyArrowRows, disk: Path) -> Iterator[list[pq.ParquetFile]]:
    """Rows, in their order, as Parquet files under `disk`, which tasks write. The files are deleted afterward.

    Use it to bring millions of rows to this process: collected the usual way, they can fill the heap of the Spark
    driver. `disk` is a folder that the tasks see too.
    """
    rows = rows if isinstance(rows, LazyArrowRows) else LazyArrowRows.from_frame(rows)
    folder, schema = disk / uuid.uuid4().hex, rows.schema

    def write(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        context = TaskContext.get()
        assert context is not None
        # Spark may run a task twice at the same time.
        name = f"part-{context.partitionId():05d}-{context.taskAttemptId()}.parquet"
        with pq.ParquetWriter(folder / name, schema, compression="lz4", use_dictionary=False) as writer:
            for table in tables:
                writer.write_table(table.select(schema.names).cast(schema))
        yield pa.table({"name": [name]})

    try:
        folder.mkdir(parents=True)
        names = sorted(row[0] for row in rows.then(write, "name string").to_spark().collect())
        yield [pq.ParquetFile(folder / name) for name in names]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def collect(rows: DataFrame | LazyArrowRows, disk: Path) -> pd.DataFrame:
    """All rows, in their order, through files; see `as_parquet_files`."""
    schema = rows.schema if isinstance(rows, LazyArrowRows) else arrow_schema(rows.schema)
    with as_parquet_files(rows, disk) as files:
        return pa.concat_tables([schema.empty_table(), *(file.read() for file in files)]).to_pandas()


def equal_tables(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows in tables of this length, however they were divided; the last one may be shorter."""
    held: pa.Table | None = None
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while len(held) >= rows:
            yield held.slice(0, rows)
            held = held.slice(rows)
    if held is not None and len(held):
        yield held


ARROW = {
    "string": pa.string(), "binary": pa.binary(), "boolean": pa.bool_(), "tinyint": pa.int8(), "smallint": pa.int16(),
    "int": pa.int32(), "bigint": pa.int64(), "float": pa.float32(), "double": pa.float64(), "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip
"""Spark type → Arrow type."""


def arrow_schema(types: StructType | str) -> pa.Schema:
    """The Arrow schema of a Spark schema or its DDL. Spark's own function has other arguments in each version."""
    types = cast("StructType", StructType.fromDDL(types)) if isinstance(types, str) else types
    return pa.schema([pa.field(field.name, _arrow_type(field.dataType), field.nullable) for field in types.fields])


def _arrow_type(type_: DataType) -> pa.DataType:
    if isinstance(type_, ArrayType):
        return pa.list_(pa.field("element", _arrow_type(type_.elementType), type_.containsNull))
    return ARROW[type_.simpleString()]


def spark_type(type_: pa.DataType) -> str:
    """The name of an Arrow type in Spark SQL."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"array<{spark_type(type_.value_type)}>"
    if pa.types.is_timestamp(type_):
        return "timestamp"
    if pa.types.is_null(type_) or pa.types.is_large_string(type_):
        return "string"
    return next(name for name, arrow in ARROW.items() if arrow == type_)


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a type in Spark SQL."""
    if name.startswith("array<"):
        return pa.list_(pa.field("element", arrow_type(name[len("array<") : -1])))
    return ARROW[name]


def in_pandas(function: Callable[[Iterator[pd.DataFrame]], Iterable[pd.DataFrame]], types: str) -> TableFunction:
    """Turn a function of pandas frames into one of tables. Of its output, the columns in `types` are kept."""
    schema = arrow_schema(types)

    def on_tables(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for frame in function(table.to_pandas() for table in tables):
            yield pa.Table.from_pandas(frame, schema, preserve_index=False)

    return on_tables
