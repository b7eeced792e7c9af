"""Atomic writes of text files, and file permissions for customer ids and key digests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_OTHERS = 0o007


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
