"""The days that a check reads: those that its step materialized, or the newest one if it runs alone."""

import datetime as dt

import dagster as dg

from rec_assets.resources.lake import Lake, MissingPartition


def checked_days(context: dg.AssetCheckExecutionContext, lake: Lake) -> list[dt.date]:
    """The days of the asset to check, oldest first.

    Raises:
        MissingPartition: the check runs alone, as from the UI, and the table is empty.
    """
    step = context.op_execution_context
    if step.has_partition_key or step.has_partition_key_range:
        return [dt.date.fromisoformat(key) for key in step.partition_keys]
    table = context.check_specs[0].asset_key.path[-1]
    days = lake.table(table).days
    if not days:
        raise MissingPartition(f"{table}: the table is empty in the lake ({lake.root}): materialize {table} first")
    return days[-1:]


def newest_day(context: dg.AssetCheckExecutionContext, lake: Lake) -> dt.date:
    """The newest of `checked_days`, for a check that compares with earlier days or reads whole lists."""
    return checked_days(context, lake)[-1]
