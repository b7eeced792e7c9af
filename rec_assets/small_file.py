"""Small text files that users write: read with a size limit, parsed strictly, reported in one-line messages."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any


def read_small_text(path: Path, max_bytes: int, error: type[Exception]) -> str:
    """Read a UTF-8 file, with or without a byte order mark.

    Raises:
        error: the file does not exist, is not a regular file (reading a named pipe would block), is too large, or is
            not UTF-8.
    """
    name = one_line(str(path))  # the path may come from another user file
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
        if is_regular:
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
    except OSError as problem:
        raise error(f"{name}: {problem.strerror or problem}") from None
    except ValueError as problem:  # a path with a null byte
        raise error(f"{name}: {problem}") from None
    if not is_regular:
        raise error(f"{name}: is no regular file: name a text file")
    if len(content) > max_bytes:
        raise error(f"{name}: is larger than the {max_bytes:,} bytes that are allowed: make it smaller")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(f"{name}: line {line}: no UTF-8 text: save the file as UTF-8") from None


def parse_json(text: str) -> Any:
    """Parse JSON; duplicate keys in one object are an error.

    Raises:
        ValueError: the text is not valid JSON, has a duplicate key, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key} is there twice: remove one")
        values[key] = value
    return values


def one_line(text: str, max_length: int = 400) -> str:
    """The text without line breaks and control characters, cut to `max_length`."""
    printable = "".join(char if char.isprintable() else " " for char in text[: 2 * max_length])
    line = " ".join(printable.split())
    return line if len(line) <= max_length and len(text) <= 2 * max_length else f"{line[: max_length - 1]}…"
