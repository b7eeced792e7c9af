"""`rec-assets diff`: the rows of a partition that differ between two versions of its table.

Dagster: it compares the metadata of materializations, not rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
from tabulate import tabulate

from rec_assets.resources.lake import DamagedPartition, Day, Lake, LakeTable, MissingPartition

MAX_SHOWN = 40
"""Rows that are printed."""

KEYS = ("customer_id", "line_id", "event_id", "product_id", "list", "kind", "id", "neighbor_id", "rank", "slice",
        "metric", "k", "model", "kpi", "name", "experiment", "variant")  # fmt: skip
"""Columns to sort by, in the tables that have them, so that the old and the new row of a key are next to each other."""

_SIGN, _NUMBER = " ", "#"


def describe_diff(lake: Lake, name: str, day: Day, from_version: int | None = None) -> Iterator[str]:
    """What changed in a partition, as lines of text.

    Args:
        lake, name, day: The partition; the day is None for a table without days.
        from_version: Version to compare the newest one with; None for the newest in which the partition differs.

    Raises:
        MissingPartition: the table or the version does not exist, or neither version has the day.
    """
    newest = lake.table(name)
    if newest.version is None:
        raise MissingPartition(f"the lake ({lake.root}) has no table {name!r}: it has {', '.join(lake.tables())}")
    if day is None and newest.days:
        raise MissingPartition(f"{name} is partitioned by day: name one, such as {newest.days[-1]}")
    if day is not None and None in newest.partitions:
        raise MissingPartition(f"{name} is not partitioned by day: leave out {day}")
    earlier = _version_before(newest, day) if from_version is None else lake.at({name: from_version}).table(name)
    if day not in newest.partitions and day not in earlier.partitions:
        newest.read([day] if day else None)  # raises, and names what is missing
    before, after = _rows(earlier, day), _rows(newest, day)
    before, after = (rows if len(rows.columns) else other.head(0) for rows, other in ((before, after), (after, before)))
    columns = [column for column in after.columns if column in before.columns]
    both = _numbered(before, columns).merge(_numbered(after, columns), how="outer", indicator=_SIGN)
    changed = both[both[_SIGN] != "both"].astype({_SIGN: str}).replace({_SIGN: {"left_only": "-", "right_only": "+"}})
    changed = changed.sort_values([*(key for key in KEYS if key in columns), _SIGN], ascending=True, kind="stable")
    yield (
        f"{name}{f' of {day}' if day else ''}, version {earlier.version} to {newest.version}: {len(before)} rows "
        f"before, {len(after)} now; {sum(changed[_SIGN] == '-')} removed (-), {sum(changed[_SIGN] == '+')} added (+)"
    )
    if other := sorted(set(before.columns) ^ set(after.columns)):
        yield f"only in one version: {', '.join(other)}"
    if len(changed):
        shown = changed[[_SIGN, *columns]].head(MAX_SHOWN).dropna(axis="columns", how="all")
        yield tabulate(shown.to_dict("records"), headers="keys", missingval="")
    if len(changed) > MAX_SHOWN:
        yield f"… and {len(changed) - MAX_SHOWN} more"


def _version_before(newest: LakeTable, day: Day) -> LakeTable:
    """The newest version with another content of a partition; the oldest that is there if none has."""
    table = newest
    for version in reversed(range(newest.version or 0)):
        try:
            table = newest.lake.at({newest.name: version}).table(newest.name)
        except MissingPartition:
            break
        if table.partitions.get(day) != newest.partitions.get(day):
            break
    return table


def _rows(table: LakeTable, day: Day) -> pd.DataFrame:
    """The rows of a partition, with lists and bytes as text; none if it does not exist."""
    if day not in table.partitions:
        return pd.DataFrame()
    try:
        rows = table.read([day]).drop_columns(["date"]) if day else table.read()
    except DamagedPartition as error:
        raise MissingPartition(f"version {table.version} of {table.name} can't be read any more: {error}") from error
    as_text = [field.name for field in rows.schema if pa.types.is_nested(field.type) or pa.types.is_binary(field.type)]
    frame: pd.DataFrame = rows.to_pandas()
    return frame.assign(**{name: frame[name].astype(str) for name in as_text})


def _numbered(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rows with a number that tells equal ones apart."""
    rows = rows[columns]
    return rows.assign(**{_NUMBER: rows.groupby(columns, dropna=False).cumcount()})
