"""Walk forward: what a recipe would have been worth on a past day, computed from the purchases up to it alone.

The graph's own computation for one day, from frames: the same functions that the assets call, in the same order, with
the same windows. For notebooks, tuning and benchmarks, where a backfill of assets for every recipe would be too much.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from rec_assets.recsys.data.interactions import history_lines, net_purchases
from rec_assets.recsys.data.product_snapshot import ProductSnapshot, build_product_snapshot
from rec_assets.recsys.data.product_statistics import product_statistics
from rec_assets.recsys.evaluation.evaluate import ALL, HEADLINE_K, NEW_CUSTOMERS, NOVEL, make_slices
from rec_assets.recsys.evaluation.metrics import ranking_metrics
from rec_assets.recsys.ranking.hybrid import LIST_COLUMNS
from rec_assets.recsys.ranking.ranker import Ranker, fit_ranker
from rec_assets.recsys.ranking.scoring import candidates_in_spark, lists_in_spark
from rec_assets.recsys.ranking.training import collect_sample, training_sample
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.als import fit_als
from rec_assets.recsys.retrieval.co_purchase import co_purchase_graph
from rec_assets.recsys.spark.arrow_rows import collect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

T = TypeVar("T")

_PAIR = ("customer_id", "product_id")


class NothingToEvaluate(ValueError):
    """No customer who is known bought anything in the days that judge."""


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """Lists of a past day and how good they turned out to be.

    Attributes:
        day: The day the lists are as of.
        lists: LIST_COLUMNS; of all customers with history.
        per_customer: By slice (all of `judge.SLICES` but new customers, who get no lists here), one row a customer of
            the slice, one column a metric: `ndcg@10` and so on. NaN nowhere; empty where a slice is.
    """

    day: dt.date
    lists: pd.DataFrame
    per_customer: dict[str, pd.DataFrame]

    @property
    def metrics(self) -> pd.DataFrame:
        """slice, metric, k, value (mean over customers, NaN for nobody), customers."""
        rows = [
            (name, *_split(str(column)), frame[column].mean(), len(frame))
            for name, frame in self.per_customer.items()
            for column in frame
        ]
        return pd.DataFrame(rows, columns=["slice", "metric", "k", "value", "customers"])

    @property
    def ndcg(self) -> float:
        """Mean NDCG@10 over everything bought: what tuning maximizes."""
        return float(self.per_customer[ALL][f"ndcg@{HEADLINE_K}"].mean())

    @property
    def novel_ndcg(self) -> float:
        """Mean NDCG@10 of the `discover` lists over what customers bought for the first time."""
        return float(self.per_customer[NOVEL][f"ndcg@{HEADLINE_K}"].mean())


def walk_forward(
    interactions: DataFrame,
    products: pd.DataFrame,
    embeddings: pd.DataFrame,
    *,
    judged: dt.date,
    recipe: Recipe,
    lookback_days: int,
    horizon_days: int,
    explicit: bool,
) -> BacktestResult:
    """Make the lists of a day and judge them by the horizon after it.

    For several recipes or days make one `Backtest`, which computes once what they share.

    Args:
        interactions: `cleaned_interactions` with `date`; days not needed are ignored.
        products: As `build_products` gives them.
        embeddings: content_hash, vector.
        judged: The as-of day of the lists.
        recipe: Of everything.
        lookback_days: Days of purchases that the models learn from.
        horizon_days: Days after an as-of day that label and judge.
        explicit: Learn from `rating`, see `fit_als`.

    Raises:
        NothingToJudge: nobody who is known bought anything in the horizon after.
    """
    past = Backtest(interactions, products, embeddings, lookback_days, horizon_days, explicit)
    return past.walk_forward(judged, recipe)


@dataclass(eq=False)
class Backtest:
    """A shop's log, as it could have been seen on past days. Parameters are those of `walk_forward`.

    Of each step the last result of each day is kept, and used again for a recipe that does not differ in anything the
    step depends on. What is large is kept as Parquet in `folder`, which Spark's tasks have to see; by default a
    temporary one, gone with this object. Spark's cache is cleared on the way, whoever filled it.
    """

    interactions: DataFrame
    products: pd.DataFrame
    embeddings: pd.DataFrame
    lookback_days: int
    horizon_days: int
    explicit: bool
    list_size: int = 20
    """Length of the lists. Nothing that is judged changes with it, only how long it takes."""
    folder: Path | None = None
    _kept: dict[tuple[str, dt.date], tuple[Any, Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="walk_forward_")
            self.folder = Path(self._temporary.name)

    def walk_forward(self, judged: dt.date, recipe: Recipe) -> BacktestResult:
        """See the function of that name."""
        truth = self._collect(self._bought_after(judged))
        if truth.empty:
            raise NothingToEvaluate(f"nobody bought anything in the {self.horizon_days} days after {judged}")
        shown = self.lists(judged, recipe)
        found = self.candidates(judged, recipe)
        history = self._collect(found.where("own_orders > 0").select(*_PAIR, "customer_orders"))
        orders = history.groupby("customer_id")["customer_orders"].first()
        slices = [part for part in make_slices(truth, history, orders) if part.name != NEW_CUSTOMERS]
        if slices[0].truth.empty:
            raise NothingToEvaluate(
                f"only new customers bought anything in the {self.horizon_days} days after {judged}"
            )
        return BacktestResult(
            judged,
            shown,
            {part.name: ranking_metrics(shown[shown["list"] == part.list_name], part.truth) for part in slices},
        )

    def lists(self, day: dt.date, recipe: Recipe) -> pd.DataFrame:
        """The tops of the lists of a day, LIST_COLUMNS."""
        found, blend = self.candidates(day, recipe), self.ranker(day, recipe)
        rows = self._collect(lists_in_spark(found, blend, self.products, self.list_size, versions={}).to_spark())
        return rows[[*LIST_COLUMNS]].sort_values(["customer_id", "list", "rank"], ignore_index=True)

    def ranker(self, day: dt.date, recipe: Recipe) -> Ranker:
        """The blend known on a day, learned from the candidates of a horizon ago and what was bought since."""
        before = day - dt.timedelta(days=self.horizon_days)
        sample = training_sample(self.candidates(before, recipe), self._bought_after(before), recipe.ranker)
        assert self.folder is not None  # since __post_init__
        return fit_ranker(collect_sample(sample, self.folder), recipe.ranker, seed=recipe.seed)

    def candidates(self, day: dt.date, recipe: Recipe) -> DataFrame:
        """The candidates of a day."""
        return self._once(
            "candidates",
            day,
            (recipe.als, recipe.co_purchase, recipe.candidates, recipe.seed),
            lambda name: self._stored(
                name, candidates_in_spark(self.known(day), self.state(day, recipe), recipe, versions={}).to_spark()
            ),
        )

    def state(self, day: dt.date, recipe: Recipe) -> ProductSnapshot:
        """What is known of the products on a day."""
        purchases, returned = self.purchases(day), self.known(day).where("weight < 0")
        recent = recipe.candidates.recent_days
        statistics = self._once(
            "statistics", day, recent, lambda _: product_statistics(purchases, returned, recent_days=recent).toPandas()
        )
        factors = self._once("factors", day, (recipe.als, recipe.seed), lambda _: self._factors(day, recipe))
        graph = self._once(
            "graph", day, recipe.co_purchase, lambda _: _collected(co_purchase_graph(purchases, recipe.co_purchase))
        )
        return build_product_snapshot(
            day,
            products=self.products,
            statistics=statistics,
            factors=factors,
            graph=graph,
            embeddings=self.embeddings,
        )

    def known(self, day: dt.date) -> DataFrame:
        """Net purchases, interest and returns of the lookback."""
        return self._once(
            "known",
            day,
            None,
            lambda name: self._stored(name, history_lines(self._days(day, self.lookback_days), day)),
        )

    def purchases(self, day: dt.date) -> DataFrame:
        """The net purchases of the lookback."""
        return self.known(day).where("weight >= 1")

    def _factors(self, day: dt.date, recipe: Recipe) -> pd.DataFrame:
        model = fit_als(self.known(day), recipe.als, seed=recipe.seed, explicit=self.explicit)
        return _collected(model.where("kind = 'product'").withColumnRenamed("id", "product_id"))

    def _bought_after(self, day: dt.date) -> DataFrame:
        """Distinct pairs bought in the horizon after a day."""
        end = day + dt.timedelta(days=self.horizon_days)
        return self._once(
            "bought",
            end,
            None,
            lambda name: self._stored(
                name, net_purchases(self._days(end, self.horizon_days), end).select(*_PAIR).distinct()
            ),
        )

    def _days(self, as_of: dt.date, days: int) -> DataFrame:
        """The interactions of so many days up to and including `as_of`, and of no later one."""
        from pyspark.sql import functions as F

        return self.interactions.where(F.col("date").between(as_of - dt.timedelta(days=days - 1), as_of))

    def _once(self, step: str, day: dt.date, depends_on: Any, make: Callable[[str], T]) -> T:
        """The result kept of a step and day, if it was made with the same; else the one made now, under a name."""
        if (step, day) not in self._kept or self._kept[step, day][0] != depends_on:
            self._kept[step, day] = (depends_on, make(f"{step}-{day}"))
        result: T = self._kept[step, day][1]
        return result

    def _collect(self, frame: DataFrame) -> pd.DataFrame:
        assert self.folder is not None  # since __post_init__
        return collect(frame, self.folder)

    def _stored(self, name: str, frame: DataFrame) -> DataFrame:
        """The frame as read back from Parquet: Spark's own cache would hold every trial's."""
        assert self.folder is not None  # since __post_init__
        path = (self.folder / name).as_posix()
        frame.write.mode("overwrite").parquet(path)
        return frame.sparkSession.read.schema(frame.schema).parquet(path)


def _collected(frame: DataFrame) -> pd.DataFrame:
    """The rows; what was persisted to compute them has then served."""
    rows = frame.toPandas()
    frame.sparkSession.catalog.clearCache()
    return rows


def _split(column: str) -> tuple[str, int]:
    metric, k = column.split("@")
    return metric, int(k)
