"""Group `experiments`: which answers were part of experiments, and what these say after each day."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pyarrow as pa
from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from rec_assets.assets.business import GROUP, OWNERS
from rec_assets.assets.ingestion import read_landed, run_days
from rec_assets.assets.plots import as_markdown
from rec_assets.files import write_whole
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.events import PURCHASE
from rec_assets.recsys.experiments.analysis import ExperimentResult, analyze
from rec_assets.recsys.experiments.outcomes import moments_of, totals_of, units_of, versions_of
from rec_assets.recsys.experiments.page import as_table, effects_figure, experiments_page, summary
from rec_assets.recsys.experiments.spec import COVARIATE_DAYS, LONGEST_DAYS, Experiment, read_experiments
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import partition_metadata
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings
from rec_assets.sources.feedback import FEEDBACK_SCHEMA, read_exposures


def report_path(settings: Settings, day: dt.date) -> Path:
    """Where the HTML page of a day lies."""
    return settings.reports / f"date={day}" / "experiments.html"


def experiment_assets(settings: Settings, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets."""

    @asset(
        group_name=GROUP, owners=OWNERS, kinds={"python", "parquet"}, partitions_def=days.partitions,
        backfill_policy=BackfillPolicy.single_run(), code_version="1",
    )  # fmt: skip
    def experiment_exposures(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult:
        """The answers of the day that were part of an experiment: the variant, what was shown, and how likely."""
        return read_landed(context, lake, settings, "experiment_exposures", read_exposures)

    @asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark"}, partitions_def=days.partitions, code_version="1",
        backfill_policy=BackfillPolicy.single_run(),
        deps=[
            AssetDep("experiment_exposures", partition_mapping=days.experiment_window),
            AssetDep("raw_feedback_events", partition_mapping=days.experiment_window),
            AssetDep("cleaned_interactions", partition_mapping=days.covariate_window),
        ],
    )  # fmt: skip
    def experiment_report(
        context: AssetExecutionContext, lake: ResourceParam[Lake], spark: SparkResource
    ) -> MaterializeResult:
        """Each experiment of these days: effects with intervals that may be looked at daily, and a verdict; a page."""
        wanted, experiments = run_days(context), read_experiments(settings.experiments).experiments
        late = dt.timedelta(days=settings.api.keep_event_days)  # events of its last days may still come in
        for day in wanted:
            readings = [
                _reading(each, day, lake, spark, settings)
                for each in experiments
                if each.start <= day <= each.counts_until + late
            ]
            manifest = lake.write("experiment_report", as_table(readings), day)
            write_whole(report_path(settings, day), experiments_page(readings, _history(lake, day), day))
            context.add_asset_metadata({"dagster/row_count": manifest.rows}, partition_key=day.isoformat())
        plots = {
            f"{reading.experiment.name}_{each.variant}": as_markdown(effects_figure(each))
            for reading in readings
            for each in reading.comparisons
            if each.effects
        }
        return MaterializeResult(
            metadata={
                **partition_metadata(lake, "experiment_report", wanted[-1], manifest),
                "summary": MetadataValue.md(summary(readings)),
                "report": MetadataValue.path(report_path(settings, wanted[-1])),
                **plots,
            }
        )

    return [experiment_exposures, experiment_report]


def _reading(
    experiment: Experiment, day: dt.date, lake: Lake, spark: SparkResource, settings: Settings
) -> ExperimentResult:
    def table(name: str, first: dt.date, end: dt.date, schema: pa.Schema | None = None) -> SparkFrame:
        there = lake.days(name)
        chosen = [each for each in there if first <= each <= end] or there[:1]  # of none, at least the columns
        return lake.spark(spark.spark_session, name, chosen, schema=schema).where(F.col("date").between(first, end))

    before = table(
        "cleaned_interactions", experiment.start - dt.timedelta(days=COVARIATE_DAYS),
        experiment.start - dt.timedelta(days=1),
    )  # fmt: skip
    exposures = table("experiment_exposures", experiment.start, min(day, experiment.end))
    units = units_of(
        experiment,
        exposures,
        table("raw_feedback_events", experiment.start, day, FEEDBACK_SCHEMA),
        before.where(F.col("event") == PURCHASE).withColumn("value", F.col("net_quantity") * F.col("unit_price")),
        settings.feedback.most_products,
    ).persist()
    found = analyze(experiment, day, totals_of(units), moments_of(units), versions_of(experiment, exposures))
    spark.spark_session.catalog.clearCache()
    return found


def _history(lake: Lake, day: dt.date) -> pd.DataFrame:
    """The main metrics' changes on the days up to one, relative to the control."""
    past = [each for each in lake.days("experiment_report") if each <= day][-LONGEST_DAYS:]
    rows = lake.pandas("experiment_report", past)
    rows = rows[rows["is_main"].astype(bool)].sort_values("date")
    scale = rows["control"].abs().where(rows["control"] != 0)
    return pd.DataFrame(
        {
            "experiment": rows["experiment"],
            "variant": rows["variant"],
            "day": rows["date"],
            "value": rows["difference"] / scale,
            "low": rows["always_low"] / scale,
            "high": rows["always_high"] / scale,
        }
    )
