"""A backtest uses only data up to its as-of day."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from rec_assets.recsys.evaluation import backtest as module
from rec_assets.recsys.evaluation.backtest import Backtest, BacktestResult
from rec_assets.recsys.evaluation.metrics import ranking_metrics
from rec_assets.recsys.ranking.ranker import Batch
from rec_assets.recsys.recipe import AlsRecipe, CoPurchaseRecipe, RankerRecipe, Recipe
from rec_assets_tests.two_tastes import FIRST, cleaned_lines, embeddings, products

pytestmark = pytest.mark.slow  # two backtests; test_tuning runs others in `make test`

RECIPE = Recipe(
    als=AlsRecipe(rank=4, iterations=2, min_buyers=1),
    co_purchase=CoPurchaseRecipe(min_support=2),
    ranker=RankerRecipe(rounds=20, min_child_weight=1),
)
HORIZON, LOOKBACK = 6, 20
AS_OF = FIRST + dt.timedelta(days=32)
TRAINED = AS_OF - dt.timedelta(days=HORIZON)
TYPES = (
    "date date, customer_id string, product_id string, variant_id string, order_id string, line_id string, "
    "event string, event_time timestamp, weight double, net_quantity double, unit_price double, rating double, "
    "wrong_size boolean"
)


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return cleaned_lines(42)


@pytest.fixture(scope="module")
def backtest(spark: SparkSession, lines: pd.DataFrame) -> Backtest:
    return _backtest(spark, lines)


@pytest.fixture(scope="module")
def result(backtest: Backtest) -> BacktestResult:
    return backtest.evaluate(AS_OF, RECIPE)


def _backtest(spark: SparkSession, lines: pd.DataFrame) -> Backtest:
    return Backtest(_frame(spark, lines), _products(), embeddings(), LOOKBACK, HORIZON, explicit=False)


def _products() -> pd.DataFrame:
    """With one more product, first seen one day after the as-of day."""
    known = products()
    late = known.tail(1).assign(product_id="tea99", first_seen=AS_OF + dt.timedelta(days=1))
    return pd.concat([known, late], ignore_index=True)


def _frame(spark: SparkSession, lines: pd.DataFrame) -> DataFrame:
    names = [column.split()[0] for column in TYPES.split(", ")]
    return spark.createDataFrame(lines[names].astype({"rating": float}), schema=TYPES)


def _swapped(lines: pd.DataFrame, first: dt.date, last: dt.date) -> pd.DataFrame:
    """All customers buy the other taste on these days."""
    on_days = (lines["date"] >= first) & (lines["date"] <= last)
    assert on_days.any()
    other = lines["product_id"].map(lambda name: f"cake{name[-2:]}" if name.startswith("tea") else f"tea{name[-2:]}")
    return lines.assign(product_id=lines["product_id"].where(~on_days, other))


def _ndcg(lists: pd.DataFrame, lines: pd.DataFrame) -> float:
    """Mean NDCG@10 for the purchases of the horizon, computed without Spark."""
    after = lines[(lines["date"] > AS_OF) & (lines["date"] <= AS_OF + dt.timedelta(days=HORIZON))]
    truth = after[["customer_id", "product_id"]].drop_duplicates()
    return float(ranking_metrics(lists[lists["list"] == "all"], truth)["ndcg@10"].mean())


def test_lists_match_the_tastes_of_customers(result: BacktestResult) -> None:
    for name in ("all", "discover"):
        top = result.lists[(result.lists["list"] == name) & (result.lists["rank"] <= 5)]
        assert (top["product_id"].str.startswith("tea") == (top["customer_id"] < "c12")).mean() > 0.95
    assert result.ndcg > 0.3
    assert result.novel_ndcg > 0.2


def test_each_slice_has_one_row_for_each_customer(result: BacktestResult, lines: pd.DataFrame) -> None:
    assert result.ndcg == pytest.approx(_ndcg(result.lists, lines))
    assert len(result.per_customer["all"]) == 24
    assert set(result.per_customer) >= {"all", "novel", "cold products"}


def test_lists_do_not_use_purchases_after_the_day_or_before_the_lookback(
    spark: SparkSession, lines: pd.DataFrame, result: BacktestResult
) -> None:
    day = dt.timedelta(days=1)
    changed = _swapped(_swapped(lines, AS_OF + day, lines["date"].max()), FIRST, TRAINED - LOOKBACK * day)
    other = _backtest(spark, changed).evaluate(AS_OF, RECIPE)
    pd.testing.assert_frame_equal(other.lists, result.lists)
    assert other.ndcg == pytest.approx(_ndcg(result.lists, changed))
    assert other.ndcg < result.ndcg / 2


def test_the_horizon_before_the_day_only_labels_the_training_sample(
    spark: SparkSession, lines: pd.DataFrame, backtest: Backtest, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[Batch] = []
    monkeypatch.setattr(module, "fit_ranker", lambda sample, *_, **__: samples.extend(sample.batches()))
    all_negatives = RECIPE.with_fields({"ranker.negatives": 1.0})
    for each in (backtest, _backtest(spark, _swapped(lines, TRAINED + dt.timedelta(days=1), AS_OF))):
        each.ranker(AS_OF, all_negatives)
    (features, bought), (other_features, other_bought) = samples
    np.testing.assert_array_equal(features, other_features)
    assert (bought != other_bought).any()


def test_products_first_seen_later_are_neither_candidates_nor_listed(
    backtest: Backtest, result: BacktestResult
) -> None:
    assert backtest.candidates(AS_OF, RECIPE).where("product_id = 'tea99'").isEmpty()
    assert "tea99" not in set(result.lists["product_id"]) and "tea00" in set(result.lists["product_id"])


def test_steps_are_computed_again_only_if_their_parameters_change(
    backtest: Backtest, result: BacktestResult, monkeypatch: pytest.MonkeyPatch
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
    pd.testing.assert_frame_equal(backtest.lists(AS_OF, RECIPE), result.lists)
    backtest.lists(AS_OF, RECIPE.with_fields({"ranker.rounds": 3}))
    assert made == ["fit_ranker"] * 2
    made.clear()
    lists = backtest.lists(AS_OF, RECIPE.with_fields({"co_purchase.half_life_days": 2.0}))
    assert sorted(made) == sorted(["co_purchase_graph", "candidates_in_spark"] * 2 + ["fit_ranker"])
    assert not lists.equals(result.lists)


def test_a_day_without_later_purchases_is_an_error(backtest: Backtest, lines: pd.DataFrame) -> None:
    last = lines["date"].max()
    with pytest.raises(ValueError, match=f"nobody bought anything in the {HORIZON} days after {last}"):
        backtest.evaluate(last, RECIPE)
