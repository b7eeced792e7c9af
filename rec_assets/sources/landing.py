"""What lies in the landing zone: has it changed since the last look, and is it whole? Reads bytes, never lines.

Here belongs what a sensor must know before anything is read: contents told apart by digests, files that are still
growing, and what the drivers of other file systems tell about a file. Free of Dagster.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.paths import DONE, SUCCESS, files_by_day, folders_of_its_own, is_uri, reaching
from rec_assets.sources.reader import file_fingerprint
from rec_assets.sources.spec import Source

_MODIFIED = ("mtime", "LastModified", "last_modified", "updated", "modified_at", "modificationTime", "created")
"""How drivers call the time at which a file was last modified; `created` where files are only ever replaced."""

_TAGS = ("ETag", "etag", "md5Hash", "content_md5")
"""How drivers call what changes with a file's content."""


@dataclass(frozen=True)
class LandedFiles:
    """What lies there for one day (or for the catalog).

    Attributes:
        fingerprint: SHA-256 over names and contents of the files, in order: changes with these only, not with times.
            "" where not settled, so that a big file that is still growing is not read at each look.
        stamp: Digest of names, sizes and modification times: unchanged, the content need not be read again.
        settled: Nothing there is still growing.
    """

    fingerprint: str
    stamp: str
    settled: bool


def scan(
    source: Source, known: Mapping[dt.date, LandedFiles], *, now: float, settle_seconds: float
) -> dict[dt.date, LandedFiles]:
    """What lies there for each day; an export stands for all days, under the last one.

    Days outside of the source's `first_day` and `last_day` don't count.

    Args:
        source: The source.
        known: What the last look found; only what has changed since is read.
        now: Seconds since 1970.
        settle_seconds: Age at which a file is taken to be whole, where no success marker says that it is.

    Raises:
        SourceError: a file can't be read, a URI not be reached, or an export doesn't say its days.
    """
    pattern = source.glob(source.purchases.path)
    if source.is_daily:
        first, last = source.first_day or dt.date.min, source.last_day or dt.date.max
        found = {day: files for day, files in files_by_day(pattern).items() if first <= day <= last}
    else:
        files = source.files()
        found = {source.bounds()[1]: files} if files else {}
    is_whole = _whole(pattern, now, settle_seconds)
    return {day: _landed(source, files, known.get(day), is_whole) for day, files in sorted(found.items())}


def newest_whole_day(source: Source, *, now: float, settle_seconds: float) -> dt.date | None:
    """The newest day of a daily source whose files are whole, by their times or markers; none is read for that.

    Days in the future don't count (`is_in_future`).

    Raises:
        SourceError: a URI can't be reached.
    """
    pattern = source.glob(source.purchases.path)
    last, is_whole = source.last_day or dt.date.max, _whole(pattern, now, settle_seconds)
    for day, files in sorted(files_by_day(pattern).items(), reverse=True):
        if day <= last and not is_in_future(day, now) and all(is_whole(file, modified_at(file)) for file in files):
            return day
    return None


def is_in_future(day: dt.date, now: float) -> bool:
    """Whether a day has not begun anywhere on earth: its file's name, or the clock, is wrong."""
    return day > dt.datetime.fromtimestamp(now, dt.timezone.utc).date() + dt.timedelta(days=1)


def days_with_data(source: Source, now: float) -> tuple[dt.date, dt.date]:
    """First day of a source, and the newest for which data have landed: what a bootstrap covers.

    Args:
        source: The source.
        now: Seconds since 1970.

    Raises:
        SourceError: nothing has landed between its bounds, the newest day lies in the future, or an export doesn't say
            its days.
    """
    first, last = source.bounds()
    if source.is_daily:
        landed = source.landed_days()
        if not (within := [day for day in landed if first <= day <= last]):
            raise SourceError(
                f"source {source.name}: files have landed for {landed[0]} to {landed[-1]}, none between first_day "
                f"({first}) and last_day ({last})"
                if landed
                else f"source {source.name}: no file matches {source.expand(source.purchases.path)}"
            )
        first, last = within[0], within[-1]
        if is_in_future(last, now):
            raise SourceError(f"a file has landed for {last}, which lies in the future: fix its name, or take it away")
    elif is_in_future(last, now):
        raise SourceError(
            f"source {source.name}: last_day ({last}) lies in the future: set it to the newest day that the export has "
            "lines of (`rec-assets check-source` tells which)"
        )
    return first, last


def scan_catalog(source: Source, known: LandedFiles | None, *, now: float, settle_seconds: float) -> LandedFiles | None:
    """What lies there as the newest catalog; None where nothing does, or the source has none. See `scan`."""
    newest = source.catalog_files()[-1:]
    if source.catalog is None or not newest:
        return None
    return _landed(source, newest, known, _whole(source.glob(source.catalog.path), now, settle_seconds))


def file_fingerprints(source: Source, day: dt.date | None) -> dict[str, str]:
    """SHA-256 of the bytes of each file of a day, or of all files (an export), by its name in `source_file`.

    Raises:
        SourceError: a file can't be read, or a URI not be reached.
    """
    return {source.label(file): _fingerprint(file) for file in source.files(day)}


def catalog_fingerprint(source: Source) -> dict[str, str]:
    """The same of the newest catalog; empty where the source has none.

    Raises:
        SourceError: a catalog is described but none is there, or it can't be read.
    """
    newest = source.catalog_file()
    return {source.label(newest): _fingerprint(newest)} if newest else {}


def fingerprint_of(files: Mapping[str, str]) -> str:
    """The fingerprint that `scan` gives files of these names and SHA-256: is what was read what lies there?

    Args:
        files: As `file_fingerprints` gives them.
    """
    return _digest([[name, fingerprint] for name, fingerprint in files.items()])


def modified_at(file: UPath) -> float | None:
    """When a file was last modified, in seconds since 1970; None where its driver doesn't tell.

    Raises:
        SourceError: a URI can't be reached.
    """
    with reaching(file):
        return _modified(_about(file))


def _landed(
    source: Source, files: Sequence[UPath], known: LandedFiles | None, is_whole: Callable[[UPath, float | None], bool]
) -> LandedFiles:
    seen, settled = [], True
    for file in files:
        with reaching(file):
            try:
                about = _about(file)
            except FileNotFoundError:  # taken away since it was listed; the next look lists anew
                return LandedFiles("", "", settled=False)
            modified = _modified(about)
            tags = [str(about[name]) for name in _TAGS if about.get(name)]
            seen.append([source.label(file), about.get("size"), modified, *tags])
            settled = settled and is_whole(file, modified)
    stamp = _digest(seen)
    if not settled:
        return LandedFiles("", stamp, settled=False)
    if known and known.fingerprint and known.stamp == stamp:
        return LandedFiles(known.fingerprint, stamp, settled=True)
    content = {source.label(file): _fingerprint(file) for file in files}
    return LandedFiles(fingerprint_of(content), stamp, settled=True)


def _whole(pattern: str, now: float, settle_seconds: float) -> Callable[[UPath, float | None], bool]:
    """A function that tells whether a file of the pattern, last modified then, is whole."""

    def is_whole(file: UPath, modified: float | None) -> bool:
        if modified is None or modified <= now - max(settle_seconds, 0):
            return True
        # Of a time in the future, by the clock of another machine, nobody knows how long ago it was: not settled, until
        # a marker says so or our clock gets there.
        markers = [folder / SUCCESS for folder in folders_of_its_own(pattern, file)]
        markers += [file.with_name(file.name + ending) for ending in DONE]
        return any(_speaks_of(marker, modified if modified <= now else None) for marker in markers)

    return is_whole


def _speaks_of(marker: UPath, modified: float | None) -> bool:
    """Whether a success marker is there, and not older than the file: of what came after it, it knows nothing."""
    try:
        marked = _modified(_about(marker))
    except FileNotFoundError:
        return False
    return modified is None or marked is None or marked >= modified


def _about(file: UPath) -> Mapping[str, Any]:
    """What the driver tells about a file."""
    if is_uri(str(file)):
        told: Mapping[str, Any] = file.fs.info(file.path)
        return told
    stat = file.stat()
    return {"size": stat.st_size, "mtime": stat.st_mtime}


def _modified(about: Mapping[str, Any]) -> float | None:
    told = next((about[name] for name in _MODIFIED if about.get(name)), None)
    if isinstance(told, str):
        try:
            told = dt.datetime.fromisoformat(told.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(told, dt.datetime):
        return (told if told.tzinfo else told.replace(tzinfo=dt.timezone.utc)).timestamp()
    if isinstance(told, int | float):
        return told / 1000 if told > 1e11 else float(told)  # WebHDFS counts milliseconds
    return None


def _fingerprint(file: UPath) -> str:
    try:
        with reaching(file):
            return file_fingerprint([file])
    except OSError as error:
        raise SourceError(f"{file}: not readable: {error}") from error


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
