"""Group `evaluation`: past lists judged by what customers went on to buy, after a horizon and after a day."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dagster import AssetExecutionContext, AssetIn, AssetsDefinition, MetadataValue, ResourceParam, asset
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from rec_assets.assets.models import as_of
from rec_assets.assets.models_of_day import missing_by
from rec_assets.assets.plots import as_markdown, line
from rec_assets.files import write_whole
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.data.interactions import net_purchases
from rec_assets.recsys.evaluation.baselines import BASELINES, baseline_lists_in_spark, fallback_lists
from rec_assets.recsys.evaluation.evaluate import Catalog, evaluate, make_slices, rmse
from rec_assets.recsys.evaluation.live import BAND_DAYS
from rec_assets.recsys.evaluation.live import DEPTH as LIVE_DEPTH
from rec_assets.recsys.evaluation.live import live_accuracy as measure_live
from rec_assets.recsys.evaluation.plots import headline_figure
from rec_assets.recsys.evaluation.report import (
    ExampleCustomer,
    ExampleProduct,
    ReportContext,
    render_report,
    summary_table,
)
from rec_assets.recsys.evaluation.sample import sample_customers
from rec_assets.recsys.events import PURCHASE
from rec_assets.recsys.ranking.hybrid import ALL
from rec_assets.recsys.spark.sums import exact_mean
from rec_assets.recsys.unlearned import NO_RANKER
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import ACTIVE, NEWEST, OF_PRODUCTS
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.spec import Source

GROUP = "evaluation"
OWNERS = ["team:recommendations"]

HYBRID = "hybrid"
DEPTH = 20
EXAMPLES = 5

_MODELS = {"als_version": "als_model", "graph_version": "co_purchase_graph", "ranker_version": "ranker"}


def report_path(settings: Settings, day: dt.date) -> Path:
    """Where the HTML report of a day lies."""
    return settings.reports / f"date={day}" / "evaluation.html"


def evaluation_assets(settings: Settings, source: Source, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets of the group."""
    before = AssetIn(partition_mapping=days.horizon_ago)

    @asset(
        group_name=GROUP, owners=OWNERS, partitions_def=days.partitions, code_version="1",
        kinds={"pandas", "mlflow"},
        ins={
            "hybrid_scores": before, "candidates": before, "product_statistics": before,
            "cleaned_interactions": AssetIn(partition_mapping=days.label_window),
        },
    )  # fmt: skip
    def evaluation_report(
        context: AssetExecutionContext,
        tracking: TrackingResource,
        lake: ResourceParam[Lake],
        hybrid_scores: SparkFrame,
        candidates: SparkFrame,
        product_statistics: pd.DataFrame,
        cleaned_interactions: SparkFrame,
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> pd.DataFrame:
        """The lists of a horizon ago, and every baseline, judged by the purchases since; with an HTML report."""
        judged_day = as_of(context) - dt.timedelta(days=settings.horizon_days)
        outcome = net_purchases(cleaned_interactions, as_of(context))
        ratings = outcome.where("rating is not null and not isnan(rating)")
        known_customers = candidates.where("own_orders > 0").select("customer_id").distinct().count()
        judged = sample_customers(outcome, settings.judged_customers)
        truth = judged.bought.toPandas()
        candidates, hybrid_scores = judged.of(candidates), judged.of(hybrid_scores)
        history = candidates.where("own_orders > 0").select("customer_id", "product_id", "customer_orders").toPandas()
        orders = history.groupby("customer_id")["customer_orders"].first()
        shown = hybrid_scores.where(f"rank <= {DEPTH}").drop("date").toPandas()
        lists = pd.concat(
            [
                shown.assign(model=HYBRID)[["model", "list", "customer_id", "product_id", "rank"]],
                baseline_lists_in_spark(candidates, DEPTH).toPandas(),
            ]
        )
        slices = make_slices(truth, history, orders)
        evaluation = evaluate(
            lists,
            slices,
            fallback=fallback_lists(product_statistics, products.set_index("product_id")["category"], DEPTH, HYBRID),
            catalog=_catalog(products, product_statistics, product_embeddings, known_customers, judged_day),
            reference=HYBRID,
            seed=settings.recipe.seed,
        )
        metrics = evaluation.metrics
        if source.purchases.columns.rating is not None:
            metrics = pd.concat([metrics, _rating_error(candidates, ratings)], ignore_index=True)

        versions = _versions(lake, judged_day)
        missing = missing_by(lake, **versions) if versions else []
        fingerprint = lake.fingerprint("cleaned_interactions", days.lookback_days(judged_day))
        html = render_report(
            metrics,
            evaluation.differences,
            context=ReportContext(
                source=source.description or source.name,
                as_of=judged_day,
                truth_days=settings.horizon_days,
                buyers=judged.buyers,
                customers=truth["customer_id"].nunique(),
                purchases=len(truth),
                catalog_size=int(_known(products, judged_day).sum()),
                models={
                    HYBRID: f"The {'fixed' if NO_RANKER in missing else 'learned'} blend of all sources, which "
                    "customers are shown.",
                    **BASELINES,
                },
                slices={part.name: part.description for part in slices},
                examples=_examples(shown, truth, history, products),
                data_fingerprint=fingerprint,
                model_versions={_MODELS[name]: str(day) for name, day in versions.items()},
                settings={**settings.recipe.model_dump(), "lookback_days": settings.lookback_days},
                not_learned=missing,
            ),
        )
        path = report_path(settings, as_of(context))
        write_whole(path, html)

        mlflow = tracking.mlflow
        at_ten = metrics[(metrics["k"] == 10) & metrics["value"].notna()]
        names = at_ten["slice"] + "/" + at_ten["model"] + "/" + at_ten["metric"] + "_10"
        mlflow.log_metrics(dict(zip(names, at_ten["value"], strict=True)))
        mlflow.set_tags({"judged_day": str(judged_day), "data_fingerprint": fingerprint})
        mlflow.log_artifact(str(path))
        figure = headline_figure(metrics)
        mlflow.log_figure(figure, "evaluation.png")
        context.add_output_metadata(
            {
                "summary": MetadataValue.md(summary_table(metrics).to_markdown()),
                "ndcg": as_markdown(figure),
                "report": MetadataValue.path(path),
                "judged_day": str(judged_day),
                "data_fingerprint": fingerprint,
                "mlflow_run": tracking.link,
                **({"not_learned": "; ".join(missing)} if missing else {}),
            }
        )
        differences = evaluation.differences.assign(metric="ndcg_difference")
        return pd.concat([metrics.assign(baseline=None), differences], ignore_index=True)

    @asset(
        group_name=GROUP, owners=OWNERS, partitions_def=days.partitions, code_version="1", kinds={"pandas"},
        ins={
            "hybrid_scores": AssetIn(partition_mapping=days.served_window, metadata=NEWEST),
            "als_model": AssetIn(partition_mapping=days.model_window, metadata=ACTIVE | OF_PRODUCTS),
        },
    )  # fmt: skip
    def live_accuracy(
        context: AssetExecutionContext,
        lake: ResourceParam[Lake],
        hybrid_scores: SparkFrame,
        als_model: pd.DataFrame,
        cleaned_interactions: pd.DataFrame,
    ) -> pd.DataFrame:
        """Recommended yesterday, bought today: hit rate, precision, and how much was unknown to the model."""
        day = as_of(context)
        is_bulk = cleaned_interactions["weight"] == 0
        bought = cleaned_interactions[(cleaned_interactions["event"] == PURCHASE) & ~is_bulk]
        buyers = hybrid_scores.sparkSession.createDataFrame(
            bought[["customer_id"]].drop_duplicates(), "customer_id string"
        )
        top = hybrid_scores.where(f"list = '{ALL}' and rank <= {LIVE_DEPTH}").join(buyers, "customer_id", "left_semi")
        shown = top.select("customer_id", "product_id").toPandas()
        measured = measure_live(shown, bought, pd.Index(als_model["id"]))
        earlier = [past for past in lake.days("live_accuracy") if past < day][-BAND_DAYS:]
        plot: dict[str, Any] = {}
        if earlier:
            rates = [*lake.pandas("live_accuracy", earlier)["hit_rate"], float(measured["hit_rate"].iloc[0])]
            plot["hit_rate_by_day"] = as_markdown(line([*earlier, day], rates, "Bought what was shown", "share"))
        values = {str(name): float(value) for name, value in measured.iloc[0].dropna().items()}
        first = hybrid_scores.limit(1).collect()  # none of nobody's lists
        context.add_output_metadata({**values, **({"lists_of": str(first[0]["date"])} if first else {}), **plot})
        return measured

    return [evaluation_report, live_accuracy]


def _versions(lake: Lake, day: dt.date) -> dict[str, dt.date]:
    """The days of the models that made the lists of a day; nothing where nobody has lists."""
    found: dict[str, dt.date] = {}
    for table, columns in (("candidates", ("als_version", "graph_version")), ("hybrid_scores", ("ranker_version",))):
        for row in lake.head(table, day, rows=1).select(columns).to_pylist():
            found |= row
    return found if found.keys() == _MODELS.keys() else {}


def _known(products: pd.DataFrame, day: dt.date) -> pd.Series:
    return (pd.to_datetime(products["first_seen"]).dt.date <= day) & ~products["excluded"].astype(bool)


def _catalog(
    products: pd.DataFrame, statistics: pd.DataFrame, embeddings: pd.DataFrame, customers: int, day: dt.date
) -> Catalog:
    known = products[_known(products, day)]
    rows = pd.Series(np.arange(len(embeddings)), index=embeddings["content_hash"])
    with_text = known[known["content_hash"].isin(rows.index)]
    return Catalog(
        size=len(known),
        customers=customers,
        buyers=statistics.set_index("product_id")["buyers"],
        embedding_rows=pd.Series(rows[with_text["content_hash"]].to_numpy(), index=with_text["product_id"]),
        embeddings=np.stack(embeddings["vector"].to_list()) if len(embeddings) else np.zeros((0, 1), np.float32),
    )


def _rating_error(candidates: SparkFrame, ratings: SparkFrame) -> pd.DataFrame:
    """RMSE of ALS over the ratings given to candidates; one row in the metrics' shape."""
    keys = ["customer_id", "product_id"]
    given = ratings.groupBy(*keys).agg(exact_mean(F.col("rating")).alias("rating"))
    predicted = candidates.where("als_score <> 0")  # of what has no factors there is no prediction
    known = predicted.select(*keys, "als_score").join(given, keys).toPandas()
    error = rmse(known.rename(columns={"als_score": "prediction"})[[*keys, "prediction"]], known[[*keys, "rating"]])
    row = {"slice": "all", "model": "ALS alone", "metric": "rmse", "k": 0, "value": error, "ci_low": np.nan,
           "ci_high": np.nan, "customers": known["customer_id"].nunique()}  # fmt: skip
    return pd.DataFrame([row])


def _examples(
    shown: pd.DataFrame, truth: pd.DataFrame, history: pd.DataFrame, products: pd.DataFrame
) -> list[ExampleCustomer]:
    """Customers spread over the range of activity, with what they were shown and whether they bought it."""
    titles, categories = (products.set_index("product_id")[name] for name in ("title", "category"))
    judged = history[history["customer_id"].isin(truth["customer_id"])]
    by_activity = judged.groupby("customer_id")["customer_orders"].first().sort_values(kind="stable")
    places = np.linspace(0.1, 0.9, min(EXAMPLES, len(by_activity))) * (len(by_activity) - 1)
    bought = set(zip(truth["customer_id"], truth["product_id"], strict=True))
    examples = []
    for customer in by_activity.index[places.astype(int)].unique():
        own = history[history["customer_id"] == customer]
        favorites = own["product_id"].map(categories).dropna().sort_values().value_counts().head(3).index
        most = f"; most from {', '.join(favorites)}" if len(favorites) else ""
        rows = shown[(shown["customer_id"] == customer) & (shown["list"] == "all") & (shown["rank"] <= 10)]
        examples.append(
            ExampleCustomer(
                customer_id=customer,
                history=f"{by_activity[customer]:.0f} orders, {len(own)} products{most}",
                recommendations=[
                    ExampleProduct(titles.get(row.product_id, row.product_id), row.reason,
                                   (customer, row.product_id) in bought)
                    for row in rows.sort_values("rank").itertuples()
                ],
            )
        )  # fmt: skip
    return examples
