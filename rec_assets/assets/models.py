"""Asset group `models`: statistics, models, product snapshot and candidates from the histories up to a day."""

from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.code_versions import with_layout
from rec_assets.assets.model_loading import MODELS_OF_PRODUCTS, NO_RANKER, ActiveModels, model_days_of_snapshot
from rec_assets.assets.plots import as_markdown, bars, histogram
from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.data.interactions import IS_PURCHASE, net_purchases
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.product_statistics import product_statistics as compute_statistics
from rec_assets.recsys.data.similar_texts import TEXT_COLUMNS, SimilarTexts
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot, neighbors_to_keep
from rec_assets.recsys.data.snapshot_table import SNAPSHOT_COLUMNS, to_table
from rec_assets.recsys.ranking.features import missing_features
from rec_assets.recsys.ranking.in_spark import candidates_in_spark
from rec_assets.recsys.ranking.ranker import fit_ranker
from rec_assets.recsys.ranking.training import stored_sample, training_sample
from rec_assets.recsys.retrieval.als_model import fit_als
from rec_assets.recsys.retrieval.candidates import CANDIDATE_COLUMNS
from rec_assets.recsys.retrieval.co_purchase_graph import co_purchase_graph as compute_graph
from rec_assets.recsys.retrieval.product_texts import embed_new
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.tuning.rules_of_thumb import MIN_CUSTOMERS, choose
from rec_assets.recsys.tuning.shop_profile import profile_shop
from rec_assets.resources.encoder import EncoderResource
from rec_assets.resources.lake import Lake
from rec_assets.resources.recipes import Recipes
from rec_assets.resources.releases import Releases
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource

GROUP = "models"
OWNERS = ["team:recommendations"]

PLOTTED_ROWS = 200_000
"""Maximum number of training rows in the histogram of the ranker's scores."""


def model_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""
    newest_recipe = dg.AssetDep("recipe", partition_mapping=days.lookback)
    models = [dg.AssetDep(name, partition_mapping=days.model_window) for name in MODELS_OF_PRODUCTS]
    daily: dict[str, Any] = {
        "group_name": GROUP, "owners": OWNERS, "partitions_def": days.partitions, "code_version": "5",
    }  # fmt: skip

    @dg.asset(**daily, kinds={"spark", "numpy"})
    def product_statistics(customer_histories: LazyArrowRows) -> pd.DataFrame:
        """Statistics per product over the lookback: order lines, buyers, repeat share, price, returns."""
        return compute_statistics(customer_histories, recent_days=settings.recipe.candidates.recent_days)

    @dg.asset(**{**daily, "code_version": "1"}, kinds={"spark"})
    def recipe(
        context: dg.AssetExecutionContext, recipes: dg.ResourceParam[Recipes], customer_histories: LazyArrowRows
    ) -> pd.DataFrame:
        """Hyper-parameters for this shop, by rules of thumb from its purchases. Settings and tuning come first."""
        profile = profile_shop(customer_histories)
        chosen, fixed = choose(profile), recipes.fixed_fields()
        shown = chosen[~chosen["name"].isin(fixed)].rename(columns={"name": "hyper-parameter"})
        if len(shown):
            table = shown.to_markdown(index=False)
        elif profile.customers < MIN_CUSTOMERS:
            table = f"With fewer than {MIN_CUSTOMERS} customers, the defaults stay."
        else:
            table = "The defaults suit this shop." if chosen.empty else "Settings or tuning come first."
        context.log.info(f"{as_of_day(context)}: {profile.in_words()}")
        context.add_output_metadata(
            {
                "purchases": dg.MetadataValue.md(profile.in_words()),
                "chosen": dg.MetadataValue.md(str(table)),
                **({"set_by_settings_or_tuning": ", ".join(sorted(fixed))} if fixed else {}),
            }
        )
        return chosen

    @dg.asset(**daily, kinds={"spark", "mlflow"}, deps=[newest_recipe])
    def als_model(
        context: dg.AssetExecutionContext, tracking: TrackingResource, recipes: dg.ResourceParam[Recipes],
        customer_histories: SparkFrame,
    ) -> SparkFrame:  # fmt: skip
        """ALS factors of customers and products, trained on time-decayed implicit feedback or on ratings."""
        day = as_of_day(context)
        recipe = recipes.active(day)
        explicit = source.purchases.columns.rating is not None
        tracking.mlflow.log_params(
            {f"als_{k}": v for k, v in recipe.als.model_dump().items()} | {"als_explicit": explicit}
        )
        context.add_output_metadata({"explicit": explicit, "recipe": recipes.origin(day), "mlflow_run": tracking.link})
        return fit_als(customer_histories, recipe.als, seed=recipe.seed, explicit=explicit)

    @dg.asset(**daily, kinds={"spark"}, deps=[newest_recipe])
    def co_purchase_graph(
        context: dg.AssetExecutionContext, recipes: dg.ResourceParam[Recipes], customer_histories: SparkFrame
    ) -> SparkFrame:
        """Product-to-product weights: same basket, next orders, and same customers (EASE)."""
        return compute_graph(customer_histories.where(IS_PURCHASE), recipes.active(as_of_day(context)).co_purchase)

    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"huggingface", "pytorch"}, code_version="1")
    def product_embeddings(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], encoder: EncoderResource,
        products: pd.DataFrame,
    ) -> pd.DataFrame:  # fmt: skip
        """Sentence-transformer vectors by content hash. Only new texts are encoded."""
        empty = pd.DataFrame({"content_hash": pd.Series(dtype=str), "vector": pd.Series(dtype=object)})
        table = lake.table("product_embeddings")
        known = table.pandas() if table.is_intact() else empty
        embeddings = embed_new(products, known, encoder.encode)
        context.add_output_metadata({"encoded": len(embeddings) - len(known), "reused": len(known)})
        return embeddings

    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"numpy"}, code_version=with_layout("1", TEXT_COLUMNS))
    def similar_texts(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> pa.Table:  # fmt: skip
        """Neighbors of each text, if there are too many to compare all every day. Only new texts are looked up."""
        table = lake.table("similar_texts")
        known = SimilarTexts.from_table(table.read()) if table.is_intact() else None
        neighbors = neighbors_to_keep(product_embeddings, products["content_hash"], known)
        context.add_output_metadata({"texts": len(neighbors.content_hashes), "changed": neighbors.changed})
        return neighbors.to_table()

    # The code version follows from the columns: if they change, older partitions become stale.
    @dg.asset(
        **{**daily, "code_version": with_layout("1", SNAPSHOT_COLUMNS)}, kinds={"numpy", "deltalake"},
        deps=[*models, "similar_texts"],
    )  # fmt: skip
    def product_snapshot(
        context: dg.AssetExecutionContext, active_models: dg.ResourceParam[ActiveModels], lake: dg.ResourceParam[Lake],
        products: pd.DataFrame, product_statistics: pd.DataFrame, product_embeddings: pd.DataFrame,
    ) -> pa.Table:  # fmt: skip
        """All that is known of the products on the day, with the active models: the only state that scoring reads."""
        day = as_of_day(context)
        (factors, als_as_of), (graph, graph_as_of) = (active_models.load(name, day) for name in MODELS_OF_PRODUCTS)
        similar = lake.table("similar_texts")
        snapshot = build_product_snapshot(
            day, products=products, statistics=product_statistics, factors=factors.rename(columns={"id": "product_id"}),
            graph=graph, embeddings=product_embeddings,
            neighbors=SimilarTexts.from_table(similar.read()) if similar.partitions else None,
        )  # fmt: skip
        model_days = {"als_as_of": als_as_of, "graph_as_of": graph_as_of}
        context.add_output_metadata({name: str(day) for name, day in model_days.items()} | {"products": len(snapshot)})
        table = to_table(snapshot)
        for name, model_day in model_days.items():
            table = table.append_column(name, pa.array([model_day] * len(table), pa.date32()))
        return table

    # The code version follows from the columns: if they change, older partitions become stale.
    @dg.asset(
        **{**daily, "code_version": with_layout(daily["code_version"], CANDIDATE_COLUMNS)},
        kinds={"spark", "numpy"}, deps=[newest_recipe],
    )  # fmt: skip
    def candidates(
        context: dg.AssetExecutionContext, releases: dg.ResourceParam[Releases], recipes: dg.ResourceParam[Recipes],
        lake: dg.ResourceParam[Lake], product_snapshot: ProductSnapshot, customer_histories: LazyArrowRows,
    ) -> LazyArrowRows:  # fmt: skip
        """(customer, product) pairs from all candidate sources as of the day, with the ranker's features."""
        day = product_snapshot.as_of
        release, model_days = releases.active(day), model_days_of_snapshot(lake, day)
        recipe = release.recipe if release else recipes.active(day)
        return candidates_in_spark(customer_histories, product_snapshot, recipe, model_days)

    @dg.asset(
        **daily,
        kinds={"xgboost", "mlflow"},
        deps=[newest_recipe],
        ins={
            "candidates": dg.AssetIn(partition_mapping=days.horizon_ago),
            "cleaned_interactions": dg.AssetIn(partition_mapping=days.label_window),
        },
    )
    def ranker(
        context: dg.AssetExecutionContext, tracking: TrackingResource, recipes: dg.ResourceParam[Recipes],
        candidates: SparkFrame, cleaned_interactions: SparkFrame,
    ) -> pd.DataFrame:  # fmt: skip
        """Gradient-boosted trees, trained on the candidates of a horizon ago and labeled with the purchases since."""
        if missing := missing_features(candidates.columns):
            raise dg.Failure(missing)
        recipe = recipes.active(as_of_day(context))
        bought = net_purchases(cleaned_interactions, as_of_day(context)).select("customer_id", "product_id").distinct()
        with stored_sample(training_sample(candidates, bought, recipe.ranker), settings.staging) as sample:
            model, rows, positives = fit_ranker(sample, recipe.ranker, seed=recipe.seed), sample.rows, sample.bought
            every = max(1, -(-rows // PLOTTED_ROWS))
            plotted = [np.ascontiguousarray(features[::every]) for features, _ in sample.batches()]
        tracking.mlflow.log_params({f"ranker_{k}": v for k, v in recipe.ranker.model_dump().items()})
        tracking.mlflow.log_metrics({"ranker_rows": rows, "ranker_bought": positives})
        context.add_output_metadata({"training_rows": rows, "bought": positives, "mlflow_run": tracking.link})
        if model.is_trained:
            plot = bars(model.importance(), "Feature importance of the ranker", "total gain")
            tracking.mlflow.log_figure(plot, "ranker_importance.png")
            scores = histogram(pd.Series(model.score(np.concatenate(plotted))), "Scores on the training rows")
            context.add_output_metadata({"importance": as_markdown(plot), "scores": as_markdown(scores)})
        else:
            message = f"{NO_RANKER} ({positives:,} of {rows:,} candidates were bought)"
            context.log.warning(f"{as_of_day(context)}: {message}")
            context.add_output_metadata({"missing_models": message})
        return pd.DataFrame(
            {"model": [model.dump()], "features": [list(model.features)], "recipe": [recipe.model_dump_json()]}
        )

    return [
        product_statistics, recipe, als_model, co_purchase_graph, product_embeddings, similar_texts, product_snapshot,
        candidates, ranker,
    ]  # fmt: skip
