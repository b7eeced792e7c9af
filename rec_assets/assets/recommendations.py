"""Group `recommendations`: what shoppers are shown."""

from typing import Any

import pandas as pd
from dagster import AssetExecutionContext, AssetIn, AssetsDefinition, Failure, ResourceParam, asset
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.models import as_of
from rec_assets.assets.models_of_day import ranker_from, snapshot_of
from rec_assets.assets.rules import default_rules, with_frequency_cap
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.ranking.features import missing_features
from rec_assets.recsys.ranking.scoring import SIMILAR_TYPES, lists_in_spark, substitutes_in_spark
from rec_assets.recsys.retrieval.similar import complements
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import ACTIVE, OF_PRODUCTS, day_of
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings

GROUP = "recommendations"
OWNERS = ["team:recommendations"]


def recommendation_assets(settings: Settings, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets of the group."""
    recipe = settings.recipe
    in_force = AssetIn(partition_mapping=days.model_window, metadata=ACTIVE)
    factors = AssetIn(partition_mapping=days.model_window, metadata=ACTIVE | OF_PRODUCTS)
    daily: dict[str, Any] = {
        "group_name": GROUP,
        "owners": OWNERS,
        "partitions_def": days.partitions,
        "code_version": "1",
    }

    # What was seen, where a rule asks for it, is no input to the graph: what comes late must not remake past lists.
    @asset(**{**daily, "code_version": "2"}, kinds={"spark", "xgboost"}, ins={"ranker": in_force})
    def hybrid_scores(
        context: AssetExecutionContext,
        lake: ResourceParam[Lake],
        candidates: LazyArrowRows,
        ranker: pd.DataFrame,
        products: pd.DataFrame,
        product_statistics: pd.DataFrame,
    ) -> LazyArrowRows:
        """Two top lists a customer, `all` and `discover` (nothing bought before), by the shop's rules; with reasons."""
        first, model = lake.head("candidates", as_of(context), rows=1), ranker_from(ranker)
        if missing := missing_features(first.column_names, model.features):
            raise Failure(missing)
        if model.warning:
            context.log.warning(model.warning)
            context.add_output_metadata({"warning": model.warning})
        versions = {
            "als_version": next(iter(first["als_version"].to_pylist()), None),  # of nobody's candidates there is none
            "ranker_version": day_of(ranker),
        }
        context.add_output_metadata({"ranker_version": str(day_of(ranker)), "list_size": recipe.list_size})
        book = default_rules(settings, as_of(context), products, product_statistics)
        context.add_output_metadata({"rules_version": book.version})
        rows: SparkFrame | LazyArrowRows = candidates
        if book.frequency_cap is not None:
            rows = with_frequency_cap(candidates.to_spark(), book, lake, as_of(context))
        return lists_in_spark(rows, model, products, recipe.list_size, versions, book)

    @asset(**daily, kinds={"spark", "numpy"}, ins={"als_model": factors, "co_purchase_graph": in_force})
    def similar_products(
        context: AssetExecutionContext,
        spark: SparkResource,
        als_model: pd.DataFrame,
        co_purchase_graph: pd.DataFrame,
        product_statistics: pd.DataFrame,
        products: pd.DataFrame,
        product_embeddings: pd.DataFrame,
    ) -> SparkFrame:
        """Per product substitutes (alike in text and buyers) and complements (bought together)."""
        context.add_output_metadata(
            {"als_version": str(day_of(als_model)), "graph_version": str(day_of(co_purchase_graph))}
        )
        state = snapshot_of(
            as_of(context), products=products, product_statistics=product_statistics, als_model=als_model,
            co_purchase_graph=co_purchase_graph, product_embeddings=product_embeddings,
        )  # fmt: skip
        session = spark.spark_session
        categories = products.set_index("product_id")["category"]
        found = session.createDataFrame(complements(co_purchase_graph, categories, recipe.neighbors), SIMILAR_TYPES)
        return substitutes_in_spark(session, state, recipe.neighbors).unionByName(found)

    return [hybrid_scores, similar_products]
