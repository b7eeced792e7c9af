"""Checks on the group `models`: are the values finite, the vectors normalized, the tables complete?"""

from collections.abc import Iterator

import dagster as dg
import numpy as np
import pyarrow as pa

from rec_assets.checks.days import newest_day
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.spark.grouping import aggregate
from rec_assets.resources.lake import Lake
from rec_assets.resources.spark import SparkResource

_PAIR = pa.schema([("customer_id", pa.string()), ("product_id", pa.string())])


def model_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the group."""

    @dg.asset_check(asset="product_embeddings", blocking=True, description="All vectors are finite and have length 1.")
    def embeddings_are_unit_vectors(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        vectors = lake.table("product_embeddings").pandas(columns=["vector"])["vector"]
        lengths = np.array([np.linalg.norm(vector) for vector in vectors])
        wrong = int((~np.isclose(lengths, 1, atol=1e-3)).sum())
        return dg.AssetCheckResult(passed=wrong == 0, description=f"{len(vectors)} vectors, {wrong} not of length 1")

    @dg.asset_check(asset="product_embeddings", blocking=True, description="Every product text has a vector.")
    def every_text_is_embedded(lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        texts = set(lake.table("products").pandas(columns=["content_hash"])["content_hash"].dropna())
        missing = texts - set(lake.table("product_embeddings").pandas(columns=["content_hash"])["content_hash"])
        return dg.AssetCheckResult(passed=not missing, description=f"{len(texts)} texts, {len(missing)} without vector")

    @dg.asset_check(
        asset="als_model", blocking=True, description="There are factors of customers and products, and all are finite."
    )
    def factors_are_finite(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource
    ) -> dg.AssetCheckResult:
        from pyspark.sql import functions as F

        model = lake.table("als_model").spark(spark.spark_session, [newest_day(context, lake)])
        finite = F.forall("factors", lambda factor: F.abs(factor) < np.inf)  # in Spark, NaN is greater than any number
        not_finite = F.sum(F.when(finite, 0).otherwise(1)).alias("not_finite")
        sides = model.groupBy("kind").agg(F.count("*").alias("rows"), not_finite).toPandas()
        return dg.AssetCheckResult(
            # Both or neither: a small shop may have no product with enough buyers.
            passed=set(sides["kind"]) in ({"customer", "product"}, set()) and not sides["not_finite"].any(),
            description=f"{sides['rows'].sum()} factor vectors for {' and '.join(sorted(sides['kind'])) or 'nothing'}",
        )

    @dg.asset_check(
        asset="co_purchase_graph", description="No product is its own neighbor, and all weights are positive."
    )
    def graph_is_valid(context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.AssetCheckResult:
        graph = lake.table("co_purchase_graph").pandas([newest_day(context, lake)])
        loops = int((graph["product_id"] == graph["neighbor_id"]).sum())
        return dg.AssetCheckResult(
            passed=loops == 0 and bool((graph["weight"] > 0).all()), description=f"{len(graph)} edges, {loops} loops"
        )

    @dg.asset_check(
        asset="candidates", blocking=True,
        description="Each pair of customer and product occurs once, and one task reads all pairs of a customer. There "
        "are pairs, if a product has order lines.",
    )  # fmt: skip
    def pairs_are_unique(
        context: dg.AssetCheckExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource
    ) -> dg.AssetCheckResult:
        day = [newest_day(context, lake)]
        table = lake.table("candidates")
        rows, (unique, split) = table.rows(day), count_pairs(table.lazy_rows(spark.spark_session, day))
        statistics = lake.table("product_statistics").pandas(day, columns=["order_lines"])
        return dg.AssetCheckResult(
            passed=unique == rows and not split and (rows > 0 or not statistics["order_lines"].any()),
            description=f"{rows} pairs, {rows - unique} repeated, {split} customers in several files",
        )

    return [embeddings_are_unit_vectors, every_text_is_embedded, factors_are_finite, graph_is_valid, pairs_are_unique]


def count_pairs(candidates: LazyArrowRows) -> tuple[int, int]:
    """Number of distinct pairs of customer and product in each task, and of customers whose rows several tasks have."""

    def count(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        rows = pa.concat_tables([_PAIR.empty_table(), *(table.cast(_PAIR) for table in tables)])
        customers = rows.group_by(_PAIR.names).aggregate([]).group_by("customer_id").aggregate([([], "count_all")])
        customers = customers.select(["customer_id", "count_all"]).rename_columns(["customer_id", "pairs"])
        yield customers.append_column("tasks", pa.repeat(1, len(customers)))

    by_customer = candidates.select(*_PAIR.names).then(count, "customer_id string, pairs bigint, tasks bigint")
    totals = aggregate(by_customer, ["customer_id"], {"pairs": "sum", "tasks": "sum"}, within="customer_id").to_spark()
    pairs, split = totals.selectExpr("coalesce(sum(pairs), 0)", "count_if(tasks > 1)").collect()[0]
    return pairs, split
