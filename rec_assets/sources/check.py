"""Look at a source: read a sample, and tell what was understood and what is wrong. Nothing is raised."""

from __future__ import annotations

import datetime as dt
import itertools
import re
import time
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.explain import explain_lines
from rec_assets.sources.findings import SourceCheck, count, share
from rec_assets.sources.landing import days_with_data, is_in_future
from rec_assets.sources.paths import is_uri, reaching
from rec_assets.sources.reader import read_catalog, read_day, read_export
from rec_assets.sources.sample import SourceSample
from rec_assets.sources.spec import Source
from rec_assets.sources.verdict import explain_cleaning, explain_what_can_be_learned

__all__ = ["SourceCheck", "check_source"]

CLEANED_EXPORT_DAYS = 100
"""Days of an export that cleaning is tried on: it is read whole anyhow, but cleaning goes day by day."""

SAMPLE_DAYS = 5
SAMPLE_BYTES = 5_000_000
MOST_DAYS = 200
"""Of a daily source SAMPLE_DAYS are read, or as many as lie in SAMPLE_BYTES, at most MOST_DAYS: seconds' work."""

SIMILAR_ERRORS = 3
"""Of days that can't be read, so many are told each."""

FAR_AWAY_DAYS = 365
"""Lines of an export further than this from all others, and few, have a wrong time."""


def check_source(source: Source, *, days: int | None = None, now: float | None = None) -> SourceCheck:
    """Look at a source.

    Args:
        source: The source.
        days: How many landed days to read, spread over all of them; default: as many as SAMPLE_BYTES hold. An export is
            read whole.
        now: Seconds since 1970; default: by the clock. What is later is a mistake.
    """
    check = SourceCheck(source.name)
    by_day, is_whole = _read_lines(source, days, time.time() if now is None else now, check)
    catalog = _read_catalog(source, check)
    if not by_day:
        return check
    sample = SourceSample(source, by_day, catalog)
    if sample.lines.empty:
        check.errors.append("the files that were read have no line: land some with lines")
        return check
    explain_lines(sample, check)
    if is_whole:
        explain_what_can_be_learned(sample, check)
    explain_cleaning(sample, _spread(list(by_day), CLEANED_EXPORT_DAYS), check)
    return check


def _read_lines(
    source: Source, days: int | None, now: float, check: SourceCheck
) -> tuple[dict[dt.date, pd.DataFrame], bool]:
    """Raw lines of the sampled days that can be read, or of all days of an export; and whether these are all."""
    path = source.expand(source.purchases.path)
    check.say("Purchases", path)
    read: dict[dt.date, pa.Table] = {}
    unread: list[str] = []
    is_whole = not source.is_daily
    try:
        if not source.files():
            with reaching(path):
                raise SourceError(f"no file matches {path}: {_what_is_there(path)}")
        if source.is_daily:
            check.covers = first, last = days_with_data(source, now)
            found = [day for day in source.landed_days() if first <= day <= last]
            check.say("Purchases", f"{count(len(found), 'day')} with files, {found[0]} to {found[-1]}")
            _explain_gaps(found, check)
            for day in _spread(found, days or _days_to_read(source, found)):
                try:
                    read[day] = read_day(source, day, found[-1])
                except SourceError as error:
                    unread.append(str(error))
            is_whole = len(read) == len(found)
            check.errors += unread[:SIMILAR_ERRORS]
            if len(unread) > SIMILAR_ERRORS:
                check.errors.append(f"{len(unread) - SIMILAR_ERRORS} more of the days that were read can't be used")
            check.say("Purchases", f"read for this: {_listed(list(read), len(found))}")
        else:
            read = read_export(source)
            check.say("Purchases", f"{count(len(source.files()), 'file')} of all days: an export")
            check.say("Purchases", f"{count(len(read), 'day')} with lines, {min(read)} to {max(read)}")
            _explain_bounds(source, {day: len(table) for day, table in read.items()}, now, check)
            read = {day: table for day, table in read.items() if not is_in_future(day, now)}
            begin, end = source.first_day or min(read), source.last_day or max(read)
            read = {day: table for day, table in read.items() if begin <= day <= end}
            if not read:
                raise SourceError(
                    f"no line lies between first_day ({begin}) and last_day ({end}): is `time_format` right? Or paste "
                    "the two lines above"
                )
    except SourceError as error:
        check.errors.append(str(error))
    return {day: table.to_pandas() for day, table in read.items()}, is_whole


def _read_catalog(source: Source, check: SourceCheck) -> pd.DataFrame:
    try:
        catalog = read_catalog(source).to_pandas()
        file = source.catalog_file()
    except SourceError as error:
        check.errors.append(str(error))
        return pd.DataFrame({"product_id": [], "text": [], "excluded": []}, dtype=object)
    if file is not None:
        excluded = int(catalog["excluded"].sum())
        check.say("Catalog", str(file), f"{count(len(catalog), 'product')}, of them excluded: {excluded:,}")
    for product in catalog.head(1).to_dict("records"):
        named = (name for name in ("title", "category", "brand", "price") if pd.notna(product[name]))
        described = [f"{name} {product[name]!r}" for name in named]
        check.say("Catalog", f"for instance {product['product_id']!r}: {', '.join(described)}")
    return catalog


def _days_to_read(source: Source, days: Sequence[dt.date]) -> int:
    """How many of the days SAMPLE_BYTES hold, at least SAMPLE_DAYS; of a URI no sizes are asked for."""
    if is_uri(source.purchases.path):
        return SAMPLE_DAYS
    size = sum(file.stat().st_size for day in days for file in source.files(day))
    return min(max(SAMPLE_DAYS, len(days) * SAMPLE_BYTES // max(size, 1)), MOST_DAYS)


def _listed(read: Sequence[dt.date], found: int) -> str:
    if len(read) == found or not read:
        return "all of them" if read else "none"
    return ", ".join(map(str, read)) if len(read) <= 10 else f"{len(read)} of them, {read[0]} to {read[-1]}"


def _what_is_there(path: str) -> str:
    """What lies where a path without files begins."""
    folder = UPath(re.split(r"[*?\[{]", path)[0] + "x").parent
    missing = folder
    while not folder.is_dir() and folder != folder.parent:
        missing, folder = folder, folder.parent
    if missing != folder or not folder.is_dir():
        return f"there is no {missing}; fix `path`, or land files"
    names = sorted(file.name for file in folder.iterdir())
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{folder} holds {listed or 'nothing'}; fix `path`, or land files"


def _explain_gaps(days: Sequence[dt.date], check: SourceCheck) -> None:
    there = set(days)
    span = [days[0] + dt.timedelta(days=number) for number in range((days[-1] - days[0]).days)]
    closed = [day for day in span if day not in there]
    if not closed:
        return
    weekly = {day.weekday() for day in closed} - {day.weekday() for day in days}
    every = [f"every {dt.date(2018, 1, 1 + weekday):%A}" for weekday in sorted(weekly)]
    single = [str(day) for day in closed if day.weekday() not in weekly]
    more = [f"{len(single) - 5} more"] if len(single) > 5 else []
    check.say(
        "Purchases",
        f"closed on {count(len(closed), 'day')} in between: {', '.join([*every, *single[:5], *more])}",
    )
    before, after = max(itertools.pairwise(days), key=lambda pair: pair[1] - pair[0])
    if (after - before).days > 7:
        check.warnings.append(
            f"no file for {(after - before).days - 1} days between {before} and {after}: was the shop "
            "closed, or did files not land?"
        )


def _explain_bounds(source: Source, lines: dict[dt.date, int], now: float, check: SourceCheck) -> None:
    total = sum(lines.values())
    if future := [day for day in lines if is_in_future(day, now)]:
        check.warnings.append(
            f"{share(sum(lines[day] for day in future), total)} of the lines lie in the future, {future[0]} to "
            f"{future[-1]}: was a clock wrong, or is `time_format`? They will not be read"
        )
    days = [day for day in lines if day not in future]
    if not days:
        raise SourceError("all lines lie in the future: is `time_format` right?")
    few = total // 1000 + 1
    first, last = 0, len(days) - 1
    for here in range(1, len(days)):
        if (days[here] - days[here - 1]).days > FAR_AWAY_DAYS:
            if sum(lines[day] for day in days[:here]) <= few:
                first = here
            elif sum(lines[day] for day in days[here:]) <= few:
                last = min(last, here - 1)
    check.days = days[first], days[last]
    if source.first_day and source.last_day:
        first_declared, last_declared = days_with_data(source, now)
        check.covers = max(first_declared, check.days[0]), min(last_declared, check.days[1])
    else:
        check.errors.append(
            "an export needs `first_day` and `last_day`: paste the two lines above into the YAML file, "
            "before `purchases:`"
        )
    begin, end = source.first_day or check.days[0], source.last_day or check.days[1]
    if outside := sum(lines[day] for day in days if not begin <= day <= end):
        check.warnings.append(
            f"{share(outside, total)} of the lines will not be read: they are from before {begin} or after {end}"
        )


def _spread(days: Sequence[dt.date], number: int) -> list[dt.date]:
    """Up to `number` of the days at equal distances, the first and the last among them."""
    last = len(days) - 1
    return [days[at] for at in sorted({round(n * last / max(number - 1, 1)) for n in range(number)})]
