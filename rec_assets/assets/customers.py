"""Asset group `customers`: what customers bought, returned and looked at, continued from day to day."""

import datetime as dt
from collections.abc import Callable
from contextlib import suppress

import dagster as dg
import pyarrow as pa

from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.data.interactions import LINE_COLUMNS, LINES_OF_FILE, EarlierHistories, files_of_histories
from rec_assets.recsys.data.interactions import customer_histories as histories_in_spark
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.data_versions import Materializations, input_version
from rec_assets.resources.lake import DamagedPartition, Lake, LakeTable
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings

GROUP = "customers"
OWNERS = ["team:data"]
CODE_VERSION = f"3, files of {LINES_OF_FILE} lines"  # histories continue those of an equal number of files


def customer_assets(settings: Settings, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The asset of the group."""

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"}, partitions_def=days.partitions,
        code_version=CODE_VERSION,
        ins={"cleaned_interactions": dg.AssetIn(partition_mapping=days.lookback)},
    )  # fmt: skip
    def customer_histories(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource,
        cleaned_interactions: LakeTable,
    ) -> LazyArrowRows:  # fmt: skip
        """What customers bought, returned and looked at in the lookback: those of an earlier day, and what is new."""
        day, earlier = as_of_day(context), None
        new_days = days.days_of_lookback(day)
        files = files_of_histories(cleaned_interactions.rows(new_days))
        if (known := _newest_histories(context, lake, cleaned_interactions, days, files)) is not None:
            since, read = known
            new_days = [each for each in new_days if each > since]
            earlier = EarlierHistories(since, settings.lookback_days, read)
        context.add_output_metadata({"continues": str(earlier.as_of) if earlier else "nothing"})
        lines = cleaned_interactions.lazy_rows(spark.spark_session, new_days).select(*LINE_COLUMNS)
        return histories_in_spark(lines.to_spark(), day, files, earlier)

    return [customer_histories]


def _newest_histories(
    context: dg.AssetExecutionContext, lake: Lake, lines: LakeTable, days: DayPartitions, files: int
) -> tuple[dt.date, Callable[[int], pa.Table]] | None:
    """The newest earlier day of `customer_histories` that is not stale and has the same number of files."""
    day, table = as_of_day(context), lake.table("customer_histories")
    made = Materializations().of(table.name, context.instance)
    for earlier in reversed(table.days):
        window, record = days.days_of_lookback(earlier), made.get(earlier)
        if (
            earlier in days.days_of_lookback(day)[:-1]
            and record is not None
            and record.code_version == CODE_VERSION
            and record.fingerprint == table.partitions[earlier].fingerprint
            and record.made_from.get(lines.name, {}).get("fingerprint") == input_version(lines, window)["fingerprint"]
            and files_of_histories(lines.rows(window)) == files
        ):
            with suppress(DamagedPartition):
                return (earlier, read) if (read := table.part_reader(earlier)) else None
    return None
