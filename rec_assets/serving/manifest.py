"""Which files an index has, and whether they are whole.

`manifest.json`, written last, holds each one's size and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_BLOCK = 1 << 20


class IndexUnreadable(ValueError):
    """An index that can't be used: another version of the code wrote it, or it is damaged; the message says which."""


class IndexDamaged(IndexUnreadable):
    """The files of an index are not those that were written."""


def seal(folder: Path) -> None:
    """Write the manifest of all files in `folder`."""
    files = {name: _described(folder / name) for name in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1))


def check(folder: Path) -> bool:
    """Compare the files in `folder` with its manifest.

    Returns:
        Whether it has one: indexes of earlier versions don't, and nothing is known of their files.

    Raises:
        IndexDamaged: a file is missing, changed or one too many.
        OSError: the folder can't be read.
    """
    try:
        wanted = json.loads((folder / MANIFEST).read_bytes())["files"]
        there = _files(folder)
        if sorted(wanted) != there:
            odd = sorted(set(wanted) ^ set(there))
            raise _damaged(folder, f"{odd[0]} is {'missing' if odd[0] in wanted else 'not in its manifest'}")
        for name in there:  # sizes first: most damage is a file cut short
            if (folder / name).stat().st_size != wanted[name]["bytes"]:
                raise _damaged(
                    folder, f"{name} has {(folder / name).stat().st_size:,} bytes of {wanted[name]['bytes']:,}"
                )
        for name in there:
            if _described(folder / name) != wanted[name]:
                raise _damaged(folder, f"the SHA-256 of {name} is another than when it was written")
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise _damaged(folder, "the folder is gone") from None
        if error.filename != str(folder / MANIFEST):
            raise _damaged(folder, f"{error.filename} is missing") from None
        return False
    except IndexDamaged:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder, f"{MANIFEST} can't be read ({type(error).__name__}: {error})") from error
    return True


def sync(folder: Path) -> None:
    """Have all files and folders below, and the folder itself, on the disk before this returns."""
    for path in folder.rglob("*"):
        sync_one(path)
    sync_one(folder)


def sync_one(path: Path) -> None:
    """Have one file, or the names in one folder, on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _files(folder: Path) -> list[str]:
    """All but the manifest, and hidden ones, which file systems on networks leave behind."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in paths if path != folder / MANIFEST)


def _described(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):  # hashing a block lets go of Python's lock: answers go on meanwhile
            digest.update(block)
            size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _damaged(folder: Path, why: str) -> IndexDamaged:
    return IndexDamaged(
        f"the index {folder} is damaged: {why}; delete the folder and publish a new one with `rec-assets bootstrap` or "
        "the job `refresh`"
    )
