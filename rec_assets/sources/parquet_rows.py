"""Rows of a Parquet file."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from rec_assets.sources import batches
from rec_assets.sources.batches import ENTRY_NUMBER, LIST_COLUMNS, Conventions, Split, distinct_names, not_a_list
from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec_fields import FileFormat

BATCH_ROWS = 100_000
"""Rows of a large file to read at a time."""


def parquet_splits(file: BinaryIO) -> list[Split]:
    """Consecutive row groups of about SPLIT_BYTES."""
    about, found, size, row, first_row, start = pq.ParquetFile(file).metadata, list[Split](), 0, 0, 0, 0
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        size, row = size + group.total_byte_size, row + group.num_rows
        if size >= batches.SPLIT_BYTES or number == about.num_row_groups - 1:
            found.append(Split(start, number + 1, first_row))
            start, first_row, size = number + 1, row, 0
    return found


def read_parquet(
    spec: FileFormat, path: UPath, content: Any, conventions: Conventions, split: Split, is_whole: bool
) -> Iterator[pd.DataFrame]:
    """Rows of a file, or of some of its row groups: at once, or in batches of BATCH_ROWS."""
    # Read it as a single file, so that parent folders named `date=…` add no column.
    file = pq.ParquetFile(content)
    if is_whole:
        yield _rows(spec, path, file.read(), conventions)
        return
    groups = list(range(file.num_row_groups))[split.start : split.stop]
    for batch in file.iter_batches(BATCH_ROWS, groups):
        yield _rows(spec, path, pa.Table.from_batches([batch]), conventions)


def _rows(spec: FileFormat, path: UPath, table: pa.Table, conventions: Conventions) -> pd.DataFrame:
    table = _flat(table.rename_columns(distinct_names(table.column_names)))
    if spec.explode:
        table = _flat(_explode(table, spec.explode, path))
    columns = {}
    for name, column in zip(distinct_names(table.column_names), table.columns, strict=True):
        try:
            columns[name] = _as_text(name, column, conventions)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SourceError(f"{path}: column {name!r} of type {column.type}: {error}") from error
    frame = pd.DataFrame(columns, dtype=object)
    frame.attrs[LIST_COLUMNS] = [field.name for field in table.schema if _is_list(field.type)]
    return frame


def _flat(table: pa.Table) -> pa.Table:
    """Convert the fields of structs to columns, such as `customer.id`."""
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _explode(table: pa.Table, explode: str, path: UPath) -> pa.Table:
    """A row per entry of a list column: the entry, its number (`line_items.#`) and the row's other columns."""
    if explode not in table.column_names or not _is_list(table.schema.field(explode).type):
        raise not_a_list(explode, [field.name for field in table.schema if _is_list(field.type)], path)
    table = table.combine_chunks()
    lists = table[explode].combine_chunks()
    if pa.types.is_fixed_size_list(lists.type):  # in which nulls have entries, too
        lists = lists.cast(pa.list_(lists.type.value_type))
    parents = pc.list_parent_indices(lists)
    entries = pc.list_flatten(lists)
    firsts = np.r_[0, np.flatnonzero(np.diff(parents.to_numpy())) + 1] if len(parents) else np.array([], int)
    position = np.arange(len(parents)) - np.repeat(firsts, np.diff(np.r_[firsts, len(parents)]))
    rest = table.drop_columns([explode]).take(parents)
    return rest.append_column(f"{explode}.{ENTRY_NUMBER}", pa.array(position + 1)).append_column(explode, entries)


def _as_text(name: str, column: pa.ChunkedArray, conventions: Conventions) -> pd.Series:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        is_whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
        if conventions.has_whole_numbers.setdefault(name, pc.all(is_whole).as_py()):
            whole = pc.if_else(is_whole, column, pa.scalar(None, kind)).cast(pa.int64()).cast(pa.string())
            return pc.if_else(is_whole, whole, column.cast(pa.string())).to_pandas()
    elif pa.types.is_decimal(kind):
        text = column.cast(pa.string()).to_pandas()
        all_whole = bool(text.dropna().str.fullmatch(r"-?\d+(?:\.0*)?").all())
        is_whole = conventions.has_whole_numbers.setdefault(name, all_whole)
        return text.str.replace(r"\.0*$", "", regex=True) if is_whole else text
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pd.Series([value if value is None else _bytes_text(value) for value in column.to_pylist()], dtype=object)
    elif pa.types.is_timestamp(kind):
        # Arrow writes a time with a zone in UTC, with a Z.
        column = column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    elif pa.types.is_nested(kind):
        values = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        return pd.Series(values, dtype=object)
    return column.cast(pa.string()).to_pandas()


def _bytes_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
