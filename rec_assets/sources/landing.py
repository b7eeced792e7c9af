"""The state of the landing zone: which days and files are complete, and which files changed since the last scan.

Sensors use it before the pipeline reads any lines. It reads only bytes and file metadata, and needs no Dagster. All
functions raise a `SourceError` if a file or URI can't be read.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from rec_assets.files import sha256_of
from rec_assets.sources.check_result import pluralize
from rec_assets.sources.errors import SourceError
from rec_assets.sources.feedback import landed_files
from rec_assets.sources.paths import (
    DONE_SUFFIXES,
    SUCCESS_MARKER,
    driver_errors,
    files_by_day,
    folders_of_one_day,
    is_uri,
)
from rec_assets.sources.spec import DataSource

_TIME_KEYS = ("mtime", "LastModified", "last_modified", "updated", "modified_at", "modificationTime", "created")
"""Names that drivers use for the modification time; `created` is for stores where files are only replaced."""

_TAG_KEYS = ("ETag", "etag", "md5Hash", "content_md5")
"""Names that drivers use for a tag that changes with the file's content."""


@dataclass(frozen=True)
class LandedFiles:
    """The files of one day, or of the catalog.

    Attributes:
        fingerprint: SHA-256 of the names and contents of the files, in order. "" if not complete, so that a large file
            that is being written is not read at each scan.
        metadata_hash: Hash of names, sizes and modification times. If it is unchanged, the content isn't read again.
        is_complete: All files are complete.
    """

    fingerprint: str
    metadata_hash: str
    is_complete: bool


def scan(
    source: DataSource, previous: Mapping[dt.date, LandedFiles], *, now: float, settle_seconds: float
) -> dict[dt.date, LandedFiles]:
    """Scan the files of the purchase log and the event logs by day; an export is one entry, under its last day.

    Days outside of `first_day` and `last_day` are ignored.

    Args:
        source: The data source.
        previous: Result of the last scan; only files that changed since then are read.
        now: Unix time in seconds.
        settle_seconds: A file without a success marker is complete if it is this old.

    Raises:
        SourceError: also if an export has no `first_day` or `last_day`.
    """
    pattern = source.glob(source.purchases.path)
    if source.is_daily:
        first, last = source.first_day or dt.date.min, source.last_day or dt.date.max
        by_day = {day: files for day, files in files_by_day(pattern).items() if first <= day <= last}
    else:
        files = source.files()
        by_day = {source.bounds()[1]: files} if files else {}
    files_of_logs = {pattern: by_day}
    for log in source.event_sources:
        pattern = log.glob(log.purchases.path)
        files_of_logs[pattern] = files_by_day(pattern) if log.is_daily else dict.fromkeys(by_day, log.files())
    checks = {pattern: _completeness_check(pattern, now, settle_seconds) for pattern in files_of_logs}

    def scan_day(day: dt.date) -> LandedFiles:
        check_of = {file: checks[pattern] for pattern, each in files_of_logs.items() for file in each.get(day, ())}
        return _scan_files(source, [*check_of], previous.get(day), lambda file, time: check_of[file](file, time))

    return {day: scan_day(day) for day in sorted(by_day)}


def newest_complete_day(source: DataSource, *, now: float, settle_seconds: float) -> dt.date | None:
    """The newest day of a daily data source whose files are complete, by their times or markers. It reads no file.

    Days in the future are ignored (`is_in_future`).
    """
    pattern = source.glob(source.purchases.path)
    last, is_complete = source.last_day or dt.date.max, _completeness_check(pattern, now, settle_seconds)
    for day, files in sorted(files_by_day(pattern).items(), reverse=True):
        if day <= last and not is_in_future(day, now) and all(is_complete(file, modified_at(file)) for file in files):
            return day
    return None


def is_in_future(day: dt.date, now: float) -> bool:
    """Whether a day has not begun anywhere on earth, so that a file name or a clock is wrong."""
    return day > dt.datetime.fromtimestamp(now, dt.timezone.utc).date() + dt.timedelta(days=1)


def covered_days(source: DataSource, now: float) -> tuple[dt.date, dt.date]:
    """First and newest day that a bootstrap covers at a Unix time in seconds.

    Raises:
        SourceError: no files between first_day and last_day, the newest day is in the future, or an export has no
            first_day or last_day.
    """
    if source.is_daily:
        days = source.days_to_read()
        if is_in_future(days[-1], now):
            raise SourceError(f"there is a file for {days[-1]}, which is in the future: fix its name, or remove it")
        return days[0], days[-1]
    first, last = source.bounds()
    if is_in_future(last, now):
        raise SourceError(
            f"data source {source.name}: last_day ({last}) is in the future: set it to the newest day with lines "
            "(`rec-assets check-source` shows it)"
        )
    return first, last


def too_few_days_message(first: dt.date, newest: dt.date, horizon_days: int) -> str:
    """Why these days are too few for a bootstrap, and what to do; "" if there are enough."""
    days, needed = (newest - first).days + 1, 2 * horizon_days + 1
    if days >= needed:
        return ""
    message = (
        f"{pluralize(days, 'day')} of data ({first} to {newest}) {'is' if days == 1 else 'are'} too few: training and "
        f"evaluation need 2 horizons of {horizon_days} days and one day of lookback: land more days"
    )
    return message if days < 3 else f"{message}, or set REC_HORIZON_DAYS to {max((days - 1) // 3, 1)}"


def scan_catalog(
    source: DataSource, previous: LandedFiles | None, *, now: float, settle_seconds: float
) -> LandedFiles | None:
    """Scan the newest catalog file; None if there is none. See `scan`."""
    newest = source.catalog_files()[-1:]
    if source.catalog is None or not newest:
        return None
    return _scan_files(
        source, newest, previous, _completeness_check(source.glob(source.catalog.path), now, settle_seconds)
    )


def file_fingerprints(source: DataSource, day: dt.date | None) -> dict[str, str]:
    """Name in `source_file` → SHA-256 of the file, for the files of a day, or for all files of exports.

    They are those of the purchase log and of the event logs.
    """
    return {source.label(file): file_fingerprint(file) for file in source.all_files(day)}


def event_files(source: DataSource, landing: Path, day: dt.date) -> dict[str, UPath]:
    """Name → file of the events of a day: those that the API landed in `landing`, and those of the event logs."""
    of_logs = (file for log in source.event_sources for file in log.files(day if log.is_daily else None))
    return {**landed_files(landing, "raw_feedback_events", day), **{source.label(file): file for file in of_logs}}


def catalog_fingerprint(source: DataSource) -> dict[str, str]:
    """The same for the newest catalog file; empty if the data source has no catalog."""
    newest = source.catalog_file()
    return {source.label(newest): file_fingerprint(newest)} if newest else {}


def optional_file_fingerprint(file: Path | None) -> dict[str, str]:
    """The same for a file that need not exist, such as that of the experiments."""
    return {file.name: file_fingerprint(UPath(file))} if file is not None and file.exists() else {}


def file_fingerprint(file: UPath) -> str:
    """SHA-256 of the content of a file."""
    try:
        with driver_errors(file), file.open("rb") as content:
            return sha256_of(content)
    except OSError as error:
        raise SourceError(f"{file}: can't be read: {error}") from error


def combined_fingerprint(files: Mapping[str, str]) -> str:
    """The fingerprint that `scan` gives to a result of `file_fingerprints`. It shows whether files changed since."""
    return _hash([[name, fingerprint] for name, fingerprint in sorted(files.items())])


def modified_at(file: UPath) -> float | None:
    """Modification time of a file as Unix time in seconds; None if its driver doesn't have it."""
    with driver_errors(file):
        return _modified(_file_info(file))


def changed_at(file: UPath) -> float | None:
    """Like `modified_at`; on a disk, a copy that keeps the modification time (`cp -p`) or a move counts as a change."""
    return modified_at(file) if is_uri(str(file)) else file.stat().st_ctime


def _scan_files(
    source: DataSource,
    files: Sequence[UPath],
    previous: LandedFiles | None,
    is_complete: Callable[[UPath, float | None], bool],
) -> LandedFiles:
    infos, complete = [], True
    for file in files:
        with driver_errors(file):
            try:
                info = _file_info(file)
            except FileNotFoundError:  # removed after it was listed; the next scan lists again
                return LandedFiles("", "", is_complete=False)
            modified = _modified(info)
            tags = [str(info[name]) for name in _TAG_KEYS if info.get(name)]
            infos.append([source.label(file), info.get("size"), modified, *tags])
            complete = complete and is_complete(file, modified)
    metadata_hash = _hash(infos)
    if not complete:
        return LandedFiles("", metadata_hash, is_complete=False)
    if previous and previous.fingerprint and previous.metadata_hash == metadata_hash:
        return previous
    content = {source.label(file): file_fingerprint(file) for file in files}
    return LandedFiles(combined_fingerprint(content), metadata_hash, is_complete=True)


def _completeness_check(pattern: str, now: float, settle_seconds: float) -> Callable[[UPath, float | None], bool]:
    """A function that returns whether a file of the pattern with this modification time is complete."""

    def is_complete(file: UPath, modified: float | None) -> bool:
        if modified is None or modified <= now - max(settle_seconds, 0):
            return True
        # A time in the future comes from another machine's clock, so the age of the file is unknown. The file is
        # complete as soon as there is a marker, or our clock reaches that time.
        markers = [folder / SUCCESS_MARKER for folder in folders_of_one_day(pattern, file)]
        markers += [file.with_name(file.name + ending) for ending in DONE_SUFFIXES]
        return any(_is_valid_marker(marker, modified if modified <= now else None) for marker in markers)

    return is_complete


def _is_valid_marker(marker: UPath, modified: float | None) -> bool:
    """Whether a success marker exists and is not older than the file."""
    try:
        marked = _modified(_file_info(marker))
    except FileNotFoundError:
        return False
    return modified is None or marked is None or marked >= modified


def _file_info(file: UPath) -> Mapping[str, Any]:
    """File metadata from the driver."""
    if is_uri(str(file)):
        info: Mapping[str, Any] = file.fs.info(file.path)
        return info
    stat = file.stat()
    return {"size": stat.st_size, "mtime": stat.st_mtime}


def _modified(info: Mapping[str, Any]) -> float | None:
    time = next((info[name] for name in _TIME_KEYS if info.get(name)), None)
    if isinstance(time, str):
        try:
            time = dt.datetime.fromisoformat(time.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(time, dt.datetime):
        return (time if time.tzinfo else time.replace(tzinfo=dt.timezone.utc)).timestamp()
    if isinstance(time, int | float):
        return time / 1000 if time > 1e11 else float(time)  # WebHDFS uses milliseconds
    return None


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
