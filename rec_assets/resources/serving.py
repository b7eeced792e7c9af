"""The serving folder: the indexes that the API may load, and which of them is current.

    serving/indexes/<version>-<as-of day>/   one index, whole; it never changes
    serving/current.json                     which one counts: swapped in one step

A reader follows `current.json`; the index it names stays until two newer ones have come.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CURRENT = "current.json"


@dataclass(frozen=True)
class Published:
    """One index.

    Attributes:
        version: Of the released model.
        as_of: The last day it knows of.
        path: Its folder.
    """

    version: int
    as_of: dt.date
    path: Path


@dataclass(frozen=True)
class ServingFolder:
    """Indexes under `root`."""

    root: Path

    def current(self) -> Published | None:
        """The index that counts; None before the first."""
        try:
            found = json.loads((self.root / CURRENT).read_text())
        except FileNotFoundError:
            return None
        return Published(found["version"], dt.date.fromisoformat(found["as_of"]), self.root / found["path"])

    def indexes(self) -> list[Published]:
        """All that are there, by as-of day and version."""
        found = []
        for path in (self.root / "indexes").glob("*-*-*-*"):
            version, _, day = path.name.partition("-")
            found.append(Published(int(version), dt.date.fromisoformat(day), path))
        return sorted(found, key=lambda each: (each.as_of, each.version))

    def publish(self, version: int, as_of: dt.date, write: Callable[[Path], None]) -> Published:
        """Add an index; it becomes current unless a later day's is. See `add`."""
        published, current = self.add(version, as_of, write), self.current()
        if current is None or current.as_of <= as_of:
            self.point(published)
        return published

    def add(self, version: int, as_of: dt.date, write: Callable[[Path], None]) -> Published:
        """Add an index, or replace the one of this version and day.

        Args:
            version: Of the released model.
            as_of: Last day it knows of.
            write: Fills the folder it is given.
        """
        staged = self.root / ".staging" / uuid.uuid4().hex
        path = self.root / "indexes" / f"{version}-{as_of}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(staged)
            if path.exists():  # the same models and the same day: readers have its files open or mapped already
                os.replace(path, staged.with_name(f"{staged.name}.old"))
            os.replace(staged, path)
        finally:
            shutil.rmtree(self.root / ".staging", ignore_errors=True)
        return Published(version, as_of, path)

    def point(self, to: Published) -> None:
        """Make an index the current one, and let go of those that nobody will go back to.

        The two newest of each of the last three versions stay: a rollback finds its index, and a reader that has just
        been told of one has time to open it.
        """
        staged = self.root / f".{CURRENT}.part"
        about = {"version": to.version, "as_of": to.as_of.isoformat(), "path": f"indexes/{to.path.name}"}
        staged.write_text(json.dumps(about, indent=1))
        os.replace(staged, self.root / CURRENT)
        found = self.indexes()
        versions = sorted({each.version for each in found} | {to.version})[-3:]
        kept = {
            each.path for version in versions for each in [one for one in found if one.version == version][-2:]
        } | {to.path}  # fmt: skip
        for each in found:
            if each.path not in kept:
                shutil.rmtree(each.path, ignore_errors=True)

    def newest_of(self, version: int) -> Published | None:
        """The newest index of a version that is still there."""
        return max(
            (each for each in self.indexes() if each.version == version), key=lambda each: each.as_of, default=None
        )
