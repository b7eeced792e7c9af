"""Asset group `interactions`: cleaned lines, rejected lines with the reason, and the products."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.assets.ingestion import DAYS_PER_JOB
from rec_assets.assets.line_cleaning import clean_days, clean_events
from rec_assets.assets.plots import as_markdown, bars
from rec_assets.partitions import DayPartitions, partition_days
from rec_assets.recsys.data.cleaning import (
    CLEANED_SCHEMA,
    CLEANING_RULES,
)
from rec_assets.recsys.data.products import build_products
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.data_versions import DayWriter
from rec_assets.resources.lake import Lake
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.spark_files import File
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.catalog import cleaning_settings
from rec_assets.sources.spec import DataSource

GROUP = "interactions"
OWNERS = ["team:data"]

_SCHEMAS = {
    "cleaned_interactions": CLEANED_SCHEMA,
    "rejected_purchases": RAW_SCHEMA.append(pa.field("reasons", pa.string())),
}


def interaction_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    def spec(name: str, description: str, *more: str) -> dg.AssetSpec:
        return dg.AssetSpec(
            name, description=description, group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"},
            deps=["raw_purchase_logs", "catalog_ids", *more], partitions_def=days.partitions,
            code_version=f"4-{source.version}",
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
        cleaning = cleaning_settings(source, lake.table("catalog_ids").pandas())
        writers = {name: DayWriter(context, lake, name, run_days) for name in _SCHEMAS}
        files = {name: lake.day_files(name, schema, settings.staging) for name, schema in _SCHEMAS.items()}
        counts = Counter[str]()
        for first in range(0, len(run_days), DAYS_PER_JOB):
            days = run_days[first : first + DAYS_PER_JOB]
            by_table = clean_days(raw.lazy_rows(session, days, whole_days=True), cleaning, files)
            signs = dict[dt.date, list[File]]()
            if with_events := [day for day in days if events.rows([day])]:
                rows, of_variant = events.lazy_rows(session, with_events, whole_days=True), cleaning.product_of_variant
                signs = clean_events(rows, settings.feedback, of_variant, files["cleaned_interactions"])
            for day in days:
                by_table["cleaned_interactions"][day] += signs.get(day, [])
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

    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"}, code_version="2")
    def products(cleaned_interactions: LazyArrowRows, raw_product_catalog: pd.DataFrame) -> pd.DataFrame:
        """One row per product, from the catalog and the lines: text, category, price, first day seen, content hash."""
        return build_products(cleaned_interactions, raw_product_catalog, settings.staging)

    return [clean_purchases, products]


def _rejected_by_rule(lake: Lake, days: list[dt.date]) -> pd.Series:
    """Rule → number of rejected lines, in descending order. A line counts for each rule that it breaks."""
    reasons = lake.table("rejected_purchases").read(days, columns=["reasons"])["reasons"]
    counts = Counter[str]()
    for each in pc.value_counts(reasons).to_pylist():
        counts.update(dict.fromkeys(each["values"].split(","), each["counts"]))
    return pd.Series(counts, dtype=int).sort_values(ascending=False)
