"""The serving folder: the indexes that the API may load, and which of them is current.

    serving/indexes/<version>-<as-of day>-<number>/   one index, whole; it never changes
    serving/current.json                              which one counts, and which others experiments compare with it:
                                                      swapped in one step

A reader follows `current.json`; the index it names stays until two newer ones have come.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

CURRENT = "current.json"
STAGING_HOURS = 6


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

    def others(self) -> dict[str, Published]:
        """The indexes that experiments ask for beside the current one, by the name or version they ask by."""
        try:
            found = json.loads((self.root / CURRENT).read_text()).get("others", {})
        except FileNotFoundError:
            return {}
        return {
            name: Published(each["version"], dt.date.fromisoformat(each["as_of"]), self.root / each["path"])
            for name, each in found.items()
        }

    def indexes(self) -> list[Published]:
        """All that are there, by as-of day, version and number."""
        found = []
        for path in (self.root / "indexes").glob("*-*-*-*-*"):
            version, year, month, day, number = path.name.split("-")
            as_of = dt.date(int(year), int(month), int(day))
            found.append((as_of, int(version), int(number), Published(int(version), as_of, path)))
        return [each[-1] for each in sorted(found, key=lambda each: each[:3])]

    def add(self, version: int, as_of: dt.date, write: Callable[[Path], None]) -> Published:
        """Add an index; `point` makes it count.

        Args:
            version: Of the released model.
            as_of: Last day it knows of.
            write: Fills the folder it is given.
        """
        folder = self.root / "indexes"
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{uuid.uuid4().hex}"
        try:
            write(staged)
            path = folder / f"{version}-{as_of}-{time.time_ns()}"
            os.replace(staged, path)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return Published(version, as_of, path)

    def point(self, to: Published, others: Mapping[str, Published] | None = None) -> None:
        """Make an index the current one, and let go of those that nobody will go back to.

        Without `others`, those that stand beside it stay.

        The two newest of each of the last three versions stay: a rollback finds its index, and a reader that has just
        been told of one has time to open it.
        """
        others = self.others() if others is None else others
        self._swap(to, others)
        found = self.indexes()
        compared = {each.version for each in others.values()} - {to.version}  # nobody goes back to a challenger
        versions = sorted({each.version for each in found if each.version not in compared} | {to.version})[-3:]
        kept = {
            each.path for version in versions for each in [one for one in found if one.version == version][-2:]
        } | {to.path, *(each.path for each in others.values())}  # fmt: skip
        for each in found:
            if each.path not in kept:
                shutil.rmtree(each.path, ignore_errors=True)
        for left in (self.root / "indexes").glob(".*"):  # by a writer that was killed
            if time.time() - left.stat().st_mtime > STAGING_HOURS * 3600:
                shutil.rmtree(left, ignore_errors=True)

    def replace(self, old: Published, write: Callable[[Path], None]) -> Published:
        """Put an index in another's place, current if that one was; the old one goes."""
        current, others = self.current(), self.others()
        new = self.add(old.version, old.as_of, write)
        if current is not None:
            moved = {name: new if each.path == old.path else each for name, each in others.items()}
            self._swap(new if current.path == old.path else current, moved)
        shutil.rmtree(old.path, ignore_errors=True)
        return new

    def remove(self, index: Published) -> None:
        """Take an index away; where it was current, none is until the next is pointed to."""
        if index == self.current():
            (self.root / CURRENT).unlink(missing_ok=True)
        shutil.rmtree(index.path, ignore_errors=True)

    def newest_of(self, version: int) -> Published | None:
        """The newest index of a version that is still there."""
        return next((each for each in reversed(self.indexes()) if each.version == version), None)

    def _swap(self, to: Published, others: Mapping[str, Published]) -> None:
        staged = self.root / f".{CURRENT}.part"
        about = {**_described(to), "others": {name: _described(each) for name, each in others.items()}}
        staged.write_text(json.dumps(about, indent=1))
        os.replace(staged, self.root / CURRENT)


def _described(index: Published) -> dict[str, str | int]:
    return {"version": index.version, "as_of": index.as_of.isoformat(), "path": f"indexes/{index.path.name}"}
