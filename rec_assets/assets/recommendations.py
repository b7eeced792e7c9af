"""Asset group `recommendations`: recommendation lists and similar products."""

from typing import Any

import dagster as dg
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.assets.active_rules import active_rules, add_frequency_capped
from rec_assets.assets.model_loading import ActiveModels, load_ranker
from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.features import missing_features
from rec_assets.recsys.ranking.in_spark import lists_in_spark, substitutes_in_spark
from rec_assets.recsys.retrieval.similar import complements
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.lake import Lake
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings

GROUP = "recommendations"
OWNERS = ["team:recommendations"]


def recommendation_assets(settings: Settings, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""
    recipe = settings.recipe
    graph, ranker = (dg.AssetDep(name, partition_mapping=days.model_window) for name in ("co_purchase_graph", "ranker"))
    daily: dict[str, Any] = {
        "group_name": GROUP, "owners": OWNERS, "partitions_def": days.partitions, "code_version": "1",
    }  # fmt: skip

    # The events for the frequency cap are no upstream asset, because late events must not make past lists stale.
    @dg.asset(**{**daily, "code_version": "3"}, kinds={"spark", "xgboost"}, deps=[ranker])
    def hybrid_scores(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake],
        active_models: dg.ResourceParam[ActiveModels], candidates: LazyArrowRows, product_snapshot: ProductSnapshot,
    ) -> LazyArrowRows:  # fmt: skip
        """Lists with reasons, after merchandising rules: `all`, and `discover` (not bought in the lookback)."""
        frame, ranker_as_of = active_models.load("ranker", as_of_day(context))
        first, model = lake.table("candidates").head(as_of_day(context), rows=1), load_ranker(frame)
        if missing := missing_features(first.column_names, model.features):
            raise dg.Failure(missing)
        if model.warning:
            context.log.warning(model.warning)
            context.add_output_metadata({"warning": model.warning})
        model_days = {
            "als_as_of": next(iter(first["als_as_of"].to_pylist()), None),  # None without candidates
            "ranker_as_of": ranker_as_of,
        }
        context.add_output_metadata({"ranker_as_of": str(ranker_as_of), "list_size": recipe.list_size})
        rules = active_rules(settings, product_snapshot)
        context.add_output_metadata({"rules_version": rules.version})
        rows: SparkFrame | LazyArrowRows = candidates
        if rules.frequency_cap is not None:
            rows = add_frequency_capped(candidates.to_spark(), rules, lake, as_of_day(context))
        return lists_in_spark(rows, model, product_snapshot.catalog, recipe.list_size, model_days, rules)

    @dg.asset(**daily, kinds={"spark", "numpy"}, deps=[graph])
    def similar_products(
        context: dg.AssetExecutionContext, spark: SparkResource, active_models: dg.ResourceParam[ActiveModels],
        product_snapshot: ProductSnapshot,
    ) -> list[Any]:  # fmt: skip
        """Substitutes (similar text and buyers) and complements (bought together) per product."""
        baskets, graph_as_of = active_models.load("co_purchase_graph", as_of_day(context))
        context.add_output_metadata({"graph_as_of": str(graph_as_of)})
        categories = product_snapshot.catalog.set_index("product_id")["category"]
        found = complements(baskets, categories, recipe.neighbors)
        return [substitutes_in_spark(spark.spark_session, product_snapshot, recipe.neighbors), found]

    return [hybrid_scores, similar_products]
