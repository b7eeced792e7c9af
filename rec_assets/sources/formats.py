"""A file of any format as a table of text: nothing typed yet, nothing dropped."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.paths import reaching
from rec_assets.sources.spec import FileFormat

SECOND = " (2)"
"""What the second of two columns of one name is called."""

LISTS = "lists"
"""Key of the `attrs` of a table under which stand the names of its columns that hold lists."""

POSITION = "#"
"""Column that numbers the entries of an exploded list, as `line_items.#`: two equal ones in an order stay apart."""

_ONE_BLOCK = 1 << 30
"""Arrow reads CSV in blocks, refuses rows longer than one and loses line breaks at their borders: one block a file."""

csv.field_size_limit(_ONE_BLOCK)  # 131,072 characters by default

LARGEST_UNPACKED = 2 << 30
"""Bytes that a packed file may unpack to. Reading takes memory in proportion, and the file's own size doesn't tell."""

_BATCH = 50_000
"""Objects of JSON Lines that are held as Python's at a time."""

_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}

_FIX_ENCODING = "set `encoding`, for instance latin-1 or cp1252"


def read_text(spec: FileFormat, path: UPath) -> pd.DataFrame:
    """A file's rows with every value as the text that stands there; None only where the format has nulls.

    A field of a nested value is a column with a dotted name, as `customer.id`. The list that `lines` names gives a row
    for each of its entries; any other list is JSON text, and its column stands in `attrs[LISTS]`.

    Raises:
        SourceError: the file can't be read as `spec` says; names it and the likely fix.
    """
    try:
        # Once and whole: what follows looks at it several times, and over a network each time would cost.
        with reaching(path):
            content = path.read_bytes()
        if not content:
            raise SourceError(f"{path}: the file is empty, without even a header: land it again")
        _refuse_disguised(spec, path, content[:4])
        if spec.format == "csv":
            return _read_csv(spec, path, content)
        return _read_parquet(spec, path, content) if spec.format == "parquet" else _read_jsonl(spec, path, content)
    except RecursionError:
        raise SourceError(f"{path}: values are nested too deeply") from None
    except UnicodeError as error:
        raise SourceError(f"{path}: not {spec.encoding} text: {error}; {_FIX_ENCODING}") from error
    except (pa.ArrowException, OSError, EOFError, csv.Error) as error:
        problem = str(error)[:300]
        fix = "land it again" if "runcated" in problem else "is it whole, and is `format` right?"
        raise SourceError(f"{path}: not readable as {spec.format}: {problem}; {fix}") from error


class _Unpacked(io.RawIOBase):
    """The bytes of a file as a stream, unpacked if the file's name says that they are packed."""

    def __init__(self, path: UPath, content: bytes) -> None:
        self.path, self.size, kind = path, 0, _PACKED.get(path.suffix)
        self.stream = pa.input_stream(pa.py_buffer(content), compression=kind)
        self.limit = LARGEST_UNPACKED if kind else len(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.stream.read(len(buffer))
        if not self.size and piece[:2] == b"\x1f\x8b":
            raise SourceError(f"{self.path}: this is gzipped twice: unpack it once")
        self.size += len(piece)
        if self.size > self.limit:
            raise SourceError(
                f"{self.path}: unpacks to more than {self.limit >> 30} GiB: split it into several files (`path` may "
                "name all of them, with a *), or land it unpacked"
            )
        buffer[: len(piece)] = piece
        return len(piece)


def _unpacked(path: UPath, content: bytes) -> io.BufferedReader:
    return io.BufferedReader(_Unpacked(path, content), 1 << 20)


def _refuse_disguised(spec: FileFormat, path: UPath, beginning: bytes) -> None:
    if beginning == b"PAR1" and spec.format != "parquet":
        raise SourceError(f"{path}: this is a Parquet file: set `format: parquet`")
    if beginning == b"PK\x03\x04":
        raise SourceError(f"{path}: this is a zip archive or an Excel file: unpack it, or save it as CSV")
    if beginning == b"\xfd7zX":
        raise SourceError(f"{path}: this is packed by xz: unpack it, or pack it as .gz, .bz2 or .zst")
    if beginning[:2] == b"\x1f\x8b" and path.suffix != ".gz":
        raise SourceError(f"{path}: this is gzipped: let its name end in .gz")


def _read_csv(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    with _unpacked(path, content) as packed:
        content = packed.read()
    header = next(filter(None, _csv_rows(spec, content)), None)
    if header is None:
        raise SourceError(f"{path}: the file is empty, without even a header: land it again")
    block = min(len(content) + 1, _ONE_BLOCK)
    read = pa.csv.ReadOptions(encoding=spec.encoding, use_threads=False, block_size=block)
    parse = pa.csv.ParseOptions(delimiter=spec.delimiter, newlines_in_values=True)
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    try:
        table = pa.csv.read_csv(pa.py_buffer(content), read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        problem = str(error)
        if "Empty CSV file" in problem:  # a header without a line break
            return pd.DataFrame(columns=_distinct(header), dtype=object)
        if column := re.search(r"column #(\d+).*UTF8", problem):
            name = header[int(column[1])]
            raise SourceError(f"{path}: column {name!r}: not {spec.encoding} text; {_FIX_ENCODING}") from error
        raise SourceError(
            f"{path}: {' '.join(problem.split())[:200]}; is `delimiter` right"
            f"{_other_delimiter(header, spec)}, is a value with a {spec.delimiter!r} in it quoted, and each "
            "quote closed?"
        ) from error
    if table.column_names != header:
        raise SourceError(f"{path}: the header {header} can't be read; {_FIX_ENCODING}")
    # One quote that is never closed makes a single value of all the lines that follow it.
    if any(pc.any(pc.match_substring(column, "\n")).as_py() for column in table.columns):
        try:
            for _ in _csv_rows(spec, content, strict=True):
                pass
        except csv.Error as error:
            raise SourceError(f"{path}: a quote is not closed ({error}): write a quote in a value twice") from error
    return table.rename_columns(_distinct(header)).to_pandas()


def _csv_rows(spec: FileFormat, content: bytes, strict: bool = False) -> Iterator[list[str]]:
    text = io.TextIOWrapper(io.BytesIO(content), encoding=_without_mark(spec), errors="replace", newline="")
    yield from csv.reader(text, delimiter=spec.delimiter, strict=strict)


def _other_delimiter(header: Sequence[str], spec: FileFormat) -> str:
    if len(header) > 1:
        return ""
    others = (mark for mark in (";", "\t", "|", ",") if mark != spec.delimiter and mark in header[0])
    return next((f" (the header has {mark!r})" for mark in others), "")


def _read_parquet(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    # As a file by itself, so that folders named `date=…` above it add no column.
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    table = _flat(table.rename_columns(_distinct(table.column_names)))
    if spec.lines:
        table = _flat(_exploded(table, spec.lines, path))
    columns = {}
    for name, column in zip(_distinct(table.column_names), table.columns, strict=True):
        try:
            columns[name] = _parquet_text(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SourceError(f"{path}: column {name!r} of type {column.type}: {error}") from error
    frame = pd.DataFrame(columns, dtype=object)
    frame.attrs[LISTS] = [field.name for field in table.schema if _is_list(field.type)]
    return frame


def _flat(table: pa.Table) -> pa.Table:
    """Fields of structs as columns of their own, `customer.id`."""
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _exploded(table: pa.Table, lines: str, path: UPath) -> pa.Table:
    """A row for each entry of a list column, `line_items.#` and the entry, beside the row's other columns."""
    if lines not in table.column_names or not _is_list(table.schema.field(lines).type):
        raise _no_list(lines, [field.name for field in table.schema if _is_list(field.type)], path)
    table = table.combine_chunks()
    lists = table[lines].combine_chunks()
    if pa.types.is_fixed_size_list(lists.type):  # whose nulls have entries too
        lists = lists.cast(pa.list_(lists.type.value_type))
    parents = pc.list_parent_indices(lists)
    entries = pc.list_flatten(lists)
    firsts = np.r_[0, np.flatnonzero(np.diff(parents.to_numpy())) + 1] if len(parents) else np.array([], int)
    position = np.arange(len(parents)) - np.repeat(firsts, np.diff(np.r_[firsts, len(parents)]))
    rest = table.drop_columns([lines]).take(parents)
    return rest.append_column(f"{lines}.{POSITION}", pa.array(position + 1)).append_column(lines, entries)


def _no_list(lines: str, lists: Sequence[str], path: UPath) -> SourceError:
    there = f"the lists are {', '.join(map(repr, lists))}" if lists else "it has no list"
    return SourceError(f"{path}: `lines` names {lines!r}, which is no list in this file; {there}")


def _parquet_text(column: pa.ChunkedArray) -> pd.Series:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    kind = column.type
    if pa.types.is_floating(kind):
        # A column of ids with gaps is often stored as floats: 123.0 is then the id 123.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        is_whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
        if pc.all(is_whole).as_py():
            column = column.cast(pa.int64())
    elif pa.types.is_decimal(kind):
        text = column.cast(pa.string()).to_pandas()
        whole = text.dropna().str.fullmatch(r"-?\d+(?:\.0*)?").all()  # an id, as databases export NUMBER
        return text.str.replace(r"\.0*$", "", regex=True) if whole else text
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pd.Series([_bytes_text(value) for value in column.to_pylist()], dtype=object)
    elif pa.types.is_timestamp(kind):
        # With a zone, Arrow keeps UTC and writes it with a Z.
        column = column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    elif pa.types.is_nested(kind):
        values = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        return pd.Series(values, dtype=object)
    return column.cast(pa.string()).to_pandas()


def _bytes_text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()


def _read_jsonl(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    text = io.TextIOWrapper(_unpacked(path, content), encoding=_without_mark(spec), newline="\n")
    rows: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    lists: dict[str, None] = {}
    seen: dict[str, None] = {}
    is_array = False
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        is_array = is_array or (not seen and line.lstrip().startswith("["))
        try:
            # Numbers stay the text that stands there: 1.10 is another id than 1.1.
            row = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        except json.JSONDecodeError as error:
            problem = f"is no JSON ({error})"
        except RecursionError:
            problem = "is nested too deeply"
        else:
            problem = "" if isinstance(row, dict) else "is no JSON object"
        if problem:
            whole = "; this file is one JSON array: `jq -c '.[]'` makes JSON Lines of it"
            raise SourceError(
                f"{path}: line {number} {problem}: JSON Lines has one whole object in a line" + whole * is_array
            )
        flat = _fields(row, spec.lines)
        lists.update(dict.fromkeys(name for name, value in flat.items() if isinstance(value, list)))
        seen.update(dict.fromkeys(flat))
        rows += _lines_of(flat, spec.lines) if spec.lines else [flat]
        if len(rows) >= _BATCH:
            tables.append(_jsonl_table(rows))
            rows = []
    if spec.lines and spec.lines not in seen:
        raise _no_list(spec.lines, list(lists), path)
    if not seen:
        raise SourceError(f"{path}: the file has no line: land it again")
    table = pa.concat_tables([*tables, _jsonl_table(rows)], promote_options="default")
    frame = table.to_pandas().astype(object)
    frame.attrs[LISTS] = [name for name in lists if name != spec.lines]
    return frame


def _jsonl_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as text; null where a row has no such field."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pa.array([_jsonl_text(row.get(name)) for row in rows], pa.string()) for name in names}
    return pa.table(columns)


def _fields(value: dict[str, Any], lines: str | None, within: str = "") -> dict[str, Any]:
    """Fields of objects, however deep, by dotted names; but for what `lines` names, which stays as it is."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        full = within + _whole(name)
        if isinstance(inner, dict) and full != lines:
            found.update(_fields(inner, lines, f"{full}."))
        else:
            found[full] = None if inner == [] else inner  # as PHP writes an object without fields
    return found


def _lines_of(order: dict[str, Any], lines: str) -> list[dict[str, Any]]:
    """The entries of an order's list, each beside the order's own fields."""
    entries = order.get(lines)
    if isinstance(entries, dict):  # of one entry, or as PHP writes a list with gaps
        entries = list(entries.values()) if all(name.isdecimal() for name in entries) else [entries]
    shared = {name: value for name, value in order.items() if name != lines}
    return [
        {**shared, f"{lines}.{POSITION}": str(number),
         **(_fields(entry, None, f"{lines}.") if isinstance(entry, dict) else {lines: entry})}
        for number, entry in enumerate(entries if isinstance(entries, list) else [], start=1)
    ]  # fmt: skip


def _jsonl_text(value: object) -> str | None:
    if value is None:
        return None
    return _whole(value if isinstance(value, str) else json.dumps(value))


def _whole(text: str) -> str:
    """JSON can hold half an emoji, and no file of ours can: "?" instead."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _without_mark(spec: FileFormat) -> str:
    return "utf-8-sig" if spec.encoding == "utf-8" else spec.encoding


def _distinct(header: Sequence[str]) -> list[str]:
    """Names none of which stands there twice."""
    seen = Counter[str]()
    names = []
    for name in header:
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name} ({seen[name]})"
        while unique in names:
            unique += "'"
        names.append(unique)
    return names
