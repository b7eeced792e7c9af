"""The trial: challenger and champion make everybody's lists as of one day, and what was bought since judges them."""

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
    """A model, ready to make lists as of the trial's day.

    Attributes:
        state: Its factors and graph, with what else is known of the products on that day.
        ranker: Its blend.
        recipe: Its candidates' sizes and decays.
    """

    state: ProductSnapshot
    ranker: Ranker
    recipe: Recipe


def lists_of(contestant: ComparedModel, interactions: DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Both lists of every customer, as deep as the gate looks: customer_id, list, product_id, rank."""
    lists = lists_as_of(interactions, contestant.state, contestant.ranker, products, contestant.recipe, DEPTH)
    return lists.to_spark().select("customer_id", "list", "product_id", "rank").toPandas()


def purchases_since(purchases: DataFrame, outcome: DataFrame) -> pd.DataFrame:
    """What was bought since the trial's day.

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
