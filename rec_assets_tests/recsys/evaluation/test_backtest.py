"""Walking forward: what comes out for a past day rests on what was known then, and is what the graph makes of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from rec_assets.recsys.evaluation import backtest as module
from rec_assets.recsys.evaluation.backtest import Backtest, BacktestResult, walk_forward
from rec_assets.recsys.evaluation.metrics import ranking_metrics
from rec_assets.recsys.ranking.ranker import TrainingSample
from rec_assets.recsys.recipe import AlsRecipe, CoPurchaseRecipe, RankerRecipe, Recipe
from rec_assets_tests.two_tastes import FIRST, cleaned_lines, embeddings, products

RECIPE = Recipe(
    als=AlsRecipe(rank=4, iterations=2, min_buyers=1),
    co_purchase=CoPurchaseRecipe(min_support=2),
    ranker=RankerRecipe(rounds=20, min_child_weight=1),
)
HORIZON, LOOKBACK = 6, 20
JUDGED = FIRST + dt.timedelta(days=32)
LEARNED = JUDGED - dt.timedelta(days=HORIZON)
TYPES = (
    "date date, customer_id string, product_id string, order_id string, line_id string, event string, "
    "event_time timestamp, weight double, net_quantity double, unit_price double, rating double"
)


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    yield (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .getOrCreate()
    )


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return cleaned_lines(42)


@pytest.fixture(scope="module")
def past(spark: SparkSession, lines: pd.DataFrame) -> Backtest:
    return _past(spark, lines)


@pytest.fixture(scope="module")
def judged(past: Backtest) -> BacktestResult:
    return past.walk_forward(JUDGED, RECIPE)


def _past(spark: SparkSession, lines: pd.DataFrame) -> Backtest:
    return Backtest(_frame(spark, lines), _products(), embeddings(), LOOKBACK, HORIZON, explicit=False)


def _products() -> pd.DataFrame:
    """With one more tea, first seen on the day after."""
    known = products()
    late = known.tail(1).assign(product_id="tea99", first_seen=JUDGED + dt.timedelta(days=1))
    return pd.concat([known, late], ignore_index=True)


def _frame(spark: SparkSession, lines: pd.DataFrame) -> DataFrame:
    names = [column.split()[0] for column in TYPES.split(", ")]
    return spark.createDataFrame(lines[names].astype({"rating": float}), schema=TYPES)


def _swapped(lines: pd.DataFrame, first: dt.date, last: dt.date) -> pd.DataFrame:
    """Everybody buys the other taste on these days."""
    on_days = (lines["date"] >= first) & (lines["date"] <= last)
    assert on_days.any()
    other = lines["product_id"].map(lambda name: f"cake{name[-2:]}" if name.startswith("tea") else f"tea{name[-2:]}")
    return lines.assign(product_id=lines["product_id"].where(~on_days, other))


def _ndcg(lists: pd.DataFrame, lines: pd.DataFrame) -> float:
    """By the purchases of the horizon after the day, worked out without Spark."""
    after = lines[(lines["date"] > JUDGED) & (lines["date"] <= JUDGED + dt.timedelta(days=HORIZON))]
    truth = after[["customer_id", "product_id"]].drop_duplicates()
    return float(ranking_metrics(lists[lists["list"] == "all"], truth)["ndcg@10"].mean())


def test_customers_are_shown_what_they_like_and_go_on_to_buy(judged: BacktestResult) -> None:
    for name in ("all", "discover"):
        top = judged.lists[(judged.lists["list"] == name) & (judged.lists["rank"] <= 5)]
        assert (top["product_id"].str.startswith("tea") == (top["customer_id"] < "c12")).mean() > 0.95
    assert judged.ndcg > 0.3
    assert judged.novel_ndcg > 0.2


def test_metrics_are_means_over_the_customers_of_each_slice(judged: BacktestResult, lines: pd.DataFrame) -> None:
    metrics = judged.metrics.set_index(["slice", "metric", "k"])
    assert metrics.loc[("all", "ndcg", 10), "value"] == judged.ndcg == pytest.approx(_ndcg(judged.lists, lines))
    assert metrics.loc[("novel", "ndcg", 10), "value"] == judged.novel_ndcg
    assert metrics.loc[("all", "ndcg", 10), "customers"] == 24
    assert set(metrics.index.get_level_values("slice")) >= {"all", "novel", "cold products"}


def test_no_list_knows_what_was_bought_after_its_day_or_before_the_lookback(
    spark: SparkSession, lines: pd.DataFrame, judged: BacktestResult
) -> None:
    day = dt.timedelta(days=1)
    changed = _swapped(_swapped(lines, JUDGED + day, lines["date"].max()), FIRST, LEARNED - LOOKBACK * day)
    other = walk_forward(
        _frame(spark, changed), _products(), embeddings(), judged=JUDGED, recipe=RECIPE, lookback_days=LOOKBACK,
        horizon_days=HORIZON, explicit=False,
    )  # fmt: skip
    pd.testing.assert_frame_equal(other.lists, judged.lists)
    assert other.ndcg == pytest.approx(_ndcg(judged.lists, changed))
    assert other.ndcg < judged.ndcg / 2


def test_the_horizon_before_the_day_labels_the_ranker_but_makes_none_of_its_candidates(
    spark: SparkSession, lines: pd.DataFrame, past: Backtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[TrainingSample] = []
    monkeypatch.setattr(module, "fit_ranker", lambda sample, *_, **__: samples.append(sample))
    whole = RECIPE.with_fields({"ranker.negatives": 1.0})
    for each in (past, _past(spark, _swapped(lines, LEARNED + dt.timedelta(days=1), JUDGED))):
        each.ranker(JUDGED, whole)
    one, other = samples
    np.testing.assert_array_equal(one.features, other.features)
    assert (one.bought != other.bought).any()


def test_products_first_seen_later_are_neither_candidates_nor_listed(past: Backtest, judged: BacktestResult) -> None:
    assert past.candidates(JUDGED, RECIPE).where("product_id = 'tea99'").isEmpty()
    assert "tea99" not in set(judged.lists["product_id"]) and "tea00" in set(judged.lists["product_id"])


def test_what_a_recipe_does_not_change_is_computed_once_and_the_rest_anew(
    past: Backtest, judged: BacktestResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def count(name: str) -> None:
        original = getattr(module, name)

        def counted(*args, **options):  # type: ignore[no-untyped-def]
            made.append(name)
            return original(*args, **options)

        monkeypatch.setattr(module, name, counted)

    for name in ("fit_als", "co_purchase_graph", "candidates_in_spark", "fit_ranker"):
        count(name)
    pd.testing.assert_frame_equal(past.lists(JUDGED, RECIPE), judged.lists)
    past.lists(JUDGED, RECIPE.with_fields({"ranker.rounds": 3}))
    assert made == ["fit_ranker"] * 2
    made.clear()
    found = past.lists(JUDGED, RECIPE.with_fields({"co_purchase.half_life_days": 2.0}))
    assert sorted(made) == sorted(["co_purchase_graph", "candidates_in_spark"] * 2 + ["fit_ranker"])
    assert not found.equals(judged.lists)


def test_a_day_after_which_nobody_bought_anything_says_so(past: Backtest, lines: pd.DataFrame) -> None:
    last = lines["date"].max()
    with pytest.raises(ValueError, match=f"nobody bought anything in the {HORIZON} days after {last}"):
        past.walk_forward(last, RECIPE)
