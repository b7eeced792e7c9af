"""Asset group `interactions`: cleaned lines, rejected lines with the reason, and the products."""

from collections import Counter

import dagster as dg
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.plots import as_markdown, bars
from rec_assets.partitions import DayPartitions, partition_days
from rec_assets.recsys.data.cleaning import (
    CLEANED_SCHEMA,
    CLEANING_RULES,
    CleaningSettings,
    clean_day,
    signs_of_interest,
)
from rec_assets.recsys.data.products import build_products
from rec_assets.resources.data_versions import DayWriter
from rec_assets.resources.lake import Lake
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.reader import RAW_SCHEMA
from rec_assets.sources.spec import DataSource

GROUP = "interactions"
OWNERS = ["team:data"]

REJECTED_SCHEMA = RAW_SCHEMA.append(pa.field("reasons", pa.string()))


def interaction_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    def spec(name: str, description: str, *more: str) -> dg.AssetSpec:
        return dg.AssetSpec(
            name, description=description, group_name=GROUP, owners=OWNERS, kinds={"pandas", "deltalake"},
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
    def clean_purchases(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], tracking: TrackingResource):  # type: ignore[no-untyped-def] # a generator of one result per asset
        run_days, counts, rejected = partition_days(context), Counter[str](), Counter[str]()
        tables = ("cleaned_interactions", "rejected_purchases")
        writers = {name: DayWriter(context, lake, name, run_days) for name in tables}
        catalog = lake.table("raw_product_catalog").pandas(columns=["product_id", "excluded"])
        cleaning_settings = CleaningSettings(
            time_zone=source.time_zone,
            has_price=source.has_price,
            excluded_products=frozenset(catalog.loc[catalog["excluded"], "product_id"]),
            bulk_quantity=source.purchases.bulk_quantity,
        )
        raw, all_events = lake.table("raw_purchase_logs"), lake.table("raw_feedback_events")
        all_events.require(run_days)
        for number, day in enumerate(run_days, start=1):
            result = clean_day(raw.pandas([day]).drop(columns="date"), day, cleaning_settings)
            cleaned, limit = result.cleaned, settings.feedback.max_products_per_day
            if all_events.rows([day]):
                events = signs_of_interest(all_events.pandas([day]), settings.feedback.weights, limit)
                cleaned = pd.concat([cleaned, events], ignore_index=True) if len(events) else cleaned
            for name, frame, schema in (
                ("cleaned_interactions", cleaned, CLEANED_SCHEMA),
                ("rejected_purchases", result.rejected, REJECTED_SCHEMA),
            ):
                table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
                counts[name] += writers[name].add(day, table)
            rejected.update(result.rejected_by_rule())
            if number % 100 == 0:
                context.log.info(f"cleaned {number} of {len(run_days)} days")
        tracking.mlflow.log_metrics({f"{name}_lines": rows for name, rows in counts.items()})
        by_rule = pd.Series(rejected, dtype=int).sort_values(ascending=False)
        listing = "\n".join(f"- **{rule.name}**: {rule.reason}" for rule in CLEANING_RULES.values())
        details = {
            "cleaned_interactions": {},
            "rejected_purchases": {
                "rules": dg.MetadataValue.md(listing),
                "rejected_by_rule": dg.MetadataValue.json({str(rule): int(count) for rule, count in by_rule.items()}),
                **({"plot": as_markdown(bars(by_rule, "Rejected lines by rule", "lines"))} if len(by_rule) else {}),
            },
        }
        for name, more in details.items():
            yield writers[name].result(lines=counts[name], **more)

    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"}, code_version="1")
    def products(cleaned_interactions: SparkFrame, raw_product_catalog: SparkFrame) -> SparkFrame:
        """One row per product, from the catalog and the lines: text, category, price, first day seen, content hash."""
        return build_products(cleaned_interactions, raw_product_catalog)

    return [clean_purchases, products]
