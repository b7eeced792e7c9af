"""Group `interactions`: the lines that count, those that don't and why, and the products they speak of."""

from collections import Counter

import pandas as pd
import pyarrow as pa
from dagster import (
    AssetExecutionContext,
    AssetIn,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
    multi_asset,
)
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.ingestion import run_days
from rec_assets.assets.plots import as_markdown, bars
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.data.cleaning import CLEANED_SCHEMA, RULES, CleaningRules, clean_day, implicit_feedback
from rec_assets.recsys.data.products import build_products
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import ALL, partition_metadata
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.reader import RAW_SCHEMA
from rec_assets.sources.spec import Source

GROUP = "interactions"
OWNERS = ["team:data"]

REJECTED_SCHEMA = RAW_SCHEMA.append(pa.field("reasons", pa.string()))


def interaction_assets(settings: Settings, source: Source, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets of the group."""

    def spec(name: str, description: str, *more: str) -> AssetSpec:
        return AssetSpec(
            name, description=description, group_name=GROUP, owners=OWNERS, kinds={"pandas", "parquet"},
            deps=["raw_purchase_logs", "raw_product_catalog", *more], partitions_def=days.partitions,
            code_version=f"2-{source.version}",
        )  # fmt: skip

    @multi_asset(
        specs=[
            spec(
                "cleaned_interactions",
                "Valid purchase and return lines, one row per order line; clicks and carts with their weights.",
                "raw_feedback_events",
            ),
            spec(
                "rejected_purchases",
                "Every line that cleaning refused, whole, with the names of the rules it broke.",
            ),
        ],
        backfill_policy=BackfillPolicy.single_run(),
    )
    def clean_purchases(context: AssetExecutionContext, lake: ResourceParam[Lake], tracking: TrackingResource):  # type: ignore[no-untyped-def] # a generator of one result per asset
        wanted, counts, refused = run_days(context), Counter[str](), Counter[str]()
        catalog = lake.pandas("raw_product_catalog", columns=["product_id", "excluded"])
        rules = CleaningRules(
            time_zone=source.time_zone,
            has_price=source.has_price,
            excluded_products=frozenset(catalog.loc[catalog["excluded"], "product_id"]),
            bulk_quantity=source.purchases.bulk_quantity,
        )
        for number, day in enumerate(wanted, start=1):
            raw = lake.manifest("raw_purchase_logs", day)
            result = clean_day(lake.pandas("raw_purchase_logs", [day]).drop(columns="date"), day, rules)
            events = lake.pandas("raw_feedback_events", [day])
            interest = implicit_feedback(events, settings.feedback.weights, settings.feedback.most_products)
            cleaned = pd.concat([result.cleaned, interest], ignore_index=True) if len(interest) else result.cleaned
            for name, frame, schema in (
                ("cleaned_interactions", cleaned, CLEANED_SCHEMA),
                ("rejected_purchases", result.rejected, REJECTED_SCHEMA),
            ):
                table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
                rows = lake.write(name, table, day, raw.sources if raw else {}).rows
                context.add_asset_metadata({"dagster/row_count": rows}, asset_key=name, partition_key=day.isoformat())
                counts[name] += rows
            refused.update(result.refused_by_rule())
            if number % 100 == 0:
                context.log.info(f"cleaned {number} of {len(wanted)} days")
        tracking.mlflow.log_metrics({f"{name}_lines": rows for name, rows in counts.items()})
        by_rule = pd.Series(refused, dtype=int).sort_values(ascending=False)
        about = {
            "cleaned_interactions": {},
            "rejected_purchases": {
                "rules": MetadataValue.md("\n".join(f"- **{rule}**: {reason}" for rule, reason in RULES.items())),
                "refused_by_rule": MetadataValue.json({str(rule): int(count) for rule, count in by_rule.items()}),
                **({"plot": as_markdown(bars(by_rule, "Lines refused, by rule", "lines"))} if len(by_rule) else {}),
            },
        }
        for name, more in about.items():
            manifest = lake.manifest(name, wanted[-1])
            assert manifest is not None
            metadata = partition_metadata(lake, name, wanted[-1], manifest)
            yield MaterializeResult(asset_key=name, metadata={**metadata, "lines": counts[name], **more})

    @asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark", "parquet"}, code_version="1",
        ins={"cleaned_interactions": AssetIn(metadata=ALL)},
    )  # fmt: skip
    def products(cleaned_interactions: SparkFrame, raw_product_catalog: SparkFrame) -> SparkFrame:
        """One row a product: text, category, price, first day seen, content hash; from the catalog and the lines."""
        return build_products(cleaned_interactions, raw_product_catalog)

    return [clean_purchases, products]
