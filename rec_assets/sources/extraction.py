"""Land the days of logs that are a SQL query or a Delta table: one Parquet file a day, which the pipeline then reads.

A day is extracted once it has ended, in the shop's time zone. The newest days are extracted again, because orders may
come late or change. A file is replaced only if its rows differ.
"""

from __future__ import annotations

import datetime as dt
import os
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import sqlalchemy as sa

from rec_assets.files import one_line
from rec_assets.sources.errors import SourceError
from rec_assets.sources.paths import path_on_day
from rec_assets.sources.spec import DataSource
from rec_assets.sources.spec_fields import DeltaSource, FileFormat, SqlQuery
from rec_assets.sources.times import local_days, parse_times
from rec_assets.sql_urls import shown_url, without_secrets

L = TypeVar("L", bound=FileFormat)

_ROWS = 50_000
"""Rows of a query to fetch at a time."""

_ONE_DAY = dt.timedelta(days=1)

_LATE_DAYS = 31
"""Days for which a day without rows is extracted again at each run: the database may have been late."""


@dataclass(frozen=True)
class _Log:
    """A log to extract: a data source whose purchases are this log."""

    name: str
    source: DataSource

    def file(self, day: dt.date) -> Path:
        return Path(path_on_day(self.source.expand(self.source.purchases.path), day))

    def mark(self, day: dt.date) -> Path:
        """A file that says that the day has no rows."""
        return self.file(day).with_name(f".{day}.empty")


def extract_days(source: DataSource, *, now: float, log: Callable[[str], None] = lambda _: None) -> list[dt.date]:
    """Extract the missing days of each log up to yesterday, and the newest days again.

    Args:
        source: The data source. Logs that are files are left alone.
        now: Unix time in seconds.
        log: Gets a line for each log.

    Returns:
        The days whose files are new or changed.

    Raises:
        SourceError: the database or table can't be read, or the query fails. The days before are landed.
    """
    changed = set[dt.date]()
    for each in _logs(source):
        days = list(_days_to_extract(each, now))
        done = [day for day in days if _extract(each, day)]
        log(f"extracted {len(days)} days of the {each.name}, {len(done)} of them new or changed")
        changed.update(done)
    return sorted(changed)


def extract_sample(source: DataSource, folder: Path, *, days: int, now: float) -> DataSource:
    """The data source with some days of its extracted logs in a temporary folder; itself if all logs are files.

    They are the first day and the newest ones.

    Raises:
        SourceError: as `extract_days`.
    """
    if not _logs(source):
        return source

    def moved(log: L, name: str) -> L:
        return log.model_copy(update={"path": f"{folder}/{name}/{{date:%Y-%m-%d}}.parquet"}) if log.extract else log

    events = [moved(log, f"events_{number}") for number, log in enumerate(source.events)]
    sample = source.model_copy(update={"purchases": moved(source.purchases, "purchases"), "events": events})
    for each in _logs(sample):
        every = [*_days_to_extract(each, now)]
        for day in sorted({*every[:1], *every[1 - days :]}):
            _extract(each, day)
    return sample


def _logs(source: DataSource) -> list[_Log]:
    logs = [_Log("purchases", source), *(_Log("events", each) for each in source.event_sources)]
    return [each for each in logs if each.source.purchases.extract is not None]


def _days_to_extract(log: _Log, now: float) -> Iterator[dt.date]:
    source, extract = log.source, log.source.purchases.extract
    assert source.first_day is not None and extract is not None
    today = dt.datetime.fromtimestamp(now, zoneinfo.ZoneInfo(source.time_zone)).date()
    last = min(source.last_day or dt.date.max, today - _ONE_DAY)
    for number in range((last - source.first_day).days + 1):
        day = source.first_day + dt.timedelta(days=number)
        age = (last - day).days
        is_known = log.file(day).exists() or (age >= _LATE_DAYS and log.mark(day).exists())
        if age < extract.refresh_days or not is_known:
            yield day


def _extract(log: _Log, day: dt.date) -> bool:
    """Land a day; returns whether its file is new or changed.

    A day without rows has no file: the shop was closed. It has a mark, so that it is not extracted again forever.
    """
    extract, file = log.source.purchases.extract, log.file(day)
    assert extract is not None
    rows = _query(extract, day) if isinstance(extract, SqlQuery) else _delta(extract, day, log.source)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not len(rows):
        was_there = file.exists()
        log.mark(day).touch()
        file.unlink(missing_ok=True)
        return was_there
    log.mark(day).unlink(missing_ok=True)
    if file.exists() and _has_rows(file, rows):
        return False
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        pq.write_table(rows, part)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return True


def _has_rows(file: Path, rows: pa.Table) -> bool:
    """Whether a file has the same rows. A database without ORDER BY may return them in another order."""
    stored = pq.read_table(file)
    return stored.schema == rows.schema and _sorted(stored).equals(_sorted(rows))


def _sorted(rows: pa.Table) -> pa.Table:
    """The rows sorted by all columns that can be sorted."""
    keys = [(field.name, "ascending") for field in rows.schema if _can_be_sorted(field.type)]
    return rows.sort_by(keys) if keys else rows


def _can_be_sorted(kind: pa.DataType) -> bool:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_decimal(kind)
    return is_text or (pa.types.is_primitive(kind) and not pa.types.is_float16(kind))


def _query(query: SqlQuery, day: dt.date) -> pa.Table:
    shown = shown_url(query.address)
    parameters = {"day": day, "next_day": day + _ONE_DAY}
    named = [name for name in parameters if f":{name}" in query.sql]
    statement = sa.text(query.sql).bindparams(*(sa.bindparam(name, type_=sa.Date) for name in named))
    try:
        engine = sa.create_engine(query.address)
        try:
            with engine.connect() as connection:
                found = connection.execute(statement, {name: parameters[name] for name in named})
                names, rows = list(found.keys()), [tuple(row) for part in found.partitions(_ROWS) for row in part]
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        problem = without_secrets(one_line(str(getattr(error, "orig", None) or error)), query.address)
        raise SourceError(f"{shown}: the query of {day} failed: {problem}: fix `sql`, or the database") from None
    if len(set(names)) < len(names):
        raise SourceError(f"{shown}: the query has two columns of the same name ({', '.join(names)}): rename one")
    return pa.table({name: _as_column([row[place] for row in rows]) for place, name in enumerate(names)})


def _as_column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):  # such as mixed types
        return pa.array([None if value is None else str(value) for value in values])


def _delta(table: DeltaSource, day: dt.date, source: DataSource) -> pa.Table:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    path = source.expand(table.delta)
    try:
        dataset = DeltaTable(path).to_pyarrow_dataset()
    except (DeltaError, OSError) as error:
        raise SourceError(
            f"{path}: can't be read as a Delta table: {one_line(str(error))[:300]}: fix `delta`"
        ) from None
    if table.day_column not in dataset.schema.names:
        raise SourceError(
            f"{path}: column {table.day_column!r} is missing; the table has {', '.join(dataset.schema.names)}: fix "
            "`day_column`"
        )
    column, kind = ds.field(table.day_column), dataset.schema.field(table.day_column).type
    if pa.types.is_date(kind):
        bounds: tuple[Any, Any] = day, day + _ONE_DAY
    elif pa.types.is_timestamp(kind):
        bounds = _as_time(day, kind, source), _as_time(day + _ONE_DAY, kind, source)
    else:  # an offset, or UTC, can move a text to the day before or after
        bounds = str(day - _ONE_DAY), str(day + 2 * _ONE_DAY)
    rows = dataset.to_table(filter=(column >= bounds[0]) & (column < bounds[1]))
    if isinstance(bounds[0], str):
        text = pd.Series(rows[table.day_column].to_pylist(), dtype=str).str.strip()
        times = local_days(parse_times(text, "iso8601", source), source.time_zone)
        is_plain = times.isna() | (text.str.len() == len(str(day)))  # a day, or unreadable, which cleaning says
        is_day = (times == pd.Timestamp(day)).where(~is_plain, text.str.startswith(str(day)))
        rows = rows.filter(pa.array(is_day, pa.bool_()))
    return _sorted(rows)  # the order of the table's files is not that of a day


def _as_time(day: dt.date, kind: pa.TimestampType, source: DataSource) -> pa.Scalar:
    """The begin of a day of the shop as a value of a column of times."""
    begin = dt.datetime.combine(day, dt.time(), zoneinfo.ZoneInfo(source.time_zone))
    if kind.tz is None:
        in_utc = source.purchases.naive_times == "utc"
        begin = (begin.astimezone(dt.timezone.utc) if in_utc else begin).replace(tzinfo=None)
    return pa.scalar(begin).cast(kind)
