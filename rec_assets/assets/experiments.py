"""Asset group `experiments`: exposures, and the results of each experiment after each day."""

import datetime as dt

import dagster as dg
import pandas as pd
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from rec_assets.assets.ingestion import write_landed_days
from rec_assets.assets.plots import as_markdown
from rec_assets.files import write_atomically
from rec_assets.partitions import DayPartitions, partition_days
from rec_assets.recsys.events import PURCHASE
from rec_assets.recsys.experiments.analysis import ExperimentResult, analyze
from rec_assets.recsys.experiments.experiments_file import (
    COVARIATE_DAYS,
    MAX_EXPERIMENT_DAYS,
    Experiment,
    read_experiments,
)
from rec_assets.recsys.experiments.experiments_page import as_table, effects_figure, experiments_page, summary
from rec_assets.recsys.experiments.measurements import (
    measure_units,
    moments_by_variant,
    totals_by_variant,
    versions_by_variant,
)
from rec_assets.resources.data_versions import FILES, DayWriter
from rec_assets.resources.lake import Lake
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings
from rec_assets.sources.feedback import read_exposures
from rec_assets.sources.landing import optional_file_fingerprint

GROUP = "experiments"
OWNERS = ["team:recommendations"]


def experiment_assets(settings: Settings, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"python", "deltalake"}, partitions_def=days.partitions,
        backfill_policy=dg.BackfillPolicy.single_run(), code_version="1",
    )  # fmt: skip
    def experiment_exposures(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        """API responses of the day in an experiment: variant, recommended products and their propensities."""
        return write_landed_days(context, lake, settings, "experiment_exposures", read_exposures)

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark"}, partitions_def=days.partitions, code_version="1",
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            dg.AssetDep("experiment_exposures", partition_mapping=days.experiment_window),
            dg.AssetDep("raw_feedback_events", partition_mapping=days.experiment_window),
            dg.AssetDep("cleaned_interactions", partition_mapping=days.covariate_window),
        ],
    )  # fmt: skip
    def experiment_report(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource
    ) -> dg.MaterializeResult:
        """Effects with always-valid intervals and a verdict for each experiment, and an HTML report."""
        run_days, experiments = partition_days(context), read_experiments(settings.experiments).experiments
        late = dt.timedelta(days=settings.api.event_retention_days)  # events of the last days may arrive later
        writer = DayWriter(context, lake, "experiment_report", run_days)
        about = {FILES: dg.MetadataValue.json(optional_file_fingerprint(settings.experiments))}
        for day in run_days:
            results = [
                _analyze(experiment, day, lake, spark, settings)
                for experiment in experiments
                if experiment.start <= day <= experiment.last_purchase_day + late
            ]
            writer.add(day, as_table(results), **about)
            writer.commit()  # the page of the day plots it
            write_atomically(settings.report(day, "experiments"), experiments_page(results, _history(lake, day), day))
        plots = {
            f"{result.experiment.name}_{comparison.variant}": as_markdown(effects_figure(comparison))
            for result in results
            for comparison in result.comparisons
            if comparison.effects
        }
        return writer.result(
            summary=dg.MetadataValue.md(summary(results)),
            report=dg.MetadataValue.path(settings.report(run_days[-1], "experiments")),
            **plots,
        )

    return [experiment_exposures, experiment_report]


def _analyze(
    experiment: Experiment, day: dt.date, lake: Lake, spark: SparkResource, settings: Settings
) -> ExperimentResult:
    def table(name: str, first: dt.date, end: dt.date) -> SparkFrame:
        existing = lake.table(name).days
        days = [date for date in existing if first <= date <= end] or existing[:1]  # at least one for the columns
        return lake.table(name).spark(spark.spark_session, days).where(F.col("date").between(first, end))

    start = experiment.start
    before = table("cleaned_interactions", start - dt.timedelta(days=COVARIATE_DAYS), start - dt.timedelta(days=1))
    exposures = table("experiment_exposures", start, min(day, experiment.end))
    units = measure_units(
        experiment,
        exposures,
        table("raw_feedback_events", start, day),
        before.where(F.col("event") == PURCHASE).withColumn("value", F.col("net_quantity") * F.col("unit_price")),
        settings.feedback.max_products_per_day,
    ).persist()
    result = analyze(
        experiment, day, totals_by_variant(units), moments_by_variant(units), versions_by_variant(experiment, exposures)
    )
    spark.spark_session.catalog.clearCache()
    return result


def _history(lake: Lake, day: dt.date) -> pd.DataFrame:
    """Effects on the main metrics up to a day, relative to the control."""
    past = [date for date in lake.table("experiment_report").days if date <= day][-MAX_EXPERIMENT_DAYS:]
    rows = lake.table("experiment_report").pandas(past)
    rows = rows[rows["is_main"].astype(bool)].sort_values("date")
    scale = rows["control"].abs().where(rows["control"] != 0)
    effects = rows[["difference", "always_low", "always_high"]].div(scale, axis=0)
    effects.columns = ["value", "low", "high"]
    return rows[["experiment", "variant", "date"]].rename(columns={"date": "day"}).join(effects)
