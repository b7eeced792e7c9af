"""Clean raw lines in Spark's tasks, which also write the cleaned and the rejected lines of each day."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd
import pyarrow as pa

from rec_assets.recsys.data.cleaning import CleanedDay, clean_day, signs_of_interest
from rec_assets.recsys.data.cleaning_rules import CleaningSettings
from rec_assets.recsys.data.large_days import Spool, clean_large_day
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.day_files import DayFiles, runs
from rec_assets.resources.spark_files import File
from rec_assets.settings import FeedbackSettings

MAX_LINES = 2**17
"""Lines of a day that are cleaned at once. A larger day is cleaned in parts of this size."""

EVENTS_FILE = 1
"""Number of the file with a day's signs of interest; file 0 has its lines."""

_DAY = ["date"]


def clean_days(
    raw: LazyArrowRows, settings: CleaningSettings, files: Mapping[str, DayFiles]
) -> dict[str, dict[dt.date, list[File]]]:
    """Clean the raw lines of days; each day is written to one file of each table.

    Args:
        raw: RAW_SCHEMA with `date`; a day is in one task, and its rows are together, in order.
        settings: Settings of the data source.
        files: Where to write `cleaned_interactions` and `rejected_purchases`.

    Returns:
        Table → day → files; none for a table that gets no line of the day.
    """

    def clean(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for (day,), run in itertools.groupby(runs(tables, _DAY), lambda piece: piece[0]):
            rejected = Spool()

            def cleaned(raw: Iterator[pa.Table], day: dt.date = day, rejected: Spool = rejected) -> Iterator[pa.Table]:
                for result in _clean(raw, day, settings):
                    rejected.add(_as_table(result.rejected, files["rejected_purchases"]))
                    yield _as_table(result.cleaned, files["cleaned_interactions"])

            parts = _parts(table.drop_columns(_DAY) for _, table in run)
            for name, written in (("cleaned_interactions", cleaned(parts)), ("rejected_purchases", rejected)):
                file = files[name].write(written, day, 0)
                yield pa.Table.from_pylist([{"table": name, "date": day, **file._asdict()}])

    found = raw.then(clean, "table string, date date, path string, bytes long, rows long").to_spark().collect()
    by_table: dict[str, dict[dt.date, list[File]]] = {name: defaultdict(list) for name in files}
    for name, day, *file in found:
        by_table[name][day] += [File(*file)] if File(*file).rows else []
    return by_table


def clean_events(
    events: LazyArrowRows, feedback: FeedbackSettings, product_of_variant: Mapping[str, str], files: DayFiles
) -> dict[dt.date, list[File]]:
    """Write the signs of interest of days to `cleaned_interactions`: one file for a day, none for a day without any.

    Args:
        events: `raw_feedback_events` with `date`; a day is in one task, and its rows are together.
        feedback, product_of_variant: See `signs_of_interest`.
        files: Where to write.
    """

    def clean(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for (day,), run in itertools.groupby(runs(tables, _DAY), lambda piece: piece[0]):
            rows = pa.concat_tables(table for _, table in run).to_pandas()
            lines = signs_of_interest(rows, feedback.weights, feedback.max_products_per_day, product_of_variant)
            if len(lines):
                file = files.write([_as_table(lines, files)], day, EVENTS_FILE)
                yield pa.Table.from_pylist([{"date": day, **file._asdict()}])

    found = events.then(clean, "date date, path string, bytes long, rows long").to_spark().collect()
    return {day: [File(*file)] for day, *file in found}


def _clean(parts: Iterator[pa.Table], day: dt.date, settings: CleaningSettings) -> Iterable[CleanedDay]:
    first, *second = itertools.islice(parts, 2)
    if not second:
        return [clean_day(first.to_pandas(), day, settings)]
    return clean_large_day(itertools.chain([first], second, parts), day, settings)


def _parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of MAX_LINES rows, and the rest."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) > MAX_LINES:
            whole = pa.concat_tables(held)
            yield whole.slice(0, MAX_LINES)
            held = [whole.slice(MAX_LINES)]
    if held:
        yield pa.concat_tables(held)


def _as_table(frame: pd.DataFrame, files: DayFiles) -> pa.Table:
    return pa.Table.from_pandas(frame, files.schema, preserve_index=False)
