"""The lists by which the gate judges: of challenger and champion as of one day, from the frames of the assets."""

import datetime as dt
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import SparkSession

from rec_assets.assets.models_of_day import Models, snapshot_of
from rec_assets.recsys.data.interactions import history_lines, net_purchases
from rec_assets.recsys.data.product_statistics import product_statistics as compute_statistics
from rec_assets.recsys.evaluation.sample import among
from rec_assets.recsys.release.comparison import ComparedModel, lists_of, purchases_since
from rec_assets.recsys.release.gate import DEPTH, Comparison, GateCheck, check_lists, check_quality, compare
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release
from rec_assets.settings import Settings


@dataclass(frozen=True)
class TrialLists:
    """What is judged.

    Attributes:
        challenger, champion: customer_id, list, product_id, rank: the first DEPTH places; no champion before the
            first release.
        truth: What was bought since; None without a champion.
        bought: Products bought in the lookback.
        catalog_size: Products that could be shown.
        warning: What to know of the champion's lists, in words; "" where nothing.
    """

    challenger: pd.DataFrame
    champion: pd.DataFrame | None
    truth: pd.DataFrame | None
    bought: pd.Index
    catalog_size: int
    warning: str = ""

    def judge(self, settings: Settings) -> tuple[list[GateCheck], list[Comparison]]:
        """Apply the rules on lists."""
        rails = check_lists(
            self.challenger, self.champion, bought=self.bought, catalog_size=self.catalog_size, limits=settings.gate
        )
        if self.champion is None or self.truth is None:
            return rails, []
        comparisons = compare(self.challenger, self.champion, self.truth, seed=settings.recipe.seed)
        return [check_quality(comparisons, settings.gate), *rails], comparisons


def first_lists(lake: Lake, proposed: Release, settings: Settings, session: SparkSession) -> TrialLists:
    """Before the first release, the day's lists are the challenger's own: there is nothing to make anew."""
    day = proposed.ranker_version
    top = lake.spark(session, "hybrid_scores", [day]).where(f"rank <= {DEPTH}")
    customers = top.select("customer_id").distinct().count()
    sampled = top.where(among(customers, settings.judged_customers))
    lists = sampled.select("customer_id", "list", "product_id", "rank").toPandas()
    bought = _bought(lake.pandas("product_statistics", [day], columns=["product_id", "orders"]))
    return TrialLists(lists, None, None, bought, len(bought))


def _bought(statistics: pd.DataFrame) -> pd.Index:
    return pd.Index(statistics.loc[statistics["orders"] > 0, "product_id"])


def trial_lists(
    lake: Lake,
    proposed: Release,
    standing: Release,
    settings: Settings,
    *,
    as_of: dt.date,
    cleaned_interactions: SparkFrame,
    products: pd.DataFrame,
    product_embeddings: pd.DataFrame,
) -> TrialLists:
    """Both models' lists as of the day on which the challenger's were trained, and what was bought since.

    Of all customers, or a sample of `settings.judged_customers` of them.
    """
    day = proposed.ranker_version
    known = history_lines(cleaned_interactions.where(f"date <= '{day}'"), day).persist()
    purchases = known.where("weight >= 1")
    recent = settings.recipe.candidates.recent_days
    statistics = compute_statistics(purchases, known.where("weight < 0"), recent_days=recent).toPandas()

    def contestant(release: Release) -> ComparedModel:
        models = Models.of(lake, release)
        state = snapshot_of(
            day, products=products, product_statistics=statistics, als_model=models.als_model,
            co_purchase_graph=models.co_purchase_graph, product_embeddings=product_embeddings,
        )  # fmt: skip
        return ComparedModel(state, models.ranker, release.recipe)

    ours, theirs = contestant(proposed), contestant(standing)
    outcome = net_purchases(cleaned_interactions.where(f"date > '{day}'"), as_of)
    judged = among(known.select("customer_id").distinct().count(), settings.judged_customers)
    return TrialLists(
        challenger=lists_of(ours, known.where(judged), products),
        champion=lists_of(theirs, known.where(judged), products),
        truth=purchases_since(purchases.where(judged), outcome.where(judged)),
        bought=_bought(statistics),
        catalog_size=len(ours.state),
        warning=theirs.ranker.warning,
    )
