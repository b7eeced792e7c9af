"""The gate comparison: lists of challenger and champion as of one day, and the purchases since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.ranking.scoring import lists_as_of
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.release.gate import DEPTH

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class ComparedModel:
    """A model with everything that it needs to make lists.

    Attributes:
        snapshot: Product snapshot as of the day, with the model's factors and graph.
        ranker: The ranker.
        recipe: The recipe of the model.
    """

    snapshot: ProductSnapshot
    ranker: Ranker
    recipe: Recipe


def lists_by(model: ComparedModel, interactions: DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """The first DEPTH items of both lists of every customer: customer_id, list, product_id, rank."""
    lists = lists_as_of(interactions, model.snapshot, model.ranker, products, model.recipe, DEPTH)
    return lists.to_spark().select("customer_id", "list", "product_id", "rank").toPandas()


def purchases_since(purchases: DataFrame, outcome: DataFrame) -> pd.DataFrame:
    """The purchases since the as-of day.

    Args:
        purchases: Net purchases up to the day.
        outcome: Net purchases after it.

    Returns:
        customer_id, product_id, novel: distinct pairs, and whether the customer had never bought the product.
    """
    from pyspark.sql import functions as F

    pair = ["customer_id", "product_id"]
    before = purchases.select(*pair).distinct().withColumn("bought", F.lit(True))
    since = outcome.select(*pair).distinct().join(before, pair, "left")
    return since.select(*pair, F.col("bought").isNull().alias("novel")).orderBy(*pair).toPandas()
