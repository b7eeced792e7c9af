"""Asset group `interactions`: cleaned lines, rejected lines with the reason, products, and customer histories."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.assets.ingestion import DAYS_PER_JOB
from rec_assets.assets.line_cleaning import clean_days, write_clicks
from rec_assets.assets.plots import as_markdown, bars
from rec_assets.partitions import DayPartitions, as_of_day, partition_days
from rec_assets.recsys.data.cleaning import (
    CLEANED_SCHEMA,
    CLEANING_RULES,
    CleaningSettings,
)
from rec_assets.recsys.data.interactions import LINE_COLUMNS, EarlierHistories, files_of_histories
from rec_assets.recsys.data.interactions import customer_histories as histories_in_spark
from rec_assets.recsys.data.products import build_products
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.data_versions import DayWriter, Materializations, input_version
from rec_assets.resources.lake import DamagedPartition, Lake, LakeTable
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource

GROUP = "interactions"
OWNERS = ["team:data"]
HISTORIES_VERSION = "1"

_SCHEMAS = {
    "cleaned_interactions": CLEANED_SCHEMA,
    "rejected_purchases": RAW_SCHEMA.append(pa.field("reasons", pa.string())),
}


def interaction_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    def spec(name: str, description: str, *more: str) -> dg.AssetSpec:
        return dg.AssetSpec(
            name, description=description, group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"},
            deps=["raw_purchase_logs", "raw_product_catalog", *more], partitions_def=days.partitions,
            code_version=f"2-{source.version}",
        )  # fmt: skip

    @dg.multi_asset(
        specs=[
            spec(
                "cleaned_interactions",
                "Valid purchase and return lines, one row per order line, and weighted clicks and carts.",
                "raw_feedback_events",
            ),
            spec("rejected_purchases", "Lines that a cleaning rule rejected, unchanged, with the names of the rules."),
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def clean_purchases(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource,
        tracking: TrackingResource,
    ) -> Iterator[dg.MaterializeResult[Any]]:  # fmt: skip
        run_days, session = partition_days(context), spark.spark_session
        raw, events = lake.table("raw_purchase_logs"), lake.table("raw_feedback_events")
        events.require(run_days)
        catalog = lake.table("raw_product_catalog").pandas(columns=["product_id", "excluded"])
        cleaning_settings = CleaningSettings(
            time_zone=source.time_zone,
            has_price=source.has_price,
            excluded_products=frozenset(catalog.loc[catalog["excluded"], "product_id"]),
            bulk_quantity=source.purchases.bulk_quantity,
        )
        writers = {name: DayWriter(context, lake, name, run_days) for name in _SCHEMAS}
        files = {name: lake.day_files(name, schema, settings.staging) for name, schema in _SCHEMAS.items()}
        counts = Counter[str]()
        for first in range(0, len(run_days), DAYS_PER_JOB):
            days = run_days[first : first + DAYS_PER_JOB]
            by_table = clean_days(raw.lazy_rows(session, days, whole_days=True), cleaning_settings, files)
            for day in days:
                cleaned = by_table["cleaned_interactions"][day]
                cleaned += write_clicks(
                    events, day, settings.feedback, files["cleaned_interactions"], number=len(cleaned)
                )
                for name, by_day in by_table.items():
                    counts[name] += writers[name].add_files(files[name], day, by_day[day])
            context.log.info(f"cleaned {first + len(days)} of {len(run_days)} days")
        tracking.mlflow.log_metrics({f"{name}_lines": rows for name, rows in counts.items()})
        yield writers["cleaned_interactions"].result(lines=counts["cleaned_interactions"])
        writers["rejected_purchases"].commit()
        by_rule = _rejected_by_rule(lake, run_days)
        listing = "\n".join(f"- **{rule.name}**: {rule.reason}" for rule in CLEANING_RULES.values())
        yield writers["rejected_purchases"].result(
            lines=counts["rejected_purchases"],
            rules=dg.MetadataValue.md(listing),
            rejected_by_rule=dg.MetadataValue.json({str(rule): int(count) for rule, count in by_rule.items()}),
            **({"plot": as_markdown(bars(by_rule, "Rejected lines by rule", "lines"))} if len(by_rule) else {}),
        )

    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"}, code_version="1")
    def products(cleaned_interactions: LazyArrowRows, raw_product_catalog: pd.DataFrame) -> pd.DataFrame:
        """One row per product, from the catalog and the lines: text, category, price, first day seen, content hash."""
        return build_products(cleaned_interactions, raw_product_catalog, settings.staging)

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"}, partitions_def=days.partitions,
        code_version=HISTORIES_VERSION,
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

    return [clean_purchases, products, customer_histories]


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
            and record.code_version == HISTORIES_VERSION
            and record.fingerprint == table.partitions[earlier].fingerprint
            and record.made_from[lines.name]["fingerprint"] == input_version(lines, window)["fingerprint"]
            and files_of_histories(lines.rows(window)) == files
        ):
            with suppress(DamagedPartition):
                return (earlier, read) if (read := table.part_reader(earlier)) else None
    return None


def _rejected_by_rule(lake: Lake, days: list[dt.date]) -> pd.Series:
    """Rule → number of rejected lines, in descending order. A line counts for each rule that it breaks."""
    reasons = lake.table("rejected_purchases").read(days, columns=["reasons"])["reasons"]
    counts = Counter[str]()
    for each in pc.value_counts(reasons).to_pylist():
        counts.update(dict.fromkeys(each["values"].split(","), each["counts"]))
    return pd.Series(counts, dtype=int).sort_values(ascending=False)
