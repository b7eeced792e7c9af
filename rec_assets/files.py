"""Files that appear whole or not at all, and files that hold customers' ids or digests of keys."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_OTHERS = 0o007


def write_whole(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text file: a reader sees the old one or the new one, whatever is killed when. Makes its folder.

    Args:
        path: Of the file.
        text: What it is to hold.
        private: Nobody but its owner and group may read it; what the group may do is the umask's to say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    staged.unlink(missing_ok=True)  # of a killed process, and perhaps with other rights
    mode = 0o666 & ~(_OTHERS if private else 0)
    with open(os.open(staged, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(staged, path)


def restrict(paths: Iterable[Path]) -> None:
    """Take all rights on files or folders from who is neither owner nor group; what isn't there stays so.

    What can't be changed stays as it is: a path of another user's, or on a disk that is read only. Nothing is opened:
    to close a SQLite file that this process has open elsewhere would take its locks away.
    """
    for path in paths:
        with suppress(OSError):
            mode = path.stat().st_mode & 0o7777
            if mode & _OTHERS:
                path.chmod(mode & ~_OTHERS)
