"""Asset group `evaluation`: accuracy of past lists, after a horizon and after a day."""

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.model_loading import NO_RANKER, missing_models_as_of, newest_day, recipe_as_of
from rec_assets.assets.past_lists import HYBRID, evaluate_past_lists
from rec_assets.assets.plots import as_markdown, line
from rec_assets.files import write_atomically
from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.data.interactions import net_purchases
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.evaluation.baselines import BASELINES
from rec_assets.recsys.evaluation.live import BAND_DAYS
from rec_assets.recsys.evaluation.live import DEPTH as LIVE_DEPTH
from rec_assets.recsys.evaluation.live import live_accuracy as measure_live
from rec_assets.recsys.evaluation.plots import headline_figure
from rec_assets.recsys.evaluation.report import ReportContext, render_report, summary_table
from rec_assets.recsys.events import PURCHASE
from rec_assets.recsys.ranking.lists import ALL
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import AS_OF_NAMES
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource

GROUP = "evaluation"
OWNERS = ["team:recommendations"]


def evaluation_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""
    horizon_ago = dg.AssetIn(partition_mapping=days.horizon_ago)

    @dg.asset(
        group_name=GROUP, owners=OWNERS, partitions_def=days.partitions, code_version="2",
        kinds={"pandas", "mlflow"},
        ins={
            "hybrid_scores": horizon_ago, "candidates": horizon_ago, "product_snapshot": horizon_ago,
            "cleaned_interactions": dg.AssetIn(partition_mapping=days.label_window),
        },
    )  # fmt: skip
    def evaluation_report(
        context: dg.AssetExecutionContext, tracking: TrackingResource, lake: dg.ResourceParam[Lake],
        hybrid_scores: SparkFrame, candidates: SparkFrame, product_snapshot: ProductSnapshot,
        cleaned_interactions: SparkFrame,
    ) -> pd.DataFrame:  # fmt: skip
        """Metrics of the lists of a horizon ago and of every baseline, by the purchases since, and an HTML report."""
        lists_as_of = as_of_day(context) - dt.timedelta(days=settings.horizon_days)
        past = evaluate_past_lists(
            hybrid_scores, candidates, net_purchases(cleaned_interactions, as_of_day(context)), product_snapshot,
            has_ratings=source.purchases.columns.rating is not None, settings=settings,
        )  # fmt: skip
        model_days = _model_days(lake, lists_as_of)
        missing = missing_models_as_of(lake, **model_days) if model_days else []
        fingerprint = lake.table("cleaned_interactions").fingerprint(days.days_of_lookback(lists_as_of))
        blend = "fixed" if NO_RANKER in missing else "learned"
        recipe = recipe_as_of(lake, model_days["ranker_as_of"]) if model_days else None
        about = ReportContext(
            source=source.description or source.name, as_of=lists_as_of, horizon_days=settings.horizon_days,
            buyers=past.buyers, customers=past.customers, purchases=past.purchases, catalog_size=past.catalog_size,
            models={HYBRID: f"The {blend} blend of all sources, which customers are shown.", **BASELINES},
            slices=past.slices, examples=past.examples, data_fingerprint=fingerprint,
            model_days={model: str(model_days[name]) for model, name in AS_OF_NAMES.items() if model_days},
            settings={**(recipe.model_dump() if recipe else {}), "lookback_days": settings.lookback_days},
            missing_models=missing,
        )  # fmt: skip
        path = settings.report(as_of_day(context), "evaluation")
        write_atomically(path, render_report(past.metrics, past.differences, context=about))
        figure = headline_figure(past.metrics)
        _log_evaluation(tracking, past.metrics, path, figure, lists_as_of=lists_as_of, data_fingerprint=fingerprint)
        context.add_output_metadata(
            {
                "summary": dg.MetadataValue.md(summary_table(past.metrics).to_markdown()),
                "ndcg": as_markdown(figure),
                "report": dg.MetadataValue.path(path),
                "lists_as_of": str(lists_as_of),
                "data_fingerprint": fingerprint,
                "mlflow_run": tracking.link,
                **({"missing_models": "; ".join(missing)} if missing else {}),
            }
        )
        return past.table()

    @dg.asset(
        group_name=GROUP, owners=OWNERS, partitions_def=days.partitions, code_version="1", kinds={"pandas"},
        deps=[
            dg.AssetDep("hybrid_scores", partition_mapping=days.served_window),
        ],
    )  # fmt: skip
    def live_accuracy(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource,
        product_snapshot: ProductSnapshot, cleaned_interactions: pd.DataFrame,
    ) -> pd.DataFrame:  # fmt: skip
        """Hit rate and precision of the lists before the day on its purchases, and the shares of unknown products."""
        day, lists = as_of_day(context), lake.table("hybrid_scores")
        one = dt.timedelta(days=1)
        lists_as_of = newest_day(lists, day - settings.model_reuse_days * one, day - one)
        is_bulk = cleaned_interactions["weight"] == 0
        bought = cleaned_interactions[(cleaned_interactions["event"] == PURCHASE) & ~is_bulk]
        buyers = spark.spark_session.createDataFrame(bought[["customer_id"]].drop_duplicates(), "customer_id string")
        top = (
            lists.spark(spark.spark_session, [lists_as_of])
            .where(f"list = '{ALL}' and rank <= {LIVE_DEPTH}")
            .join(buyers, "customer_id", "left_semi")
        )
        with_factors = pd.Index(product_snapshot.product_ids[product_snapshot.has_factors])
        measured = measure_live(top.select("customer_id", "product_id").toPandas(), bought, with_factors)
        earlier = [past for past in lake.table("live_accuracy").days if past < day][-BAND_DAYS:]
        plot: dict[str, Any] = {}
        if earlier:
            rates = [*lake.table("live_accuracy").pandas(earlier)["hit_rate"], float(measured["hit_rate"].iloc[0])]
            plot["hit_rate_by_day"] = as_markdown(line([*earlier, day], rates, "Hit rate by day", "share"))
        values = {str(name): float(value) for name, value in measured.iloc[0].dropna().items()}
        context.add_output_metadata({**values, "lists_as_of": str(lists_as_of), **plot})
        return measured

    return [evaluation_report, live_accuracy]


def _model_days(lake: Lake, day: dt.date) -> dict[str, dt.date]:
    """As-of days of the models that made the lists of a day; empty without lists."""
    found: dict[str, dt.date] = {}
    for table, columns in (("candidates", ("als_as_of", "graph_as_of")), ("hybrid_scores", ("ranker_as_of",))):
        for row in lake.table(table).head(day, rows=1).select(columns).to_pylist():
            found |= row
    return found if found.keys() == set(AS_OF_NAMES.values()) else {}


def _log_evaluation(tracking: TrackingResource, metrics: pd.DataFrame, report: Path, figure: Any, **tags: Any) -> None:
    mlflow = tracking.mlflow
    at_ten = metrics[(metrics["k"] == 10) & metrics["value"].notna()]
    names = at_ten["slice"] + "/" + at_ten["model"] + "/" + at_ten["metric"] + "_10"
    mlflow.log_metrics(dict(zip(names, at_ten["value"], strict=True)))
    mlflow.set_tags({name: str(value) for name, value in tags.items()})
    mlflow.log_artifact(str(report))
    mlflow.log_figure(figure, "evaluation.png")
