"""Backtest: train and evaluate a recipe as of a past day, with only the purchases up to this day.

A backtest calls the same functions as the assets, in the same order and with the same windows, but on frames. Tuning
and notebooks use it, because a backfill of the assets for each recipe would take too long.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.data.interactions import IS_PURCHASE, history_lines, net_purchases
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.product_statistics import product_statistics
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.evaluation.evaluate import ALL_PURCHASES, HEADLINE_K, NEW_CUSTOMERS, NOVEL_PURCHASES, make_slices
from rec_assets.recsys.evaluation.metrics import ranking_metrics
from rec_assets.recsys.ranking.in_spark import candidates_in_spark, lists_in_spark
from rec_assets.recsys.ranking.lists import LIST_COLUMNS
from rec_assets.recsys.ranking.ranker import Ranker, fit_ranker
from rec_assets.recsys.ranking.training import stored_sample, training_sample
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.als_model import fit_als
from rec_assets.recsys.retrieval.co_purchase_graph import co_purchase_graph
from rec_assets.recsys.spark.arrow_rows import collect

T = TypeVar("T")

_PAIR = ("customer_id", "product_id")
_LIST_SIZE = 20


class NothingToEvaluate(ValueError):
    """No known customer bought anything in the horizon."""


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """Lists as of a past day, and their metrics.

    Attributes:
        lists: LIST_COLUMNS, for all customers with history.
        per_customer: Slice (`evaluate.SLICES` except new customers, who have no lists here) → one row for each customer
            and one column for each metric, such as `ndcg@10`; no NaN.
    """

    as_of: dt.date
    lists: pd.DataFrame
    per_customer: dict[str, pd.DataFrame]

    @property
    def ndcg(self) -> float:
        """Mean NDCG@10 over all purchases: the objective of tuning."""
        return float(self.per_customer[ALL_PURCHASES][f"ndcg@{HEADLINE_K}"].mean())

    @property
    def novel_ndcg(self) -> float:
        """Mean NDCG@10 of the `discover` lists over novel purchases."""
        return float(self.per_customer[NOVEL_PURCHASES][f"ndcg@{HEADLINE_K}"].mean())


@dataclass(eq=False)
class Backtest:
    """Evaluates recipes on one shop's data as of past days.

    The last result of each step and day is cached, and used again for recipes with the same values of the parameters
    that the step depends on. `evaluate` clears Spark's own cache.

    Attributes:
        interactions: `cleaned_interactions` with `date`.
        embeddings: content_hash, vector.
        explicit: Whether ALS trains on `rating`, see `fit_als`.
        folder: Where large frames are stored as Parquet; Spark's tasks must have access. Default: a temporary folder.
    """

    interactions: DataFrame
    products: pd.DataFrame
    embeddings: pd.DataFrame
    lookback_days: int
    horizon_days: int
    explicit: bool
    folder: Path | None = None
    _cache: dict[tuple[str, dt.date], tuple[Any, Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="backtest_")
        self._disk = self.folder or Path(self._temporary.name)

    def evaluate(self, as_of: dt.date, recipe: Recipe) -> BacktestResult:
        """Make the lists as of a day and compare them with the purchases of the horizon after it.

        Raises:
            NothingToEvaluate: No known customer bought anything in the horizon.
        """
        truth = collect(self._purchases_after(as_of), self._disk)
        if truth.empty:
            raise NothingToEvaluate(f"nobody bought anything in the {self.horizon_days} days after {as_of}")
        lists = self.lists(as_of, recipe)
        bought_before = self.candidates(as_of, recipe).where("repeat_order_lines > 0")
        history = collect(bought_before.select(*_PAIR, "customer_orders"), self._disk)
        orders = history.groupby("customer_id")["customer_orders"].first()
        slices = [part for part in make_slices(truth, history, orders) if part.name != NEW_CUSTOMERS]
        if slices[0].truth.empty:
            raise NothingToEvaluate(f"only new customers bought anything in the {self.horizon_days} days after {as_of}")
        metrics = {part.name: ranking_metrics(lists[lists["list"] == part.list_name], part.truth) for part in slices}
        return BacktestResult(as_of, lists, metrics)

    def lists(self, day: dt.date, recipe: Recipe) -> pd.DataFrame:
        """The lists as of a day, LIST_COLUMNS."""
        candidates, ranker = self.candidates(day, recipe), self.ranker(day, recipe)
        lists = lists_in_spark(candidates, ranker, self.products, _LIST_SIZE, model_days={})
        rows = collect(lists, self._disk)
        return rows[[*LIST_COLUMNS]].sort_values(["customer_id", "list", "rank"], ignore_index=True)

    def ranker(self, day: dt.date, recipe: Recipe) -> Ranker:
        """The ranker as of a day, trained on the candidates of a horizon ago and the purchases since."""
        before = day - dt.timedelta(days=self.horizon_days)
        rows = training_sample(self.candidates(before, recipe), self._purchases_after(before), recipe.ranker)
        with stored_sample(rows, self._disk) as sample:
            return fit_ranker(sample, recipe.ranker, seed=recipe.seed)

    def candidates(self, day: dt.date, recipe: Recipe) -> DataFrame:
        """The candidates as of a day."""

        def find() -> DataFrame:
            snapshot = self.snapshot(day, recipe)
            return candidates_in_spark(self.history(day), snapshot, recipe, model_days={}).to_spark()

        return self._stored("candidates", day, (recipe.als, recipe.co_purchase, recipe.candidates, recipe.seed), find)

    def snapshot(self, day: dt.date, recipe: Recipe) -> ProductSnapshot:
        """The product snapshot of a day."""
        purchases = self.history(day).where(IS_PURCHASE)
        recent = recipe.candidates.recent_days
        statistics = self._cached(
            "statistics",
            day,
            recent,
            lambda: product_statistics(self.history(day), recent_days=recent),
        )
        factors = self._cached("factors", day, (recipe.als, recipe.seed), lambda: self._factors(day, recipe))
        graph = self._cached(
            "graph", day, recipe.co_purchase, lambda: _collected(co_purchase_graph(purchases, recipe.co_purchase))
        )
        return build_product_snapshot(
            day, products=self.products, statistics=statistics, factors=factors, graph=graph, embeddings=self.embeddings
        )

    def history(self, day: dt.date) -> DataFrame:
        """Net purchases, signs of interest and returns of the lookback."""
        return self._stored("history", day, None, lambda: history_lines(self._days(day, self.lookback_days), day))

    def _factors(self, day: dt.date, recipe: Recipe) -> pd.DataFrame:
        model = fit_als(self.history(day), recipe.als, seed=recipe.seed, explicit=self.explicit)
        return _collected(model.where("kind = 'product'").withColumnRenamed("id", "product_id"))

    def _purchases_after(self, day: dt.date) -> DataFrame:
        """Distinct pairs bought in the horizon after a day."""
        end = day + dt.timedelta(days=self.horizon_days)

        def find() -> DataFrame:
            return net_purchases(self._days(end, self.horizon_days), end).select(*_PAIR).distinct()

        return self._stored("purchases_after", end, None, find)

    def _days(self, as_of: dt.date, days: int) -> DataFrame:
        """The interactions of the last `days` days up to and including `as_of`."""
        return self.interactions.where(F.col("date").between(as_of - dt.timedelta(days=days - 1), as_of))

    def _cached(self, step: str, day: dt.date, depends_on: Any, make: Callable[[], T]) -> T:
        """The cached result of a step and day if it has the same dependencies; else a new one."""
        if (step, day) not in self._cache or self._cache[step, day][0] != depends_on:
            self._cache[step, day] = (depends_on, make())
        result: T = self._cache[step, day][1]
        return result

    def _stored(self, step: str, day: dt.date, depends_on: Any, make: Callable[[], DataFrame]) -> DataFrame:
        """`_cached` for a frame, stored as Parquet. Spark's own cache would keep the frames of every trial."""

        def store() -> DataFrame:
            frame, path = make(), (self._disk / f"{step}-{day}").as_posix()
            frame.write.mode("overwrite").parquet(path)
            return frame.sparkSession.read.schema(frame.schema).parquet(path)

        return self._cached(step, day, depends_on, store)


def _collected(frame: DataFrame) -> pd.DataFrame:
    """The rows as pandas; clears Spark's cache, which only helped to compute them."""
    rows = frame.toPandas()
    frame.sparkSession.catalog.clearCache()
    return rows
