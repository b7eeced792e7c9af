"""Rows of a JSONL file: one JSON object per line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
from upath import UPath

from rec_assets.sources import batches
from rec_assets.sources.batches import ENTRY_NUMBER, LIST_COLUMNS, Split, codec, not_a_list
from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec_fields import FileFormat

_BATCH = 50_000
"""Objects to hold in memory at a time."""


def line_splits(file: BinaryIO) -> Iterator[Split]:
    """Consecutive lines of about SPLIT_BYTES, with at least one row each. A line without text is no row."""
    start, end, row, line, first_row, first_line = 0, 0, 0, 0, 0, 0
    for text in file:
        end, line, row = end + len(text), line + 1, row + bool(text.strip())
        if end - start >= batches.SPLIT_BYTES and row > first_row:
            yield Split(start, end, first_row, first_line)
            start, first_row, first_line = end, row, line
    if row > first_row:
        yield Split(start, end, first_row, first_line)


def read_jsonl(
    spec: FileFormat, path: UPath, stream: BinaryIO, split: Split, batch_bytes: int | None
) -> Iterator[pd.DataFrame]:
    """Rows of the lines of a JSONL file, or of a part of it."""
    text = io.TextIOWrapper(stream, encoding=codec(spec), newline="\n")
    rows: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    size, is_first = 0, True

    def batch() -> pd.DataFrame:
        table = pa.concat_tables([*tables, _as_table(rows)], promote_options="default")
        frame = table.to_pandas().astype(object)
        frame.attrs[LIST_COLUMNS] = [name for name in lists if name != spec.explode]
        return frame

    lists: dict[str, None] = {}
    seen: dict[str, None] = {}
    is_array = False
    for number, line in enumerate(text, start=split.first_line + 1):
        size += len(line)
        if not line.strip():
            continue
        is_array = is_array or (not seen and line.lstrip().startswith("["))
        try:
            # Numbers stay text, because 1.10 and 1.1 are different ids.
            row = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        except json.JSONDecodeError as error:
            problem = f"is not JSON ({error})"
        except RecursionError:
            problem = "is nested too deeply"
        else:
            problem = "" if isinstance(row, dict) else "is not a JSON object"
        if problem:
            hint = "; this file is one JSON array: convert it with `jq -c '.[]'`" if is_array else ""
            raise SourceError(f"{path}: line {number} {problem}: each line must be a complete JSON object{hint}")
        flat = _fields(row, spec.explode)
        lists.update(dict.fromkeys(name for name, value in flat.items() if isinstance(value, list)))
        seen.update(dict.fromkeys(flat))
        rows += _order_lines(flat, spec.explode) if spec.explode else [flat]
        if len(rows) >= _BATCH:
            tables.append(_as_table(rows))
            rows = []
        if batch_bytes is not None and size > batch_bytes:
            yield batch()
            rows, tables, size, is_first = [], [], 0, False
    if spec.explode and spec.explode not in seen:
        raise not_a_list(spec.explode, list(lists), path)
    if not seen:
        raise SourceError(f"{path}: the file has no lines: land it again")
    if rows or tables or is_first:
        yield batch()


def _as_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as text; null if a row doesn't have the field."""

    def text(value: object) -> str | None:
        return value if value is None else _valid_text(value if isinstance(value, str) else json.dumps(value))

    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([text(row.get(name)) for row in rows], pa.string()) for name in names})


def _fields(value: dict[str, Any], explode: str | None, prefix: str = "") -> dict[str, Any]:
    """Flatten nested objects to dotted names, except for the field to explode."""
    fields: dict[str, Any] = {}
    for name, inner in value.items():
        full = prefix + _valid_text(name)
        if isinstance(inner, dict) and full != explode:
            fields.update(_fields(inner, explode, f"{full}."))
        else:
            fields[full] = None if inner == [] else inner  # PHP writes [] for an object without fields
    return fields


def _order_lines(order: dict[str, Any], explode: str) -> list[dict[str, Any]]:
    """The entries of an order's list, each with the order's own fields."""
    entries = order.get(explode)
    if isinstance(entries, dict):  # a single entry, or a list with gaps, as PHP writes it
        entries = list(entries.values()) if all(name.isdecimal() for name in entries) else [entries]
    shared = {name: value for name, value in order.items() if name != explode}
    return [
        {**shared, f"{explode}.{ENTRY_NUMBER}": str(number),
         **(_fields(entry, None, f"{explode}.") if isinstance(entry, dict) else {explode: entry})}
        for number, entry in enumerate(entries if isinstance(entries, list) else [], start=1)
    ]  # fmt: skip


def _valid_text(text: str) -> str:
    """Replace lone surrogates (half an emoji), which JSON can have and our files can't."""
    return text if text.isascii() else text.encode(errors="replace").decode()
