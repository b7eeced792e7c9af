"""A file of any format as a table of text: nothing typed yet, nothing dropped."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

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

_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}

_MEND_ENCODING = "set `encoding`, for instance latin-1 or cp1252"


def read_text(spec: FileFormat, path: UPath) -> pd.DataFrame:
    """A file's rows with every value as the text that stands there; None only where the format has nulls.

    Raises:
        SourceError: the file can't be read as `spec` says; names it and the likely mend.
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
        return _read_parquet(path, content) if spec.format == "parquet" else _read_jsonl(spec, path, content)
    except UnicodeError as error:
        raise SourceError(f"{path}: not {spec.encoding} text: {error}; {_MEND_ENCODING}") from error
    except (pa.ArrowException, OSError, EOFError, csv.Error) as error:
        problem = str(error)[:300]
        mend = "land it again" if "runcated" in problem else "is it whole, and is `format` right?"
        raise SourceError(f"{path}: not readable as {spec.format}: {problem}; {mend}") from error


def _unpacked(path: UPath, content: bytes) -> pa.NativeFile:
    """The bytes of a file as a stream, unpacked if the file's name says that they are packed."""
    return pa.input_stream(pa.py_buffer(content), compression=_PACKED.get(path.suffix))


def _refuse_disguised(spec: FileFormat, path: UPath, beginning: bytes) -> None:
    if beginning == b"PAR1" and spec.format != "parquet":
        raise SourceError(f"{path}: this is a Parquet file: set `format: parquet`")
    if beginning == b"PK\x03\x04":
        raise SourceError(f"{path}: this is a zip archive or an Excel file: unpack it, or save it as CSV")
    if beginning[:2] == b"\x1f\x8b" and path.suffix != ".gz":
        raise SourceError(f"{path}: this is gzipped: let its name end in .gz")


def _read_csv(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    header = next(filter(None, _csv_rows(spec, path, content)), None)
    if header is None:
        raise SourceError(f"{path}: the file is empty, without even a header: land it again")
    read = pa.csv.ReadOptions(encoding=spec.encoding, use_threads=False)
    parse = pa.csv.ParseOptions(delimiter=spec.delimiter, newlines_in_values=True)
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    try:
        with _unpacked(path, content) as stream:
            table = pa.csv.read_csv(stream, read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        problem = str(error)
        if "Empty CSV file" in problem:  # a header without a line break
            return pd.DataFrame(columns=_distinct(header), dtype=object)
        if column := re.search(r"column #(\d+).*UTF8", problem):
            name = header[int(column[1])]
            raise SourceError(f"{path}: column {name!r}: not {spec.encoding} text; {_MEND_ENCODING}") from error
        raise SourceError(
            f"{path}: {' '.join(problem.split())[:200]}; is `delimiter` right"
            f"{_other_delimiter(header, spec)}, is a value with a {spec.delimiter!r} in it quoted, and each "
            "quote closed?"
        ) from error
    if table.column_names != header:
        raise SourceError(f"{path}: the header {header} can't be read; {_MEND_ENCODING}")
    # One quote that is never closed makes a single value of all the lines that follow it.
    if any(pc.any(pc.match_substring(column, "\n")).as_py() for column in table.columns):
        try:
            for _ in _csv_rows(spec, path, content, strict=True):
                pass
        except csv.Error as error:
            raise SourceError(f"{path}: a quote is not closed ({error}): write a quote in a value twice") from error
    return table.rename_columns(_distinct(header)).to_pandas()


def _csv_rows(spec: FileFormat, path: UPath, content: bytes, strict: bool = False) -> Iterator[list[str]]:
    with _unpacked(path, content) as stream:
        text = io.TextIOWrapper(stream, encoding=_without_mark(spec), errors="replace", newline="")
        yield from csv.reader(text, delimiter=spec.delimiter, strict=strict)


def _other_delimiter(header: Sequence[str], spec: FileFormat) -> str:
    if len(header) > 1:
        return ""
    others = (mark for mark in (";", "\t", "|", ",") if mark != spec.delimiter and mark in header[0])
    return next((f" (the header has {mark!r})" for mark in others), "")


def _read_parquet(path: UPath, content: bytes) -> pd.DataFrame:
    # As a file by itself, so that folders named `date=…` above it add no column.
    table = pq.ParquetFile(pa.BufferReader(content)).read()
    columns = {}
    for name, column in zip(_distinct(table.column_names), table.columns, strict=True):
        try:
            columns[name] = _parquet_text(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SourceError(f"{path}: column {name!r} of type {column.type}: {error}") from error
    return pd.DataFrame(columns, dtype=object)


def _parquet_text(column: pa.ChunkedArray) -> pd.Series:
    kind = column.type
    if pa.types.is_floating(kind):
        # A column of ids with gaps is often stored as floats: 123.0 is then the id 123.
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        is_whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
        if pc.all(is_whole).as_py():
            column = column.cast(pa.int64())
    elif pa.types.is_timestamp(kind):
        # With a zone, Arrow keeps UTC and writes it with a Z.
        column = column.cast(pa.timestamp("us", "UTC" if kind.tz else None), safe=False)
    elif pa.types.is_nested(kind):
        values = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        return pd.Series(values, dtype=object)
    return column.cast(pa.string()).to_pandas()


def _read_jsonl(spec: FileFormat, path: UPath, content: bytes) -> pd.DataFrame:
    with _unpacked(path, content) as stream:
        text = stream.read().decode(_without_mark(spec))
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            # Numbers stay the text that stands there: 1.10 is another id than 1.1.
            row = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        except json.JSONDecodeError as error:
            problem = f"is no JSON ({error})"
        else:
            problem = "" if isinstance(row, dict) else "is no JSON object"
        if problem:
            raise SourceError(f"{path}: line {number} {problem}: JSON Lines has one whole object in a line")
        rows.append({_whole(name): _jsonl_text(value) for name, value in row.items()})
    if not rows:
        raise SourceError(f"{path}: the file has no line: land it again")
    frame = pd.DataFrame(rows, dtype=object)
    null: Any = None  # pandas' stubs know no None here
    return frame.where(frame.notna(), null)


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
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names
