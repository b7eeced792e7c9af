"""Text that people write for us: files read whole and within a limit, JSON, and messages about them in one line."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any


def read_small_text(path: Path, most_bytes: int, error: type[Exception]) -> str:
    """Read a file in UTF-8, with or without a byte order mark.

    Args:
        path: Of the file.
        most_bytes: That it may have.
        error: What to raise.

    Raises:
        error: it isn't there, is no regular file (a named pipe would hold up the reader), too large, or no UTF-8.
    """
    named = one_line(str(path))  # another file may name it
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
        if is_regular:
            with path.open("rb") as file:
                content = file.read(most_bytes + 1)
    except OSError as problem:
        raise error(f"{named}: {problem.strerror or problem}") from None
    except ValueError as problem:  # a name with a null byte
        raise error(f"{named}: {problem}") from None
    if not is_regular:
        raise error(f"{named}: is no regular file: name a text file")
    if len(content) > most_bytes:
        raise error(f"{named}: is larger than the {most_bytes:,} bytes that such a file may have: make it smaller")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(f"{named}: line {line}: no UTF-8 text: save the file as UTF-8") from None


def parse_json(text: str) -> Any:
    """JSON in which no key stands twice in one object.

    Raises:
        ValueError: it is no such JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_once_each)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key} stands there twice: leave one")
        found[key] = value
    return found


def one_line(text: str, longest: int = 400) -> str:
    """The text without line breaks and control characters, and cut where it is long."""
    printable = "".join(each if each.isprintable() else " " for each in text[: 2 * longest])
    line = " ".join(printable.split())
    return line if len(line) <= longest and len(text) <= 2 * longest else f"{line[: longest - 1]}…"
