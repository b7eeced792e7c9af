"""Files: read small texts that users write, write ours atomically, with permissions for customer data, and hash."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

_OTHERS = 0o007


def sha256_of(file: IO[bytes]) -> str:
    """SHA-256 of an open file, from its position on. While it hashes, other threads run."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_file(path: str) -> str:
    """SHA-256 of a file. Unless it changes, it is hashed once in each process."""
    about = os.stat(path)
    return _sha256_of_state(path, about.st_ino, about.st_size, about.st_ctime_ns)


@functools.lru_cache(maxsize=100_000)
def _sha256_of_state(path: str, *_: int) -> str:
    with open(path, "rb") as file:
        return sha256_of(file)


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
        raise error(f"{name}: is not a regular file: use the path of a text file")
    if len(content) > max_bytes:
        raise error(f"{name}: is larger than the limit of {max_bytes:,} bytes: make it smaller")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(f"{name}: line {line}: not UTF-8 text: save the file as UTF-8") from None


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
            raise ValueError(f"duplicate key {key}: remove one")
        values[key] = value
    return values


def one_line(text: str, max_length: int = 400) -> str:
    """The text without line breaks and control characters, cut to `max_length`."""
    printable = "".join(char if char.isprintable() else " " for char in text[: 2 * max_length])
    line = " ".join(printable.split())
    return line if len(line) <= max_length and len(text) <= 2 * max_length else f"{line[: max_length - 1]}…"


def write_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text file and create its folder. A reader sees the old file or the new one, never a part of it.

    If `private`, only the owner and the group may read it. The umask decides what the group may do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    staged.unlink(missing_ok=True)  # a killed process may have left it with other permissions
    mode = 0o666 & ~(_OTHERS if private else 0)
    with open(os.open(staged, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(staged, path)


def restrict(paths: Iterable[Path]) -> None:
    """Remove all permissions of others from files or folders. Paths that do not exist or can't be changed are skipped.

    Nothing is opened: closing a SQLite file that this process has open elsewhere would release its locks.
    """
    for path in paths:
        with suppress(OSError):
            mode = path.stat().st_mode & 0o7777
            if mode & _OTHERS:
                path.chmod(mode & ~_OTHERS)
