"""Rows that Python makes in Spark's tasks. Work that follows work is done in the same task, on Arrow tables.

Spark turns what Python gives back into rows of its own, and these into Arrow again for the next function. For millions
of rows of dozens of columns that costs more than the work does.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructType

Work = Callable[[Iterator[pa.Table]], Iterator[pa.Table]]
"""What a task does with the tables of one partition."""


@dataclass(frozen=True)
class LazyArrowRows:
    """Rows that are made when they are asked for, once each time.

    Attributes:
        begin: What tasks begin with, a partition each.
        work: What they make of it.
        types: Of the rows: a schema of Spark's, or its DDL.
    """

    begin: DataFrame
    work: Work
    types: StructType | str

    @classmethod
    def of(cls, frame: DataFrame) -> LazyArrowRows:
        """The rows of a frame, as they are."""
        return cls(frame, lambda tables: tables, frame.schema)

    def then(self, work: Work, types: StructType | str) -> LazyArrowRows:
        """What some work makes of these rows, a partition at a time; `types` are those of what comes out."""
        first = self.work
        return LazyArrowRows(self.begin, lambda tables: work(first(tables)), types)

    def to_spark(self) -> DataFrame:
        """The rows as a frame of Spark's."""
        work = self.work

        def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for table in work(pa.Table.from_batches([batch]) for batch in batches):
                yield from table.to_batches()

        return self.begin.mapInArrow(task, self.types)

    @property
    def schema(self) -> pa.Schema:
        """Of the tables that the tasks make."""
        return arrow_schema(self.types)


@contextmanager
def written(frame: DataFrame, disk: Path) -> Iterator[list[pq.ParquetFile]]:
    """The rows of a frame, in its order, as files below a folder that tasks see, too; these are gone afterward.

    So come rows to this process. Some million by the usual way, through the heap of Spark's driver, can fill that, and
    then nothing answers.
    """
    folder = disk / uuid.uuid4().hex
    try:
        frame.write.parquet(folder.as_posix())
        yield [pq.ParquetFile(file) for file in sorted(folder.glob("part-*.parquet"))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def collect(frame: DataFrame, disk: Path) -> pd.DataFrame:
    """All rows of a frame, in its order; see `written`."""
    with written(frame, disk) as files:
        return pa.concat_tables([file.read() for file in files]).to_pandas()


ARROW = {
    "string": pa.string(), "binary": pa.binary(), "boolean": pa.bool_(), "tinyint": pa.int8(), "smallint": pa.int16(),
    "int": pa.int32(), "bigint": pa.int64(), "float": pa.float32(), "double": pa.float64(), "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip
"""What Arrow calls Spark's types."""


def arrow_schema(types: StructType | str) -> pa.Schema:
    """Spark's types, or their DDL, as Arrow's. Spark's own function for this takes other arguments in each version."""
    from pyspark.sql.types import StructType

    types = cast("StructType", StructType.fromDDL(types)) if isinstance(types, str) else types
    return pa.schema([pa.field(each.name, _arrow_type(each.dataType), each.nullable) for each in types.fields])


def _arrow_type(type_: DataType) -> pa.DataType:
    from pyspark.sql.types import ArrayType

    if isinstance(type_, ArrayType):
        return pa.list_(pa.field("element", _arrow_type(type_.elementType), type_.containsNull))
    return ARROW[type_.simpleString()]


def in_pandas(work: Callable[[Iterator[pd.DataFrame]], Iterable[pd.DataFrame]], types: str) -> Work:
    """Work on pandas frames as work on tables; of what it gives back, the columns that `types` names are kept."""
    schema = arrow_schema(types)

    def on_tables(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for frame in work(table.to_pandas() for table in tables):
            yield pa.Table.from_pandas(frame, schema, preserve_index=False)

    return on_tables
