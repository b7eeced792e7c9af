"""Check a data source: read a sample, describe how it was read, and collect errors and warnings. It raises nothing."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from upath import UPath

from rec_assets.sources.catalog import CATALOG_SCHEMA, read_catalog
from rec_assets.sources.check_result import SourceCheck, format_share, pluralize
from rec_assets.sources.errors import SourceError
from rec_assets.sources.extraction import extract_sample
from rec_assets.sources.landing import covered_days, is_in_future
from rec_assets.sources.paths import driver_errors, is_uri
from rec_assets.sources.reader import read_day, read_export
from rec_assets.sources.report_cleaning import report_cleaning, report_training_data
from rec_assets.sources.report_events import report_events
from rec_assets.sources.report_lines import report_lines
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.spec import DataSource

__all__ = ["SourceCheck", "check_source"]

MAX_CLEANED_DAYS = 100
"""Days of an export to clean. The export is read completely, but cleaning takes time per day."""

MIN_SAMPLE_DAYS = 5
MAX_SAMPLE_DAYS = 200
SAMPLE_BYTES = 5_000_000
"""The sample of a daily data source: as many days as fit into SAMPLE_BYTES, within the limits; it takes seconds."""

MAX_DAY_ERRORS = 3
"""Number of unreadable days to show, each with its error."""

OUTLIER_DAYS = 365
"""A few lines of an export that are this many days away from all others have a wrong time."""


def check_source(source: DataSource, *, days: int | None = None, now: float | None = None) -> SourceCheck:
    """Check a data source.

    Args:
        source: The data source.
        days: Number of landed days to read, at equal distances. Default: as many as fit into SAMPLE_BYTES. An export is
            read completely.
        now: Unix time in seconds; later days are a mistake. Default: the current time.
    """
    check = SourceCheck(source.name)
    now = time.time() if now is None else now
    with tempfile.TemporaryDirectory(prefix="check_source_") as folder:
        try:
            source = extract_sample(source, Path(folder), days=days or MIN_SAMPLE_DAYS, now=now)
        except SourceError as error:
            check.errors.append(str(error))
            return check
        return _check(source, days, now, check)


def _check(source: DataSource, days: int | None, now: float, check: SourceCheck) -> SourceCheck:
    by_day, is_complete = _read_lines(source, days, now, check)
    catalog = _read_catalog(source, check)
    if not by_day:
        return check
    sample = SourceSample(source, by_day, catalog)
    if sample.lines.empty:
        check.errors.append(
            "the files of the sample have no lines: check how the shop writes them, and land them again"
        )
        return check
    report_lines(sample, check)
    report_events(sample, check)
    if is_complete:
        report_training_data(sample, check)
    report_cleaning(sample, _evenly_spaced(list(by_day), MAX_CLEANED_DAYS), check)
    return check


def _read_lines(
    source: DataSource, days: int | None, now: float, check: SourceCheck
) -> tuple[dict[dt.date, pd.DataFrame], bool]:
    """Raw lines of the readable days of the sample, or of all days of an export; and whether that is the whole log."""
    path = source.expand(source.purchases.path)
    check.add("Purchases", path)
    lines: dict[dt.date, pa.Table] = {}
    is_complete = not source.is_daily
    try:
        if not source.files():
            with driver_errors(path):
                raise SourceError(f"no file matches {path}: {_folder_content(path)}")
        if source.is_daily:
            check.covered_days = covered_days(source, now)
            landed = source.days_to_read()
            check.add("Purchases", f"{pluralize(len(landed), 'day')} with files, {landed[0]} to {landed[-1]}")
            if source.purchases.extract is None:  # of an extracted log, only some days are here
                _report_gaps(landed, check)
            lines = _read_days(source, _evenly_spaced(landed, days or _sample_days(source, landed)), landed[-1], check)
            is_complete = len(lines) == len(landed) and source.purchases.extract is None
            check.add("Purchases", f"days in this sample: {_list_days(list(lines), len(landed))}")
        else:
            lines = read_export(source)
            check.add("Purchases", f"an export of all days, in {pluralize(len(source.files()), 'file')}")
            check.add("Purchases", f"{pluralize(len(lines), 'day')} with lines, {min(lines)} to {max(lines)}")
            _report_bounds(source, {day: len(table) for day, table in lines.items()}, now, check)
            lines = {day: table for day, table in lines.items() if not is_in_future(day, now)}
            begin, end = source.first_day or min(lines), source.last_day or max(lines)
            lines = {day: table for day, table in lines.items() if begin <= day <= end}
            if not lines:
                raise SourceError(
                    f"no line is between first_day ({begin}) and last_day ({end}): check `time_format`, or use the two "
                    "lines above"
                )
    except SourceError as error:
        check.errors.append(str(error))
    return {day: table.to_pandas() for day, table in lines.items()}, is_complete


def _read_days(
    source: DataSource, days: Sequence[dt.date], newest: dt.date, check: SourceCheck
) -> dict[dt.date, pa.Table]:
    """Raw lines of the readable days; adds the errors of the others."""
    lines: dict[dt.date, pa.Table] = {}
    errors: list[str] = []
    for day in days:
        try:
            lines[day] = read_day(source, day, newest)
        except SourceError as error:
            errors.append(str(error))
    check.errors += errors[:MAX_DAY_ERRORS]
    if len(errors) > MAX_DAY_ERRORS:
        check.errors.append(f"{pluralize(len(errors) - MAX_DAY_ERRORS, 'more day')} of the sample can't be read")
    return lines


def _read_catalog(source: DataSource, check: SourceCheck) -> pd.DataFrame:
    try:
        catalog = read_catalog(source).to_pandas()
        file = source.catalog_file()
    except SourceError as error:
        check.errors.append(str(error))
        return CATALOG_SCHEMA.empty_table().to_pandas()
    if file is not None:
        excluded = int(catalog["excluded"].sum())
        check.add("Catalog", str(file), f"{pluralize(len(catalog), 'product')}, {excluded:,} of them excluded")
        if of_variants := int(catalog["variant_of"].notna().sum()):
            check.add("Catalog", f"variants of other products: {of_variants:,}")
        if source.catalog is not None and source.catalog.columns.stock:
            check.add("Catalog", f"in stock: {format_share(int(catalog['in_stock'].sum()), len(catalog))}")
    for product in catalog.head(1).to_dict("records"):
        filled = (name for name in ("title", "category", "brand", "price") if pd.notna(product[name]))
        values = [f"{name} {product[name]!r}" for name in filled]
        check.add("Catalog", f"example: {product['product_id']!r}: {', '.join(values)}")
    return catalog


def _sample_days(source: DataSource, days: Sequence[dt.date]) -> int:
    """Number of days to read. For a URI it is the minimum, because asking for file sizes takes long."""
    if is_uri(source.purchases.path):
        return MIN_SAMPLE_DAYS
    size = sum(file.stat().st_size for day in days for file in source.files(day))
    return min(max(MIN_SAMPLE_DAYS, len(days) * SAMPLE_BYTES // max(size, 1)), MAX_SAMPLE_DAYS)


def _list_days(days: Sequence[dt.date], landed: int) -> str:
    if len(days) == landed or not days:
        return "all" if days else "none"
    return ", ".join(map(str, days)) if len(days) <= 10 else f"{len(days)} days, {days[0]} to {days[-1]}"


def _folder_content(path: str) -> str:
    """The files in the folder where a path begins."""
    folder = UPath(re.split(r"[*?\[{]", path)[0] + "x").parent
    missing = folder
    while not folder.is_dir() and folder != folder.parent:
        missing, folder = folder, folder.parent
    if missing != folder or not folder.is_dir():
        return f"the folder {missing} does not exist; fix `path`, or land files"
    names = sorted(file.name for file in folder.iterdir())
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the folder {folder} has {listed or 'no files'}; fix `path`, or land files"


def _report_gaps(days: Sequence[dt.date], check: SourceCheck) -> None:
    span = [days[0] + dt.timedelta(days=number) for number in range((days[-1] - days[0]).days)]
    closed = sorted({*span} - {*days})
    if not closed:
        return
    weekly = {day.weekday() for day in closed} - {day.weekday() for day in days}
    weekdays = [f"every {dt.date(2018, 1, 1 + weekday):%A}" for weekday in sorted(weekly)]  # 2018-01-01 is a Monday
    single = [str(day) for day in closed if day.weekday() not in weekly]
    more = [f"{len(single) - 5} more"] if len(single) > 5 else []
    shown = ", ".join([*weekdays, *single[:5], *more])
    check.add("Purchases", f"{pluralize(len(closed), 'day')} without files (shop closed): {shown}")
    before, after = max(itertools.pairwise(days), key=lambda pair: pair[1] - pair[0])
    if (gap := (after - before).days - 1) > 6:
        problem = f"no file for {gap} days between {before} and {after}"
        check.warnings.append(f"{problem}: was the shop closed, or are files missing?")


def _report_bounds(source: DataSource, lines: dict[dt.date, int], now: float, check: SourceCheck) -> None:
    total = sum(lines.values())
    if future := [day for day in lines if is_in_future(day, now)]:
        check.warnings.append(
            f"{format_share(sum(lines[day] for day in future), total)} of the lines are in the future, {future[0]} to "
            f"{future[-1]}, and are not read: check `time_format`; if a clock was wrong, do nothing"
        )
    days = [day for day in lines if day not in future]
    if not days:
        raise SourceError("all lines are in the future: check `time_format`")
    few = total // 1000 + 1
    first, last = 0, len(days) - 1
    for here in range(1, len(days)):
        if (days[here] - days[here - 1]).days > OUTLIER_DAYS:
            if sum(lines[day] for day in days[:here]) <= few:
                first = here
            elif sum(lines[day] for day in days[here:]) <= few:
                last = min(last, here - 1)
    check.export_days = days[first], days[last]
    if source.first_day and source.last_day:
        first_declared, last_declared = covered_days(source, now)
        check.covered_days = max(first_declared, days[first]), min(last_declared, days[last])
    else:
        check.errors.append(
            "an export needs `first_day` and `last_day`: paste the two lines above into the YAML file, before "
            "`purchases:`"
        )
    begin, end = source.first_day or days[first], source.last_day or days[last]
    if outside := sum(lines[day] for day in days if not begin <= day <= end):
        check.warnings.append(
            f"{format_share(outside, total)} of the lines are before {begin} or after {end}, and are not read"
        )


def _evenly_spaced(days: Sequence[dt.date], number: int) -> list[dt.date]:
    """Up to `number` of the days at equal distances, with the first and the last."""
    last = len(days) - 1
    return [days[at] for at in sorted({round(n * last / max(number - 1, 1)) for n in range(number)})]
