"""The lists that the release gate evaluates: of challenger and champion, as of the same day."""

import datetime as dt
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from rec_assets.assets.model_loading import ReleasedModels
from rec_assets.recsys.data.interactions import IS_PURCHASE, net_purchases
from rec_assets.recsys.evaluation.customer_sample import in_sample
from rec_assets.recsys.ranking.in_spark import candidates_in_spark, lists_in_spark
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.release.gate import DEPTH, GateCheck, ListComparison, check_lists, check_quality, compare_lists
from rec_assets.resources.lake import Lake
from rec_assets.resources.product_snapshots import load_product_snapshot
from rec_assets.resources.releases import Release
from rec_assets.settings import Settings


@dataclass(frozen=True)
class GateLists:
    """Input of the gate's list checks.

    Attributes:
        challenger, champion: customer_id, list, product_id, rank: the first DEPTH ranks. The champion is None before
            the first release.
        purchases: Purchases since the lists' day; None without a champion.
        bought: Products that were bought in the lookback.
        catalog_size: Number of products that a list may contain.
        warning: Warning about the champion's lists, or "".
    """

    challenger: pd.DataFrame
    champion: pd.DataFrame | None
    purchases: pd.DataFrame | None
    bought: pd.Index
    catalog_size: int
    warning: str = ""

    def evaluate(self, settings: Settings) -> tuple[list[GateCheck], list[ListComparison]]:
        """Run the gate checks on lists."""
        checks = check_lists(
            self.challenger, self.champion, bought=self.bought, catalog_size=self.catalog_size, limits=settings.gate
        )
        if self.champion is None or self.purchases is None:
            return checks, []
        comparisons = compare_lists(self.challenger, self.champion, self.purchases, seed=settings.recipe.seed)
        return [check_quality(comparisons, settings.gate), *checks], comparisons


def first_release_lists(lake: Lake, challenger: Release, settings: Settings, session: SparkSession) -> GateLists:
    """The challenger's lists before the first release: the day's lists, because the same models made them."""
    day = challenger.ranker_as_of
    top = lake.table("hybrid_scores").spark(session, [day]).where(f"rank <= {DEPTH}")
    customers = top.select("customer_id").distinct().count()
    sampled = top.where(in_sample(customers, settings.evaluation_customers))
    lists = sampled.select("customer_id", "list", "product_id", "rank").toPandas()
    bought = _bought_products(lake.table("product_statistics").pandas([day], columns=["product_id", "order_lines"]))
    return GateLists(lists, None, None, bought, len(bought))


def comparison_lists(
    lake: Lake, challenger: Release, champion: Release, settings: Settings, *, as_of: dt.date,
    cleaned_interactions: SparkFrame,
) -> GateLists:  # fmt: skip
    """Both models' lists as of the challenger's training day, and the purchases since, up to `as_of`.

    Both rank the products of that day's snapshot.
    If there are more customers than `settings.evaluation_customers`, a sample is used.
    """
    day = challenger.ranker_as_of
    lines = lake.table("customer_histories").spark(cleaned_interactions.sparkSession, [day]).persist()
    purchases = lines.where(IS_PURCHASE)
    products = load_product_snapshot(lake.table("product_snapshot"), day, settings.staging)
    sampled = in_sample(lines.select("customer_id").distinct().count(), settings.evaluation_customers)

    def make_lists(release: Release) -> tuple[pd.DataFrame, Ranker]:
        models = ReleasedModels.from_release(lake, release)
        candidates = candidates_in_spark(lines.where(sampled), models.in_snapshot(products), release.recipe, {})
        lists = lists_in_spark(candidates, models.ranker, products.catalog, DEPTH, model_days={}).to_spark()
        return lists.select("customer_id", "list", "product_id", "rank").toPandas(), models.ranker

    (new_lists, _), (current_lists, current_ranker) = make_lists(challenger), make_lists(champion)
    since = net_purchases(cleaned_interactions.where(f"date > '{day}'"), as_of)
    bought_since = _purchases_since(purchases.where(sampled), since.where(sampled))
    return GateLists(
        new_lists, current_lists, bought_since, _bought_products(products.catalog), len(products),
        current_ranker.warning,
    )  # fmt: skip


def _purchases_since(before: SparkFrame, since: SparkFrame) -> pd.DataFrame:
    """Distinct customer_id, product_id in the net purchases `since` the day; `novel`: not bought `before`."""
    pair = ["customer_id", "product_id"]
    known = before.select(*pair).distinct().withColumn("bought", F.lit(True))
    bought = since.select(*pair).distinct().join(known, pair, "left")
    return bought.select(*pair, F.col("bought").isNull().alias("novel")).orderBy(*pair).toPandas()


def _bought_products(statistics: pd.DataFrame) -> pd.Index:
    return pd.Index(statistics.loc[statistics["order_lines"] > 0, "product_id"])
