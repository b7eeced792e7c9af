"""What all file formats share: parts and batches of a file, and names of columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec_fields import FileFormat

DUPLICATE_SUFFIX = " (2)"
"""Suffix that makes the second of two columns with the same name unique."""

LIST_COLUMNS = "lists"
"""Key in the `attrs` of a table: the names of its list columns."""

ENTRY_NUMBER = "#"
"""Column with the number of an entry of an exploded list (`line_items.#`), so that equal entries are not duplicates."""

BATCH_BYTES = 32 << 20
"""Bytes of a file to read at a time. A smaller file is one batch."""

SPLIT_BYTES = 256 << 20
"""Bytes of a large file that one task reads."""

FIX_ENCODING = "set `encoding`, for example latin-1 or cp1252"


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


def codec(spec: FileFormat) -> str:
    """Python's codec for the text of a file, without its byte order mark."""
    return "utf-8-sig" if spec.encoding == "utf-8" else spec.encoding


def has_wide_characters(spec: FileFormat) -> bool:
    """Whether a line break is several bytes, so that bytes don't show where a line ends."""
    return codec(spec).startswith(("utf-16", "utf-32"))


def distinct_names(header: Sequence[str]) -> list[str]:
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


def not_a_list(explode: str, lists: Sequence[str], path: UPath) -> SourceError:
    """The error that the column to explode is not one of the `lists` of the file."""
    known = f"its lists are {', '.join(map(repr, lists))}" if lists else "it has no list"
    return SourceError(f"{path}: `explode` is {explode!r}, which is not a list in this file; {known}")
