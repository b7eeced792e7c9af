"""Read the files of the purchase log or of an event log in Spark's tasks, which also write the rows of each day.

A task streams one file, or one part of a large file, in batches. A file that can't be read affects its day alone.
"""

from __future__ import annotations

import datetime as dt
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import fsspec
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from upath import UPath

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.day_files import DayFiles, write_lines
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.spark_files import File
from rec_assets.sources.batches import Split
from rec_assets.sources.errors import SourceError
from rec_assets.sources.event_log import read_events
from rec_assets.sources.reader import files_of_day, files_of_export, newest_day_of_export, purchase_splits, read_file
from rec_assets.sources.spec import DataSource


class _Part(NamedTuple):
    """What one task reads: a part of a file, and the number of the file that it writes. An export has no day."""

    day: dt.date
    number: int
    path: UPath
    split: Split


@dataclass
class ReadDays:
    """Day → the files of its rows, or the error of a day that can't be read."""

    written: dict[dt.date, list[File]] = field(default_factory=dict)
    failed: dict[dt.date, str] = field(default_factory=dict)


def read_days(
    session: SparkSession, source: DataSource, days: Sequence[dt.date], files: DayFiles, forgotten: ForgottenFile
) -> ReadDays:
    """Read days of a purchase log with daily files. A day without lines has no files."""
    parts, result = list[_Part](), ReadDays()
    newest = max(source.landed_days(), default=None)
    for day in days:
        try:
            parts += _parts(source, files_of_day(source, day, newest), day)
        except SourceError as error:
            result.failed[day] = str(error)
    written, failed = _read(session, source, parts, files, forgotten)
    return _by_day(result, days, written, failed)


def read_event_days(
    session: SparkSession, source: DataSource, days: Sequence[dt.date], files: DayFiles, forgotten: ForgottenFile,
    *, first_number: int,
) -> ReadDays:  # fmt: skip
    """The same for an event log. A day without a file has no events. Numbers of files start with `first_number`."""
    parts, result = list[_Part](), ReadDays()
    for day in days:
        try:
            parts += _parts(source, source.files(day), day)
        except SourceError as error:
            result.failed[day] = str(error)
    parts = [part._replace(number=first_number + part.number) for part in parts]
    written, failed = _read(session, source, parts, files, forgotten, read_events)
    return _by_day(result, days, written, failed)


def _by_day(
    result: ReadDays, days: Sequence[dt.date], written: Sequence[tuple[_Part, File]],
    failed: Sequence[tuple[_Part, str]],
) -> ReadDays:  # fmt: skip
    """Sort what was written and what failed by day."""
    result.failed |= {part.day: error for part, error in reversed(failed)}
    for day in days:
        if day not in result.failed:
            result.written[day] = [file for part, file in written if part.day == day and file.rows]
    return result


def read_export(
    session: SparkSession, source: DataSource, days: Sequence[dt.date], files: DayFiles, forgotten: ForgottenFile,
    disk: Path, *, events: bool = False,
) -> ReadDays:  # fmt: skip
    """Read days of an export, whose files have lines of any days. See `sources.reader.read_export`.

    With `events`, it is an event log, whose events without a time were left out.

    Raises:
        SourceError: a file can't be read.
    """
    landed = files_of_export(source)
    folder = disk / uuid.uuid4().hex
    try:
        of_all = DayFiles(files.schema, str(folder), fsspec.filesystem("file", auto_mkdir=True))
        read, time = (read_events, "time") if events else (read_file, "event_time")
        written, failed = _read(session, source, _parts(source, landed, dt.date.min), of_all, ForgottenFile(), read)
        if failed:
            raise SourceError(failed[0][1])
        paths = [f"{folder}/{file.path}" for _, file in written]
        lines = session.read.parquet(*paths).select(*files.schema.names)
        local_day = F.to_date(F.from_utc_timestamp(time, source.time_zone))
        counts = dict(map(tuple, lines.groupBy(local_day).count().collect()))
        newest = max(days) if events else newest_day_of_export(source, landed, counts)
        lines = lines.withColumn("date", F.coalesce(local_day, F.lit(newest))).where(F.col("date").isin(list(days)))
        counts[newest] = counts.get(newest, 0) + counts.pop(None, 0)
        by_day = write_lines(_without_forgotten(lines, forgotten), counts, files)
        return ReadDays({day: by_day.get(day, []) for day in days})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parts(source: DataSource, files: Sequence[UPath], day: dt.date) -> list[_Part]:
    splits = [(path, split) for path in files for split in purchase_splits(source, path)]
    return [_Part(day, number, path, split) for number, (path, split) in enumerate(splits)]


def _read(
    session: SparkSession, source: DataSource, parts: Sequence[_Part], files: DayFiles, forgotten: ForgottenFile,
    read_part: Callable[[DataSource, UPath, dt.date | None, Split], Iterator[pa.Table]] = read_file,
) -> tuple[list[tuple[_Part, File]], list[tuple[_Part, str]]]:  # fmt: skip
    """Read parts in tasks. Returns what was written, and the errors, in the order of the parts."""
    if not parts:
        return [], []
    is_export = not source.is_daily

    def read(numbers: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for number in (number for rows in numbers for number in rows.column(0).to_pylist()):
            part = parts[number]
            try:
                tables = read_part(source, part.path, None if is_export else part.day, part.split)
                file = files.write((forgotten.without(rows, part.day) for rows in tables), part.day, part.number)
                yield pa.Table.from_pylist([{"part": number, "error": "", **file._asdict()}])
            except SourceError as error:
                yield pa.Table.from_pylist([{"part": number, "error": str(error), **File("", 0, 0)._asdict()}])

    tasks = min(len(parts), int(session.conf.get("spark.sql.shuffle.partitions") or 1))
    numbers = LazyArrowRows.from_frame(session.range(0, len(parts), 1, tasks))
    rows = numbers.then(read, "part long, error string, path string, bytes long, rows long").to_spark().collect()
    written, failed = [], []
    for number, error, *file in sorted(rows):
        (failed.append((parts[number], error)) if error else written.append((parts[number], File(*file))))
    return written, failed


def _without_forgotten(lines: DataFrame, forgotten: ForgottenFile) -> DataFrame:
    """`ForgottenFile.without` for lines of any days."""
    if not forgotten.forgotten:
        return lines
    known = lines.sparkSession.createDataFrame(list(forgotten.forgotten.items()), "digest string, until date")
    is_forgotten = (F.sha2("customer_id", 256) == known["digest"]) & (lines["date"] <= known["until"])
    return lines.join(F.broadcast(known), is_forgotten, "left_anti")
