"""Which days a check looks at: those its step materialised."""

import datetime as dt

from dagster import AssetCheckExecutionContext


def checked_days(context: AssetCheckExecutionContext) -> list[dt.date]:
    """The days of the step, oldest first."""
    return [dt.date.fromisoformat(key) for key in context.op_execution_context.partition_keys]


def as_of(context: AssetCheckExecutionContext) -> dt.date:
    """The newest of them."""
    return checked_days(context)[-1]
