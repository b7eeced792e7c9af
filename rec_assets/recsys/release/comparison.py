"""The gate comparison: lists of challenger and champion as of one day, and the purchases since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.in_spark import candidates_in_spark, lists_in_spark
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.release.gate import DEPTH

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class ComparedModel:
    """A model with everything that it needs to make lists; the snapshot has its factors and graph as of the day."""

    snapshot: ProductSnapshot
    ranker: Ranker
    recipe: Recipe


def lists_by(model: ComparedModel, interactions: DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """The first DEPTH items of both lists of every customer: customer_id, list, product_id, rank."""
    candidates = candidates_in_spark(interactions, model.snapshot, model.recipe, versions={})
    lists = lists_in_spark(candidates, model.ranker, products, DEPTH, versions={})
    return lists.to_spark().select("customer_id", "list", "product_id", "rank").toPandas()


def purchases_since(purchases: DataFrame, outcome: DataFrame) -> pd.DataFrame:
    """Distinct customer_id, product_id in the net purchases after the as-of day (`outcome`).

    `novel`: whether the pair is not in the net `purchases` up to the day.
    """
    from pyspark.sql import functions as F

    pair = ["customer_id", "product_id"]
    before = purchases.select(*pair).distinct().withColumn("bought", F.lit(True))
    since = outcome.select(*pair).distinct().join(before, pair, "left")
    return since.select(*pair, F.col("bought").isNull().alias("novel")).orderBy(*pair).toPandas()
