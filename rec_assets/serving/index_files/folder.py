"""The serving folder: published indexes, and pointer files that name the current one.

    serving/indexes/<version>-<as-of day>-<number>/   one complete index; it never changes
    serving/current.json                              the current index, the previous ones, and those that experiments
                                                      use; replaced atomically
    serving/current.copy.json                         a copy, used if that file is damaged

Readers follow `current.json`. All files of an index are on disk before `current.json` names it. `make_current` says
which earlier indexes stay.
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

from rec_assets.serving.index_files.manifest import IndexDamaged, sync_path, verify

CURRENT, COPY = "current.json", "current.copy.json"
STAGING_HOURS = 6

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedIndex:
    """A published index.

    Attributes:
        version: Of the released model.
        path: Its folder.
    """

    version: int
    as_of: dt.date
    path: Path


@dataclass(frozen=True)
class IndexPointers:
    """Content of `current.json`.

    Attributes:
        current: The current index; None before the first publication.
        previous: Earlier current indexes, the newest first, without those of rolled-back model versions.
        experiment_indexes: By the model name or version in the experiment.
        damage: Why the file can't be read; "" if it can. The other attributes then come from its copy.
    """

    current: PublishedIndex | None = None
    previous: tuple[PublishedIndex, ...] = ()
    experiment_indexes: Mapping[str, PublishedIndex] = field(default_factory=dict)
    damage: str = ""


@dataclass(frozen=True)
class ServingFolder:
    """Indexes under `root`."""

    root: Path

    def pointers(self) -> IndexPointers:
        """Read the pointer file or, if it is damaged, its copy."""
        damage = ""
        for name in (CURRENT, COPY):
            path = self.root / name
            try:
                content = json.loads(path.read_bytes())
                current = self._published(content)
                previous = tuple(self._published(each) for each in content.get("previous", []))
                experiments = {name: self._published(each) for name, each in content.get("experiments", {}).items()}
            except FileNotFoundError:
                damage = damage or f"{path} is missing; the next publication writes it again"
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                reason = f"{type(error).__name__}: {error}"
                damage = damage or f"{path} can't be used ({reason}); the next publication writes it again"
            else:
                return IndexPointers(current, previous, experiments, damage)
        is_new = not any((self.root / name).exists() for name in (CURRENT, COPY))
        return IndexPointers(damage="" if is_new else damage)

    def current(self) -> PublishedIndex | None:
        """The current index; None before the first publication."""
        pointers = self.pointers()
        if pointers.damage:
            _log.warning("%s", pointers.damage)
        return pointers.current

    def damage(self) -> str:
        """What is wrong with the pointer files or the indexes they name; "" if nothing is. Reads all files."""
        pointers = self.pointers()
        if pointers.damage:
            return pointers.damage
        if pointers.current is None:  # fine for a folder that another machine writes
            return f"{self.root} has indexes but no current one" if (self.root / "indexes").is_dir() else ""
        return next(filter(None, map(_damage, (pointers.current, *pointers.experiment_indexes.values()))), "")

    def indexes(self) -> list[PublishedIndex]:
        """All indexes, by as-of day, version and number."""
        found = []
        for path in (self.root / "indexes").glob("*-*-*-*-*"):
            version, year, month, day, number = path.name.split("-")
            as_of = dt.date(int(year), int(month), int(day))
            found.append((as_of, int(version), int(number), PublishedIndex(int(version), as_of, path)))
        return [each[-1] for each in sorted(found, key=lambda each: each[:3])]

    def add(self, version: int, as_of: dt.date, write: Callable[[Path], None]) -> PublishedIndex:
        """Add an index of a released version. Call `make_current` to make it the current one.

        `write` writes the index into the folder that it receives.

        Raises:
            IndexDamaged: the files on disk differ from those that were written.
        """
        folder = self.root / "indexes"
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{uuid.uuid4().hex}"
        try:
            write(staged)
            for file in (*staged.rglob("*"), staged):
                sync_path(file)
            verify(staged)
            path = folder / f"{version}-{as_of}-{time.time_ns()}"
            os.replace(staged, path)
            sync_path(folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return PublishedIndex(version, as_of, path)

    def make_current(self, to: PublishedIndex, experiments: Mapping[str, PublishedIndex] | None = None) -> None:
        """Make an index the current one, and delete indexes that nobody needs any more.

        Keeps:
        - the two newest indexes of each of the last three versions, for a rollback and for readers that have just read
          the pointer file;
        - the newest undamaged previous index, from which a worker can start if later ones are damaged;
        - `experiments`, the indexes for experiments (default: those that the pointer file names already).
        """
        pointers = self.pointers()
        experiments = pointers.experiment_indexes if experiments is None else experiments
        earlier = [each for each in (pointers.current, *pointers.previous) if each is not None]
        previous = [each for each in earlier if each.path != to.path and each.version <= to.version]
        self._write_pointers(IndexPointers(to, tuple(previous), experiments))
        indexes = self.indexes()
        of_experiments = {each.version for each in experiments.values()} - {to.version}  # their indexes are kept anyway
        versions = sorted({each.version for each in indexes if each.version not in of_experiments} | {to.version})[-3:]
        kept = {to.path, *(each.path for each in experiments.values())}
        for version in versions:
            kept.update([each.path for each in indexes if each.version == version][-2:])
        kept.update(next(([each.path] for each in previous if not _damage(each)), []))
        for each in indexes:
            if each.path not in kept:
                shutil.rmtree(each.path, ignore_errors=True)
        for staged in (self.root / "indexes").glob(".*"):  # of a writer that was killed
            if time.time() - staged.stat().st_mtime > STAGING_HOURS * 3600:
                shutil.rmtree(staged, ignore_errors=True)

    def replace(self, old: PublishedIndex, write: Callable[[Path], None]) -> PublishedIndex:
        """Replace an index by a new one, also in the pointer file, and delete the old one."""
        new, pointers = self.add(old.version, old.as_of, write), self.pointers()

        def replaced(each: PublishedIndex) -> PublishedIndex:
            return new if each.path == old.path else each

        if pointers.current is not None:
            experiments = {name: replaced(each) for name, each in pointers.experiment_indexes.items()}
            previous = tuple(map(replaced, pointers.previous))
            self._write_pointers(IndexPointers(replaced(pointers.current), previous, experiments))
        shutil.rmtree(old.path, ignore_errors=True)
        return new

    def remove(self, index: PublishedIndex) -> None:
        """Delete an index. If it was the current one, there is none until the next `make_current`."""
        if index == self.current():
            for name in (COPY, CURRENT):
                (self.root / name).unlink(missing_ok=True)
        shutil.rmtree(index.path, ignore_errors=True)

    def _write_pointers(self, pointers: IndexPointers) -> None:
        assert pointers.current is not None
        content = {
            **_as_json(pointers.current),
            "previous": [_as_json(each) for each in pointers.previous if each.path.is_dir()],
            "experiments": {name: _as_json(each) for name, each in pointers.experiment_indexes.items()},
        }
        for name in (CURRENT, COPY):
            staged = self.root / f".{name}.part"
            staged.write_text(json.dumps(content, indent=1))
            sync_path(staged)
            os.replace(staged, self.root / name)
            sync_path(self.root)

    def _published(self, content: Any) -> PublishedIndex:
        """Raises ValueError, TypeError or KeyError if the content does not name an index in the folder."""
        version, (folder, _, name) = content["version"], content["path"].partition("/")
        if type(version) is not int or folder != "indexes" or not name or name.startswith(".") or {*name} & {*"/\\\0"}:
            raise ValueError(f"{content!r} names no index in {self.root / 'indexes'}")
        return PublishedIndex(version, dt.date.fromisoformat(content["as_of"]), self.root / "indexes" / name)


def _damage(index: PublishedIndex) -> str:
    """What is wrong with the files of an index; "" if nothing is."""
    try:
        verify(index.path)
    except (IndexDamaged, OSError) as error:
        return str(error)
    return ""


def _as_json(index: PublishedIndex) -> dict[str, str | int]:
    return {"version": index.version, "as_of": index.as_of.isoformat(), "path": f"indexes/{index.path.name}"}
