"""The serving folder: the indexes that the API may load, and which of them is current.

    serving/indexes/<version>-<as-of day>-<number>/   one index, whole; it never changes
    serving/current.json                              which one counts, which counted before it, and which others
                                                      experiments compare with it: swapped in one step
    serving/current.copy.json                         the same, for when that file is damaged

A reader follows `current.json`; the index it names stays until two newer ones have come. All of
it is on the disk before it is named.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rec_assets.serving.manifest import IndexDamaged, check, sync, sync_one

CURRENT, COPY = "current.json", "current.copy.json"
STAGING_HOURS = 6

_log = logging.getLogger(__name__)


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
class IndexPointers:
    """What `current.json` says.

    Attributes:
        current: The index that counts; None before the first.
        before: Those that counted before, the newest first; none of a version that was taken back.
        others: Those that experiments ask for beside it, by the name or version they ask by.
        damage: What is wrong with the file, in words; "" where nothing. The rest is then what its copy says.
    """

    current: Published | None = None
    before: tuple[Published, ...] = ()
    others: Mapping[str, Published] = field(default_factory=dict)
    damage: str = ""


@dataclass(frozen=True)
class ServingFolder:
    """Indexes under `root`."""

    root: Path

    def pointed(self) -> IndexPointers:
        """What is published, as the file or, where that is damaged, its copy says."""
        damage = ""
        for name in (CURRENT, COPY):
            path = self.root / name
            try:
                found = json.loads(path.read_bytes())
                pointed = IndexPointers(
                    self._published(found),
                    tuple(self._published(each) for each in found.get("before", [])),
                    {other: self._published(each) for other, each in found.get("others", {}).items()},
                )
            except FileNotFoundError:
                damage = damage or f"{path} is missing; the next index that is published writes it anew"
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                damage = damage or (
                    f"{path} can't be used ({type(error).__name__}: {error}); the next index that is published writes "
                    "it anew"
                )
            else:
                return IndexPointers(pointed.current, pointed.before, pointed.others, damage)
        nothing = not any((self.root / name).exists() for name in (CURRENT, COPY))
        return IndexPointers(damage="" if nothing else damage)

    def current(self) -> Published | None:
        """The index that counts; None before the first."""
        pointed = self.pointed()
        if pointed.damage:
            _log.warning("%s", pointed.damage)
        return pointed.current

    def others(self) -> dict[str, Published]:
        """The indexes that experiments ask for beside the current one, by the name or version they ask by."""
        return dict(self.pointed().others)

    def damage(self) -> str:
        """What is wrong with what was published here, in words; "" where nothing is. Reads all of it."""
        pointed = self.pointed()
        if pointed.damage:
            return pointed.damage
        if pointed.current is None:  # nothing is wrong with a folder that another machine writes
            return f"no index counts in {self.root}" if (self.root / "indexes").is_dir() else ""
        for each in (pointed.current, *pointed.others.values()):
            try:
                check(each.path)
            except (IndexDamaged, OSError) as error:
                return str(error)
        return ""

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

        Raises:
            IndexDamaged: what lies there isn't what was written.
        """
        folder = self.root / "indexes"
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{uuid.uuid4().hex}"
        try:
            write(staged)
            sync(staged)
            check(staged)
            path = folder / f"{version}-{as_of}-{time.time_ns()}"
            os.replace(staged, path)
            sync_one(folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return Published(version, as_of, path)

    def point(self, to: Published, others: Mapping[str, Published] | None = None) -> None:
        """Make an index the current one, and let go of those that nobody will go back to.

        Without `others`, those that stand beside it stay.

        The two newest of each of the last three versions stay: a rollback finds its index, and a reader that has just
        been told of one has time to open it. So does the newest of those before that is whole, however many damaged
        ones came after it: a worker that starts answers from that.
        """
        pointed = self.pointed()
        others = pointed.others if others is None else others
        was = [each for each in (pointed.current, *pointed.before) if each is not None]
        before = [each for each in was if each.path != to.path and each.version <= to.version]
        self._swap(IndexPointers(to, tuple(before), others))
        found = self.indexes()
        compared = {each.version for each in others.values()} - {to.version}  # nobody goes back to a challenger
        versions = sorted({each.version for each in found if each.version not in compared} | {to.version})[-3:]
        kept = {
            each.path for version in versions for each in [one for one in found if one.version == version][-2:]
        } | {to.path, *(each.path for each in others.values())}  # fmt: skip
        kept.update(next(([each.path] for each in before if _is_whole(each)), []))
        for each in found:
            if each.path not in kept:
                shutil.rmtree(each.path, ignore_errors=True)
        for left in (self.root / "indexes").glob(".*"):  # by a writer that was killed
            if time.time() - left.stat().st_mtime > STAGING_HOURS * 3600:
                shutil.rmtree(left, ignore_errors=True)

    def replace(self, old: Published, write: Callable[[Path], None]) -> Published:
        """Put an index in another's place, current if that one was; the old one goes."""
        new, pointed = self.add(old.version, old.as_of, write), self.pointed()

        def moved(each: Published) -> Published:
            return new if each.path == old.path else each

        if pointed.current is not None:
            others = {name: moved(each) for name, each in pointed.others.items()}
            self._swap(IndexPointers(moved(pointed.current), tuple(map(moved, pointed.before)), others))
        shutil.rmtree(old.path, ignore_errors=True)
        return new

    def remove(self, index: Published) -> None:
        """Take an index away; where it was current, none is until the next is pointed to."""
        if index == self.current():
            for name in (COPY, CURRENT):
                (self.root / name).unlink(missing_ok=True)
        shutil.rmtree(index.path, ignore_errors=True)

    def newest_of(self, version: int) -> Published | None:
        """The newest index of a version that is still there."""
        return next((each for each in reversed(self.indexes()) if each.version == version), None)

    def _swap(self, to: IndexPointers) -> None:
        assert to.current is not None
        about = {
            **_described(to.current),
            "before": [_described(each) for each in to.before if each.path.is_dir()],
            "others": {name: _described(each) for name, each in to.others.items()},
        }
        for name in (CURRENT, COPY):
            staged = self.root / f".{name}.part"
            staged.write_text(json.dumps(about, indent=1))
            sync_one(staged)
            os.replace(staged, self.root / name)
            sync_one(self.root)

    def _published(self, found: Any) -> Published:
        """Raises ValueError, TypeError or KeyError where this names no index in the folder."""
        version, (folder, _, name) = found["version"], found["path"].partition("/")
        if type(version) is not int or folder != "indexes" or not name or name.startswith(".") or {*name} & {*"/\\\0"}:
            raise ValueError(f"{found!r} names no index in {self.root / 'indexes'}")
        return Published(version, dt.date.fromisoformat(found["as_of"]), self.root / "indexes" / name)


def _is_whole(index: Published) -> bool:
    try:
        check(index.path)
    except (IndexDamaged, OSError):
        return False
    return True


def _described(index: Published) -> dict[str, str | int]:
    return {"version": index.version, "as_of": index.as_of.isoformat(), "path": f"indexes/{index.path.name}"}
