"""Read a file of any format as a table of text, with all its rows and columns."""

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
from rec_assets.sources.paths import driver_errors
from rec_assets.sources.spec import FileFormat

DUPLICATE_SUFFIX = " (2)"
"""Suffix that makes the second of two columns with the same name unique."""

LIST_COLUMNS = "lists"
"""Key in the `attrs` of a table: the names of its list columns."""

ENTRY_NUMBER = "#"
"""Column with the number of an entry of an exploded list (`line_items.#`), so that equal entries are not duplicates."""

_ONE_BLOCK = 1 << 30
"""Read a CSV file as one block: Arrow rejects rows longer than a block and loses line breaks between blocks."""

csv.field_size_limit(_ONE_BLOCK)  # the default is 131,072 characters

MAX_DECOMPRESSED_BYTES = 2 << 30
"""Memory use depends on the decompressed size of a file, which its compressed size doesn't show."""

_BUFFER = 1 << 20
_BATCH = 50_000
"""JSON objects to hold in memory at a time."""

_COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
_FIX_ENCODING = "set `encoding`, for example latin-1 or cp1252"


def read_rows(spec: FileFormat, path: UPath) -> pd.DataFrame:
    """Read the rows of a file, with all values as text; None only if the format has nulls.

    A nested field is a column with a dotted name, such as `customer.id`. Each entry of the `explode` list is a row. Any
    other list is JSON text, and `attrs[LIST_COLUMNS]` has the name of its column.

    Raises:
        SourceError: the file doesn't match `spec`; names the file and the likely fix.
    """
    try:
        # Read the file once, because a network is slow and the code below uses the content several times.
        with driver_errors(path):
            content = path.read_bytes()
        if not content:
            raise SourceError(f"{path}: the file is empty, without a header: land it again")
        _check_signature(spec, path, content[:4])
        if spec.format == "csv":
            return _read_csv(spec, path, content)
        return _read_parquet(spec, path, content) if spec.format == "parquet" else _read_jsonl(spec, path, content)
    except RecursionError:
        raise SourceError(f"{path}: values are nested too deeply") from None
    except UnicodeError as error:
        raise SourceError(f"{path}: not {spec.encoding} text: {error}; {_FIX_ENCODING}") from error
    except (pa.ArrowException, OSError, EOFError, csv.Error) as error:
        problem = str(error)[:300]
        fix = "land it again" if "runcated" in problem else "check `format`, and that the file is complete"
        raise SourceError(f"{path}: can't be read as {spec.format}: {problem}; {fix}") from error


class _Decompressed(io.RawIOBase):
    """The content of a file as a stream; decompressed if the file's suffix is in _COMPRESSION."""

    def __init__(self, path: UPath, content: bytes) -> None:
        self.path, self.size, kind = path, 0, _COMPRESSION.get(path.suffix)
        self.stream = pa.input_stream(pa.py_buffer(content), compression=kind)
        self.limit = MAX_DECOMPRESSED_BYTES if kind else len(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.stream.read(len(buffer))
        if not self.size and piece[:2] == b"\x1f\x8b":
            raise SourceError(f"{self.path}: the file is gzipped twice: unpack it once")
        self.size += len(piece)
        if self.size > self.limit:
            raise SourceError(
                f"{self.path}: decompresses to more than {self.limit >> 30} GiB: split it into several files (`path` "
                "can match them with a *), or land it uncompressed"
            )
        buffer[: len(piece)] = piece
        return len(piece)


def _check_signature(spec: FileFormat, path: UPath, beginning: bytes) -> None:
    if beginning == b"PAR1" and spec.format != "parquet":
        raise SourceError(f"{path}: the file is Parquet: set `format: parquet`")
    if beginning == b"PK\x03\x04":
        raise SourceError(f"{path}: the file is a zip archive or an Excel file: unpack it, or save it as CSV")
    if beginning == b"\xfd7zX":
        raise SourceError(f"{path}: the file is packed with xz: unpack it, or pack it as .gz, .bz2 or .zst")
    if beginning[:2] == b"\x1f\x8b" and path.suffix != ".gz":
        raise SourceError(f"{path}: the file is gzipped: give it a name that ends in .gz")


def _read_csv(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    with io.BufferedReader(_Decompressed(path, content), _BUFFER) as stream:
        content = stream.read()
    header = next(filter(None, _csv_rows(spec, content)), None)
    if header is None:
        raise SourceError(f"{path}: the file is empty, without a header: land it again")
    block = min(len(content) + 1, _ONE_BLOCK)
    read = pa.csv.ReadOptions(encoding=spec.encoding, use_threads=False, block_size=block)
    parse = pa.csv.ParseOptions(delimiter=spec.delimiter, newlines_in_values=True)
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    try:
        table = pa.csv.read_csv(pa.py_buffer(content), read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        problem = str(error)
        if "Empty CSV file" in problem:  # a header without a line break at its end
            return pd.DataFrame(columns=_distinct(header), dtype=object)
        if column := re.search(r"column #(\d+).*UTF8", problem):
            name = header[int(column[1])]
            raise SourceError(f"{path}: column {name!r}: not {spec.encoding} text; {_FIX_ENCODING}") from error
        others = [mark for mark in ";\t|," if mark in header[0] and mark != spec.delimiter]
        hint = f" (the header has {others[0]!r})" if len(header) == 1 and others else ""
        raise SourceError(
            f"{path}: {' '.join(problem.split())[:200]}; check `delimiter`{hint}, that values with a "
            f"{spec.delimiter!r} are quoted, and that each quote is closed"
        ) from error
    if table.column_names != header:
        raise SourceError(f"{path}: the header {header} can't be read; {_FIX_ENCODING}")
    # A quote that is not closed turns all following lines into one value.
    if any(pc.any(pc.match_substring(column, "\n")).as_py() for column in table.columns):
        try:
            for _ in _csv_rows(spec, content, strict=True):
                pass
        except csv.Error as error:
            raise SourceError(f"{path}: a quote is not closed ({error}): double each quote inside a value") from error
    return table.rename_columns(_distinct(header)).to_pandas()


def _csv_rows(spec: FileFormat, content: bytes, strict: bool = False) -> Iterator[list[str]]:
    text = io.TextIOWrapper(io.BytesIO(content), encoding=_codec(spec), errors="replace", newline="")
    yield from csv.reader(text, delimiter=spec.delimiter, strict=strict)


def _read_parquet(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    # Read it as a single file, so that parent folders named `date=…` add no column.
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    table = _flat(table.rename_columns(_distinct(table.column_names)))
    if spec.explode:
        table = _flat(_explode(table, spec.explode, path))
    columns = {}
    for name, column in zip(_distinct(table.column_names), table.columns, strict=True):
        try:
            columns[name] = _parquet_text(column)
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
        raise _not_a_list(explode, [field.name for field in table.schema if _is_list(field.type)], path)
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


def _not_a_list(explode: str, lists: Sequence[str], path: UPath) -> SourceError:
    known = f"its lists are {', '.join(map(repr, lists))}" if lists else "it has no list"
    return SourceError(f"{path}: `explode` is {explode!r}, which is not a list in this file; {known}")


def _parquet_text(column: pa.ChunkedArray) -> pd.Series:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    kind = column.type
    if pa.types.is_floating(kind):
        # Ids with missing values are often stored as floats: 123.0 is the id 123.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        is_whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
        if pc.all(is_whole).as_py():
            column = column.cast(pa.int64())
    elif pa.types.is_decimal(kind):
        text = column.cast(pa.string()).to_pandas()
        all_whole = text.dropna().str.fullmatch(r"-?\d+(?:\.0*)?").all()  # ids, which databases export as decimals
        return text.str.replace(r"\.0*$", "", regex=True) if all_whole else text
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


def _read_jsonl(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    stream = io.BufferedReader(_Decompressed(path, content), _BUFFER)
    text = io.TextIOWrapper(stream, encoding=_codec(spec), newline="\n")
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
            tables.append(_jsonl_table(rows))
            rows = []
    if spec.explode and spec.explode not in seen:
        raise _not_a_list(spec.explode, list(lists), path)
    if not seen:
        raise SourceError(f"{path}: the file has no lines: land it again")
    table = pa.concat_tables([*tables, _jsonl_table(rows)], promote_options="default")
    frame = table.to_pandas().astype(object)
    frame.attrs[LIST_COLUMNS] = [name for name in lists if name != spec.explode]
    return frame


def _jsonl_table(rows: list[dict[str, Any]]) -> pa.Table:
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


def _codec(spec: FileFormat) -> str:
    return "utf-8-sig" if spec.encoding == "utf-8" else spec.encoding


def _distinct(header: Sequence[str]) -> list[str]:
    """Make column names unique: the second `Name` becomes `Name (2)`."""
    seen = Counter[str]()
    names = []
    for name in header:
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name} ({seen[name]})"
        while unique in names:
            unique += "'"
        names.append(unique)
    return names
