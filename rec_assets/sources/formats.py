"""Read a file of any format as tables of text, with all its rows and columns, in batches of bounded size."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import pandas as pd
import pyarrow as pa
from upath import UPath

from rec_assets.sources import batches
from rec_assets.sources.batches import BATCH_BYTES, FIX_ENCODING, WHOLE, Conventions, Split, has_wide_characters
from rec_assets.sources.csv_rows import read_csv
from rec_assets.sources.errors import SourceError
from rec_assets.sources.jsonl_rows import line_splits, read_jsonl
from rec_assets.sources.parquet_rows import parquet_splits, read_parquet
from rec_assets.sources.paths import driver_errors
from rec_assets.sources.spec_fields import FileFormat

MAX_DECOMPRESSED_BYTES = 2 << 30
"""Memory use depends on the decompressed size of a file, which its compressed size doesn't show."""

_BUFFER = 1 << 20

_COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


def splits(spec: FileFormat, path: UPath) -> list[Split]:
    """The parts of a file that several tasks can read; one if it is not large, or if its format can't be split.

    Rows are counted from the beginning of the file, so that a JSONL file is read once for that.

    Raises:
        SourceError: the file can't be read.
    """
    is_lines = spec.format == "jsonl" and path.suffix not in _COMPRESSION and not has_wide_characters(spec)
    can_split = (spec.format == "parquet" or is_lines) and spec.explode is None
    with _readable(spec, path):
        size = path.stat().st_size if can_split else 0
        if size <= batches.SPLIT_BYTES:
            return [WHOLE]
        with path.open("rb") as file:
            return parquet_splits(file) if spec.format == "parquet" else list(line_splits(file))


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
            found = read_parquet(spec, path, content, conventions, split, is_whole)
        else:
            size = math.inf if split.stop is None else split.stop - split.start
            content = _Decompressed(path, _Joined(beginning, file, size))
            stream = cast("BinaryIO", io.BufferedReader(content, _BUFFER))
            if spec.format == "csv":
                found = read_csv(spec, path, stream, batch_bytes)
            else:
                found = read_jsonl(spec, path, stream, split, batch_bytes)
        for rows in found:
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
        raise SourceError(f"{path}: not {spec.encoding} text: {error}; {FIX_ENCODING}") from error
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
