"""Which days a check looks at: those its step materialized, or the newest in the lake where it is evaluated alone."""

import datetime as dt

from dagster import AssetCheckExecutionContext

from rec_assets.resources.lake import Lake, MissingPartition


def checked_days(context: AssetCheckExecutionContext, lake: Lake) -> list[dt.date]:
    """The days of the check's asset that it looks at, oldest first.

    Raises:
        MissingPartition: the check is evaluated alone, as a button in the UI does, before there is any day.
    """
    step = context.op_execution_context
    if step.has_partition_key or step.has_partition_key_range:
        return [dt.date.fromisoformat(key) for key in step.partition_keys]
    table = context.check_specs[0].asset_key.path[-1]
    days = lake.days(table)
    if not days:
        raise MissingPartition(f"{table}: no day is in the lake ({lake.root}): materialize {table} first")
    return days[-1:]


def as_of(context: AssetCheckExecutionContext, lake: Lake) -> dt.date:
    """The newest of them."""
    return checked_days(context, lake)[-1]
