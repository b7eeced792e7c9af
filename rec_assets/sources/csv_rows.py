"""Rows of a CSV file."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from upath import UPath

from rec_assets.sources.batches import BATCH_BYTES, FIX_ENCODING, codec, distinct_names, has_wide_characters
from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec_fields import FileFormat

MAX_RECORD_BYTES = 4 * BATCH_BYTES
"""In a large file, a longer row is a quote that is not closed."""

_ONE_BLOCK = 1 << 30
"""Read a CSV file as one block: Arrow rejects rows longer than a block and loses line breaks between blocks."""

csv.field_size_limit(_ONE_BLOCK)  # the default is 131,072 characters


def read_csv(spec: FileFormat, path: UPath, stream: BinaryIO, batch_bytes: int | None) -> Iterator[pd.DataFrame]:
    """Rows of a CSV file, in pieces that end with a record. Each piece gets the header in front."""
    header, rest, row = b"", b"", 0
    size = -1 if batch_bytes is None or has_wide_characters(spec) else batch_bytes
    while piece := stream.read(size):
        content, is_last = rest + piece, size < 0 or len(piece) < size
        end = len(content) if is_last else _end_of_records(spec, content)
        if end or is_last:
            rows = _parse_csv(spec, path, header + content[:end], row)
            header = header or content[: _end_of_records(spec, content, records=1)]
            row += len(rows)
            yield rows
        elif len(content) > MAX_RECORD_BYTES:
            raise SourceError(f"{path}: the row after row {row} has no end: is each quote closed?")
        rest = content[end:]
    if rest:
        yield _parse_csv(spec, path, header + rest, row)


def _end_of_records(spec: FileFormat, content: bytes, records: int | None = None) -> int:
    """Bytes of the first records; by default of all but the last one, which the next bytes may continue."""
    if records is None and b'"' not in content:
        return content.rfind(b"\n" if b"\n" in content else b"\r") + 1
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
            return pd.DataFrame(columns=distinct_names(header), dtype=object)
        if column := re.search(r"column #(\d+).*UTF8", problem):
            name = header[int(column[1])]
            raise SourceError(f"{path}: column {name!r}: not {spec.encoding} text; {FIX_ENCODING}") from error
        problem = re.sub(r"(?<=Row #)\d+", lambda number: str(int(number[0]) + first_row), problem)
        others = [mark for mark in ";\t|," if mark in header[0] and mark != spec.delimiter]
        hint = f" (the header has {others[0]!r})" if len(header) == 1 and others else ""
        raise SourceError(
            f"{path}: {' '.join(problem.split())[:200]}; check `delimiter`{hint}, that values with a "
            f"{spec.delimiter!r} are quoted, and that each quote is closed"
        ) from error
    if table.column_names != header:
        raise SourceError(f"{path}: the header {header} can't be read; {FIX_ENCODING}")
    # A quote that is not closed turns all following lines into one value.
    if any(pc.any(pc.match_substring(column, "\n")).as_py() for column in table.columns):
        try:
            for _ in _csv_rows(spec, content, strict=True):
                pass
        except csv.Error as error:
            raise SourceError(f"{path}: a quote is not closed ({error}): double each quote inside a value") from error
    return table.rename_columns(distinct_names(header)).to_pandas()


def _csv_rows(spec: FileFormat, content: bytes, strict: bool = False) -> Iterator[list[str]]:
    text = io.TextIOWrapper(io.BytesIO(content), encoding=codec(spec), errors="replace", newline="")
    yield from csv.reader(text, delimiter=spec.delimiter, strict=strict)
