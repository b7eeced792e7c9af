"""Read a file of any format as tables of text, with all its rows and columns, in batches of bounded size."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

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

BATCH_BYTES = 32 << 20
"""Bytes of a file to read at a time. A smaller file is one batch."""

_PARQUET_ROWS = 100_000
"""Rows of a large Parquet file to read at a time."""

SPLIT_BYTES = 256 << 20
"""Bytes of a large file that one task reads."""

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


@dataclass
class Conventions:
    """How a file writes its values. Its first batch decides, and all later ones follow.

    Attributes:
        has_whole_numbers: Parquet column of floats or decimals → whether all are whole. Ids with missing values are
            often stored so: 123.0 is the id 123.
        has_grouped_digits: Column of numbers → whether they are written as 1,234 for 1234 (see `values.as_numbers`).
        columns: Columns so far.
        is_first_batch: Whether no batch was converted yet.
    """

    has_whole_numbers: dict[str, bool] = field(default_factory=dict)
    has_grouped_digits: dict[str, bool] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    is_first_batch: bool = True


@dataclass(frozen=True)
class Split:
    """A part of a file.

    Attributes:
        start, stop: Bytes of a JSONL file, or row groups of a Parquet file.
        first_row: Rows of the file before this part.
        first_line: Lines of a JSONL file before it.
    """

    start: int = 0
    stop: int | None = None
    first_row: int = 0
    first_line: int = 0


WHOLE = Split()
"""The whole file."""


def splits(spec: FileFormat, path: UPath) -> list[Split]:
    """The parts of a file that several tasks can read; one if it is not large, or if its format can't be split.

    Rows are counted from the beginning of the file, so that a JSONL file is read once for that.

    Raises:
        SourceError: the file can't be read.
    """
    is_lines = spec.format == "jsonl" and path.suffix not in _COMPRESSION and not _has_wide_characters(spec)
    can_split = (spec.format == "parquet" or is_lines) and spec.explode is None
    with _readable(spec, path):
        size = path.stat().st_size if can_split else 0
        if size <= SPLIT_BYTES:
            return [WHOLE]
        with path.open("rb") as file:
            return _parquet_splits(file) if spec.format == "parquet" else list(_line_splits(file))


def read_rows(spec: FileFormat, path: UPath) -> pd.DataFrame:
    """All rows of a file as one batch of `read_batches`."""
    (rows,) = read_batches(spec, path, Conventions(), batch_bytes=None)
    return rows


def read_batches(
    spec: FileFormat,
    path: UPath,
    conventions: Conventions,
    split: Split = WHOLE,
    batch_bytes: int | None = BATCH_BYTES,
) -> Iterator[pd.DataFrame]:
    """Read a file, with all values as text; None only if the format has nulls.

    A nested field is a column with a dotted name, such as `customer.id`. Each entry of the `explode` list is a row. Any
    other list is JSON text, and `attrs[LIST_COLUMNS]` has the name of its column.

    Args:
        spec: The format.
        path: The file.
        conventions: Those of the file so far; this call adds to them.
        split: The part to read.
        batch_bytes: Approximate size of a batch in the file; None: the whole file.

    Raises:
        SourceError: the file doesn't match `spec`; names the file and the likely fix.
    """
    with _readable(spec, path), path.open("rb") as file:
        file.seek(split.start if spec.format == "jsonl" else 0)
        beginning = file.read(-1 if batch_bytes is None else batch_bytes + 1)
        if not beginning:
            raise SourceError(f"{path}: the file is empty, without a header: land it again")
        if not split.start:
            _check_signature(spec, path, beginning[:4])
        is_whole = batch_bytes is None or len(beginning) <= batch_bytes
        if spec.format == "parquet":
            content = pa.BufferReader(beginning) if is_whole else file
            batches = _read_parquet(spec, path, content, conventions, split, None if is_whole else _PARQUET_ROWS)
        else:
            size = math.inf if split.stop is None else split.stop - split.start
            content = _Decompressed(path, _Joined(beginning, file, size))
            stream = cast("BinaryIO", io.BufferedReader(content, _BUFFER))
            if spec.format == "csv":
                batches = _read_csv(spec, path, stream, batch_bytes)
            else:
                batches = _read_jsonl(spec, path, stream, split, batch_bytes)
        for rows in batches:
            conventions.columns += [str(name) for name in rows if name not in conventions.columns]
            yield rows


@contextmanager
def _readable(spec: FileFormat, path: UPath) -> Iterator[None]:
    """Turn errors about a file into `SourceError`s that name it."""
    try:
        with driver_errors(path):
            yield
    except RecursionError:
        raise SourceError(f"{path}: values are nested too deeply") from None
    except UnicodeError as error:
        raise SourceError(f"{path}: not {spec.encoding} text: {error}; {_FIX_ENCODING}") from error
    except (pa.ArrowException, OSError, EOFError, csv.Error) as error:
        problem = str(error)[:300]
        fix = "land it again" if "runcated" in problem else "check `format`, and that the file is complete"
        raise SourceError(f"{path}: can't be read as {spec.format}: {problem}; {fix}") from error


class _Joined(io.RawIOBase):
    """The first bytes, the next ones of a file, and no more than `size` together."""

    def __init__(self, beginning: bytes, rest: BinaryIO, size: float) -> None:
        self.beginning, self.rest, self.left = io.BytesIO(beginning), rest, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = int(min(len(buffer), self.left))
        piece = self.beginning.read(size) or self.rest.read(size)
        self.left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


class _Decompressed(io.RawIOBase):
    """Bytes as a stream, decompressed if the suffix of their file is in _COMPRESSION."""

    def __init__(self, path: UPath, content: _Joined) -> None:
        self.path, self.size, kind = path, 0, _COMPRESSION.get(path.suffix)
        self.stream = pa.input_stream(content, compression=kind)
        self.limit = MAX_DECOMPRESSED_BYTES if kind else sys.maxsize

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


def _read_csv(spec: FileFormat, path: UPath, stream: BinaryIO, batch_bytes: int | None) -> Iterator[pd.DataFrame]:
    """Rows of a CSV file, in pieces that end with a record. Each piece gets the header in front."""
    header, rest, row = b"", b"", 0
    size = -1 if batch_bytes is None or _has_wide_characters(spec) else batch_bytes
    while piece := stream.read(size):
        content, is_last = rest + piece, size < 0 or len(piece) < size
        end = len(content) if is_last else _end_of_records(spec, content)
        if end or is_last:
            rows = _parse_csv(spec, path, header + content[:end], row)
            header = header or content[: _end_of_records(spec, content, records=1)]
            row += len(rows)
            yield rows
        elif len(content) > _ONE_BLOCK:
            raise SourceError(f"{path}: the row after row {row} has no end: is each quote closed?")
        rest = content[end:]
    if rest:
        yield _parse_csv(spec, path, header + rest, row)


def _end_of_records(spec: FileFormat, content: bytes, records: int | None = None) -> int:
    """Bytes of the first records; by default of all but the last one, which the next bytes may continue."""
    if records is None and b'"' not in content:
        return content.rfind(b"\n") + 1
    # One character is one byte, so that positions are those of the bytes.
    lines = io.StringIO(content.decode("latin-1"), newline="")
    reader, ends = csv.reader(lines, delimiter=spec.delimiter), [0]
    for record in reader:
        ends.append(reader.line_num)
        if records is not None and record:
            break
    count = ends[-1] if records is not None else ends[-2]
    lines.seek(0)
    return sum(map(len, itertools.islice(lines, count)))


def _parse_csv(spec: FileFormat, path: UPath, content: bytes, first_row: int) -> pd.DataFrame:
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
        problem = re.sub(r"(?<=Row #)\d+", lambda number: str(int(number[0]) + first_row), problem)
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


def _read_parquet(
    spec: FileFormat, path: UPath, content: Any, conventions: Conventions, split: Split, batch_rows: int | None
) -> Iterator[pd.DataFrame]:
    # Read it as a single file, so that parent folders named `date=…` add no column.
    file = pq.ParquetFile(content)
    if batch_rows is None:
        yield _parquet_rows(spec, path, file.read(), conventions)
        return
    groups = list(range(file.num_row_groups))[split.start : split.stop]
    for batch in file.iter_batches(batch_rows, groups):
        yield _parquet_rows(spec, path, pa.Table.from_batches([batch]), conventions)


def _parquet_splits(file: BinaryIO) -> list[Split]:
    """Consecutive row groups of about SPLIT_BYTES."""
    about, found, size, row, first_row, start = pq.ParquetFile(file).metadata, list[Split](), 0, 0, 0, 0
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        size, row = size + group.total_byte_size, row + group.num_rows
        if size >= SPLIT_BYTES or number == about.num_row_groups - 1:
            found.append(Split(start, number + 1, first_row))
            start, first_row, size = number + 1, row, 0
    return found


def _line_splits(file: BinaryIO) -> Iterator[Split]:
    """Consecutive lines of about SPLIT_BYTES. A line without text is no row."""
    start, end, row, line, first_row, first_line = 0, 0, 0, 0, 0, 0
    for text in file:
        end, line, row = end + len(text), line + 1, row + bool(text.strip())
        if end - start >= SPLIT_BYTES:
            yield Split(start, end, first_row, first_line)
            start, first_row, first_line = end, row, line
    if end > start:
        yield Split(start, end, first_row, first_line)


def _parquet_rows(spec: FileFormat, path: UPath, table: pa.Table, conventions: Conventions) -> pd.DataFrame:
    table = _flat(table.rename_columns(_distinct(table.column_names)))
    if spec.explode:
        table = _flat(_explode(table, spec.explode, path))
    columns = {}
    for name, column in zip(_distinct(table.column_names), table.columns, strict=True):
        try:
            columns[name] = _parquet_text(name, column, conventions)
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


def _parquet_text(name: str, column: pa.ChunkedArray, conventions: Conventions) -> pd.Series:
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


def _read_jsonl(
    spec: FileFormat, path: UPath, stream: BinaryIO, split: Split, batch_bytes: int | None
) -> Iterator[pd.DataFrame]:
    """Rows of the lines of a JSONL file, or of a part of it."""
    text = io.TextIOWrapper(stream, encoding=_codec(spec), newline="\n")
    rows: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    size, is_first = 0, True

    def batch() -> pd.DataFrame:
        table = pa.concat_tables([*tables, _jsonl_table(rows)], promote_options="default")
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
            tables.append(_jsonl_table(rows))
            rows = []
        if batch_bytes is not None and size > batch_bytes:
            yield batch()
            rows, tables, size, is_first = [], [], 0, False
    if spec.explode and spec.explode not in seen:
        raise _not_a_list(spec.explode, list(lists), path)
    if not seen:
        raise SourceError(f"{path}: the file has no lines: land it again")
    if rows or tables or is_first:
        yield batch()


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


def _has_wide_characters(spec: FileFormat) -> bool:
    """Whether a line break is several bytes, so that bytes don't show where a line ends."""
    return _codec(spec).startswith(("utf-16", "utf-32"))


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
