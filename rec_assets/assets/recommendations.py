"""Asset group `recommendations`: recommendation lists and similar products."""

from typing import Any

import dagster as dg
import pandas as pd
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.active_rules import active_rules, add_frequency_capped
from rec_assets.assets.model_loading import load_ranker, load_snapshot
from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.ranking.features import missing_features
from rec_assets.recsys.ranking.in_spark import SIMILAR_TYPES, lists_in_spark, substitutes_in_spark
from rec_assets.recsys.retrieval.similar import complements
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import ACTIVE, PRODUCTS_ONLY, model_day
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings

GROUP = "recommendations"
OWNERS = ["team:recommendations"]


def recommendation_assets(settings: Settings, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""
    recipe = settings.recipe
    active_model = dg.AssetIn(partition_mapping=days.model_window, metadata=ACTIVE)
    product_factors = dg.AssetIn(partition_mapping=days.model_window, metadata=ACTIVE | PRODUCTS_ONLY)
    daily: dict[str, Any] = {
        "group_name": GROUP, "owners": OWNERS, "partitions_def": days.partitions, "code_version": "1",
    }  # fmt: skip

    # The events for the frequency cap are no upstream asset, because late events must not make past lists stale.
    @dg.asset(**{**daily, "code_version": "3"}, kinds={"spark", "xgboost"}, ins={"ranker": active_model})
    def hybrid_scores(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], candidates: LazyArrowRows,
        ranker: pd.DataFrame, products: pd.DataFrame, product_statistics: pd.DataFrame,
    ) -> LazyArrowRows:  # fmt: skip
        """Lists with reasons, after merchandising rules: `all`, and `discover` (not bought in the lookback)."""
        first, model = lake.table("candidates").head(as_of_day(context), rows=1), load_ranker(ranker)
        if missing := missing_features(first.column_names, model.features):
            raise dg.Failure(missing)
        if model.warning:
            context.log.warning(model.warning)
            context.add_output_metadata({"warning": model.warning})
        model_days = {
            "als_as_of": next(iter(first["als_as_of"].to_pylist()), None),  # None without candidates
            "ranker_as_of": model_day(ranker),
        }
        context.add_output_metadata({"ranker_as_of": str(model_day(ranker)), "list_size": recipe.list_size})
        rules = active_rules(settings, as_of_day(context), products, product_statistics)
        context.add_output_metadata({"rules_version": rules.version})
        rows: SparkFrame | LazyArrowRows = candidates
        if rules.frequency_cap is not None:
            rows = add_frequency_capped(candidates.to_spark(), rules, lake, as_of_day(context))
        return lists_in_spark(rows, model, products, recipe.list_size, model_days, rules)

    @dg.asset(**daily, kinds={"spark", "numpy"}, ins={"als_model": product_factors, "co_purchase_graph": active_model})
    def similar_products(
        context: dg.AssetExecutionContext, spark: SparkResource, als_model: pd.DataFrame,
        co_purchase_graph: pd.DataFrame, product_statistics: pd.DataFrame, products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> SparkFrame:  # fmt: skip
        """Substitutes (similar text and buyers) and complements (bought together) per product."""
        context.add_output_metadata(
            {"als_as_of": str(model_day(als_model)), "graph_as_of": str(model_day(co_purchase_graph))}
        )
        snapshot = load_snapshot(
            as_of_day(context), products=products, product_statistics=product_statistics, als_model=als_model,
            co_purchase_graph=co_purchase_graph, product_embeddings=product_embeddings,
        )  # fmt: skip
        session = spark.spark_session
        categories = products.set_index("product_id")["category"]
        rows = session.createDataFrame(complements(co_purchase_graph, categories, recipe.neighbors), SIMILAR_TYPES)
        return substitutes_in_spark(session, snapshot, recipe.neighbors).unionByName(rows)

    return [hybrid_scores, similar_products]
