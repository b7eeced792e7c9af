"""The manifest of an index: size and SHA-256 of each file, in `manifest.json`, which is written last."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rec_assets.files import sha256_of

MANIFEST = "manifest.json"


class IndexUnreadable(ValueError):
    """An index can't be used. The message says why, for example because another version of the code wrote it."""


class IndexDamaged(IndexUnreadable):
    """The files of an index differ from its manifest."""


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files in `folder`."""
    files = {name: _describe(folder / name) for name in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1))


def verify(folder: Path) -> bool:
    """Compare the files in `folder` with its manifest.

    Returns:
        Whether there is a manifest. Without one, nothing is compared.

    Raises:
        IndexDamaged: a file is missing or changed, or the manifest does not list it.
        OSError: the folder can't be read.
    """
    try:
        expected = json.loads((folder / MANIFEST).read_bytes())["files"]
        names = _files(folder)
        if sorted(expected) != names:
            name = sorted(set(expected) ^ set(names))[0]
            raise _damaged(folder, f"{name} is {'missing' if name in expected else 'not in its manifest'}")
        for name in names:  # sizes first: most damaged files are truncated
            size = (folder / name).stat().st_size
            if size != expected[name]["bytes"]:
                raise _damaged(folder, f"{name} has {size:,} bytes instead of {expected[name]['bytes']:,}")
        for name in names:
            if _describe(folder / name) != expected[name]:
                raise _damaged(folder, f"the SHA-256 of {name} differs from the manifest")
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise _damaged(folder, "the folder is missing") from None
        if error.filename != str(folder / MANIFEST):
            raise _damaged(folder, f"{error.filename} is missing") from None
        return False
    except IndexDamaged:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder, f"{MANIFEST} can't be read ({type(error).__name__}: {error})") from error
    return True


def sync_path(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[str]:
    """All files but the manifest and hidden ones, which network file systems leave behind."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in paths if path != folder / MANIFEST)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": sha256_of(file), "bytes": file.tell()}


def _damaged(folder: Path, reason: str) -> IndexDamaged:
    return IndexDamaged(
        f"the index {folder} is damaged: {reason}; delete the folder and publish a new one with `rec-assets bootstrap` "
        "or the job `daily_update`"
    )
