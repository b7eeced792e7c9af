"""Group `models`: what is learned from the interactions known on a day."""

import datetime as dt
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from dagster import AssetExecutionContext, AssetIn, AssetsDefinition, Failure, ResourceParam, asset
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.models_of_day import snapshot_of
from rec_assets.assets.plots import as_markdown, bars, histogram
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.data.interactions import history_lines, net_purchases, returns
from rec_assets.recsys.data.product_statistics import product_statistics as compute_statistics
from rec_assets.recsys.ranking.features import missing_features
from rec_assets.recsys.ranking.ranker import fit_ranker
from rec_assets.recsys.ranking.scoring import candidates_in_spark
from rec_assets.recsys.ranking.training import collect_sample, training_sample
from rec_assets.recsys.retrieval.als import fit_als
from rec_assets.recsys.retrieval.candidates import CANDIDATE_COLUMNS
from rec_assets.recsys.retrieval.co_purchase import co_purchase_graph as compute_graph
from rec_assets.recsys.retrieval.text import embed_new
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.unlearned import NO_RANKER
from rec_assets.resources.encoder import EncoderResource
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import ACTIVE, OF_PRODUCTS, day_of
from rec_assets.resources.recipes import Recipes
from rec_assets.resources.releases import Releases
from rec_assets.resources.storage import STAGING
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.spec import Source

GROUP = "models"
OWNERS = ["team:recommendations"]

DRAWN_ROWS = 200_000
"""Rows of the ranker's sample that the histogram of its scores shows at most."""


def model_assets(settings: Settings, source: Source, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets of the group."""
    lookback = AssetIn(partition_mapping=days.lookback)
    in_force = AssetIn(partition_mapping=days.model_window, metadata=ACTIVE)
    factors = AssetIn(partition_mapping=days.model_window, metadata=ACTIVE | OF_PRODUCTS)
    daily: dict[str, Any] = {
        "group_name": GROUP,
        "owners": OWNERS,
        "partitions_def": days.partitions,
        "code_version": "3",
    }

    @asset(**daily, kinds={"spark"}, ins={"cleaned_interactions": lookback})
    def product_statistics(context: AssetExecutionContext, cleaned_interactions: SparkFrame) -> SparkFrame:
        """Per product over the lookback: orders, recent orders, buyers, how often bought again, price, returns."""
        day, recent = as_of(context), settings.recipe.candidates.recent_days
        purchases, returned = net_purchases(cleaned_interactions, day), returns(cleaned_interactions, day)
        return compute_statistics(purchases, returned, recent_days=recent)

    @asset(**daily, kinds={"spark", "mlflow"}, ins={"cleaned_interactions": lookback})
    def als_model(
        context: AssetExecutionContext,
        tracking: TrackingResource,
        recipes: ResourceParam[Recipes],
        cleaned_interactions: SparkFrame,
    ) -> SparkFrame:
        """Spark ML ALS factors over time-decayed implicit confidence, with their ids."""
        recipe = recipes.to_train()
        interactions = history_lines(cleaned_interactions, as_of(context))
        explicit = source.purchases.columns.rating is not None
        tracking.mlflow.log_params(
            {f"als_{k}": v for k, v in recipe.als.model_dump().items()} | {"als_explicit": explicit}
        )
        context.add_output_metadata({"explicit": explicit, "recipe": recipes.origin(), "mlflow_run": tracking.link})
        return fit_als(interactions, recipe.als, seed=recipe.seed, explicit=explicit)

    @asset(**daily, kinds={"spark"}, ins={"cleaned_interactions": lookback})
    def co_purchase_graph(
        context: AssetExecutionContext, recipes: ResourceParam[Recipes], cleaned_interactions: SparkFrame
    ) -> SparkFrame:
        """Product→product weights: bought on one day, in the next orders, and by the same customers (EASE)."""
        return compute_graph(net_purchases(cleaned_interactions, as_of(context)), recipes.to_train().co_purchase)

    @asset(group_name=GROUP, owners=OWNERS, kinds={"huggingface", "pytorch"}, code_version="1")
    def product_embeddings(
        context: AssetExecutionContext,
        lake: ResourceParam[Lake],
        encoder: EncoderResource,
        products: pd.DataFrame,
    ) -> pd.DataFrame:
        """Sentence-transformer vectors by content hash; only texts never seen before are encoded."""
        empty = pd.DataFrame({"content_hash": pd.Series(dtype=str), "vector": pd.Series(dtype=object)})
        known = lake.pandas("product_embeddings") if lake.manifest("product_embeddings") else empty
        embeddings = embed_new(products, known, encoder.encode)
        context.add_output_metadata({"encoded": len(embeddings) - len(known), "reused": len(known)})
        return embeddings

    # A feature more or less is another version of the code: partitions without it are made anew.
    @asset(
        **{**daily, "code_version": f"{daily['code_version']}-{layout_digest(CANDIDATE_COLUMNS)}"},
        kinds={"spark", "numpy"},
        ins={"cleaned_interactions": lookback, "als_model": factors, "co_purchase_graph": in_force},
    )
    def candidates(
        context: AssetExecutionContext,
        releases: ResourceParam[Releases],
        recipes: ResourceParam[Recipes],
        cleaned_interactions: SparkFrame,
        als_model: pd.DataFrame,
        co_purchase_graph: pd.DataFrame,
        product_statistics: pd.DataFrame,
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> LazyArrowRows:
        """(customer, product) pairs from every source as they looked on the day, with the ranker's features."""
        state = snapshot_of(
            as_of(context), products=products, product_statistics=product_statistics, als_model=als_model,
            co_purchase_graph=co_purchase_graph, product_embeddings=product_embeddings,
        )  # fmt: skip
        versions = {"als_version": day_of(als_model), "graph_version": day_of(co_purchase_graph)}
        release = releases.in_force(state.as_of)
        context.add_output_metadata({name: str(day) for name, day in versions.items()} | {"products": len(state)})
        interactions = history_lines(cleaned_interactions, state.as_of)
        recipe = release.recipe if release else recipes.to_train()
        return candidates_in_spark(interactions, state, recipe, versions)

    @asset(
        **daily,
        kinds={"xgboost", "mlflow"},
        ins={
            "candidates": AssetIn(partition_mapping=days.horizon_ago),
            "cleaned_interactions": AssetIn(partition_mapping=days.label_window),
        },
    )
    def ranker(
        context: AssetExecutionContext,
        tracking: TrackingResource,
        recipes: ResourceParam[Recipes],
        candidates: SparkFrame,
        cleaned_interactions: SparkFrame,
    ) -> pd.DataFrame:
        """The learned blend: boosted trees over the candidates of a horizon ago, labeled with what was bought."""
        if missing := missing_features(candidates.columns):
            raise Failure(missing)
        recipe = recipes.to_train()
        outcome = net_purchases(cleaned_interactions, as_of(context)).select("customer_id", "product_id").distinct()
        sample = collect_sample(training_sample(candidates, outcome, recipe.ranker), settings.shared_disk / STAGING)
        model = fit_ranker(sample, recipe.ranker, seed=recipe.seed)
        rows, bought = len(sample.bought), int(sample.bought.sum())
        tracking.mlflow.log_params({f"ranker_{k}": v for k, v in recipe.ranker.model_dump().items()})
        tracking.mlflow.log_metrics({"ranker_rows": rows, "ranker_bought": bought})
        context.add_output_metadata({"trained_on": rows, "bought": bought, "mlflow_run": tracking.link})
        if model.is_learned:
            some = np.ascontiguousarray(sample.features[:: -(-rows // DRAWN_ROWS)])
            plot = bars(model.importance(), "What the ranker looks at", "total gain")
            tracking.mlflow.log_figure(plot, "ranker_importance.png")
            scores = histogram(pd.Series(model.score(some)), "Scores on what it learned from", "")
            context.add_output_metadata({"importance": as_markdown(plot), "scores": as_markdown(scores)})
        else:
            said = f"{NO_RANKER} ({bought:,} of {rows:,} candidates were bought)"
            context.log.warning(f"{as_of(context)}: {said}")
            context.add_output_metadata({"not_learned": said})
        return pd.DataFrame(
            {"model": [model.dump()], "features": [list(model.features)], "recipe": [recipe.model_dump_json()]}
        )

    return [product_statistics, als_model, co_purchase_graph, product_embeddings, candidates, ranker]


def layout_digest(names: Iterable[str]) -> str:
    """Differs as soon as one of the names does, or their order; part of a code version."""
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]


def as_of(context: AssetExecutionContext) -> dt.date:
    """The day of this partition: the last that anything in it knows of."""
    return dt.date.fromisoformat(context.partition_key)
