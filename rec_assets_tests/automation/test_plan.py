"""Plans: which runs a new lake, a new day and new models need, oldest first."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.automation.plan import (
    PlanError,
    PlannedRun,
    plan_bootstrap,
    plan_daily_update,
    plan_retraining,
)
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import PROMOTED, Release
from rec_assets.settings import Settings


def _settings(**changed: int) -> Settings:
    return Settings.model_construct(
        **{"lookback_days": 365, "horizon_days": 28, "gate_days": 7, "model_reuse_days": 7, **changed}
    )


def test_the_year_of_the_demo_needs_twelve_runs_oldest_first() -> None:
    runs = plan_bootstrap(dt.date(2017, 1, 1), dt.date(2017, 12, 31), _settings())
    assert [str(run) for run in runs] == [
        "ingest_catalog",
        "ingest 2017-01-01 to 2017-12-31",
        "update_products",
        "train_retrieval 2017-11-05",
        "train_models 2017-12-03",
        "score_customers 2017-12-03",
        "train_models 2017-12-31",
        "score_customers 2017-12-31",
        "evaluate 2017-12-31",
        "report_kpis 2017-12-31",
        "release 2017-12-31",
        "publish_index 2017-12-31",
    ]


def test_only_the_lookback_of_the_oldest_model_is_ingested() -> None:
    ingest = plan_bootstrap(dt.date(2017, 1, 1), dt.date(2017, 12, 31), _settings(lookback_days=60, horizon_days=14))[1]
    assert str(ingest) == "ingest 2017-10-05 to 2017-12-31"
    assert len(ingest.days) == 60 + 2 * 14


def test_two_horizons_and_a_day_are_enough() -> None:
    newest = dt.date(2017, 12, 31)
    runs = plan_bootstrap(newest - dt.timedelta(days=56), newest, _settings())
    assert str(runs[1]) == "ingest 2017-11-05 to 2017-12-31"


def test_kpis_are_reported_from_the_first_whole_period_on() -> None:
    newest = dt.date(2017, 12, 31)
    for days, reported in ((28, True), (27, False)):
        runs = plan_bootstrap(newest - dt.timedelta(days=days - 1), newest, _settings(horizon_days=13))
        assert ("report_kpis 2017-12-31" in names(runs)) == reported


def test_the_error_for_too_few_days_suggests_a_horizon() -> None:
    newest = dt.date(2017, 12, 31)
    with pytest.raises(
        PlanError, match=r"56 days of data .*are too few.*land more days, or set REC_HORIZON_DAYS to (\d+)"
    ) as found:
        plan_bootstrap(newest - dt.timedelta(days=55), newest, _settings())
    advised = int(str(found.value).rsplit(" ", 1)[1])
    assert plan_bootstrap(newest - dt.timedelta(days=55), newest, _settings(horizon_days=advised))


@pytest.mark.parametrize("days", [1, 2])
def test_the_error_for_one_or_two_days_suggests_no_horizon(days: int) -> None:
    newest = dt.date(2017, 12, 31)
    with pytest.raises(PlanError, match=rf"^{days} days? of data .*land more days$"):
        plan_bootstrap(newest - dt.timedelta(days=days - 1), newest, _settings())
    assert plan_bootstrap(newest - dt.timedelta(days=2), newest, _settings(horizon_days=1))


FIRST, NEWEST = dt.date(2017, 1, 1), dt.date(2018, 1, 20)


def champion(trained: dt.date) -> Release:
    return Release(
        version=1, as_of=trained, als_as_of=trained, graph_as_of=trained, ranker_as_of=trained,
        content="", decision=PROMOTED, rolled_back=False, run_id="", tags={},
    )  # fmt: skip


def lake_with(folder: Path, table: str, *days: dt.date) -> Lake:
    lake = Lake(folder)
    for day in days:
        lake.write(table, pd.DataFrame({"n": [1]}), day)
    return lake


def on(days_ago: int) -> dt.date:
    return NEWEST - dt.timedelta(days=days_ago)


def names(runs: list[PlannedRun]) -> list[str]:
    return [str(run) for run in runs]


def test_a_daily_update_scores_and_publishes_with_the_active_models(tmp_path: Path) -> None:
    assert names(plan_daily_update(FIRST, NEWEST, _settings(), Lake(tmp_path), champion(on(20)))) == [
        "ingest_catalog", "ingest 2017-01-21 to 2018-01-20", "update_products", "score_customers 2018-01-20",
        "publish_index 2018-01-20", "report_kpis 2018-01-20",
    ]  # fmt: skip


@pytest.mark.parametrize(("lists_of", "measured"), [(1, True), (3, True), (7, True), (8, False), (0, False)])
def test_live_accuracy_is_measured_if_there_are_lists_of_the_days_before(
    tmp_path: Path, lists_of: int, measured: bool
) -> None:
    runs = plan_daily_update(
        FIRST, NEWEST, _settings(), lake_with(tmp_path, "hybrid_scores", on(lists_of)), champion(on(20))
    )
    assert ("measure_live_accuracy 2018-01-20" in names(runs)) == measured


def test_without_a_release_nothing_is_published(tmp_path: Path) -> None:
    assert "publish_index 2018-01-20" not in names(plan_daily_update(FIRST, NEWEST, _settings(), Lake(tmp_path), None))


def test_new_models_are_trained_as_of_gate_days_ago(tmp_path: Path) -> None:
    assert names(plan_retraining(FIRST, NEWEST, _settings(), Lake(tmp_path), champion(on(20)), print)) == [
        "ingest_catalog", "ingest 2017-01-01 to 2018-01-20", "update_products", "train_retrieval 2017-12-16",
        "train_models 2018-01-13", "report_kpis 2018-01-20", "release 2018-01-20", "score_customers 2018-01-20",
        "publish_index 2018-01-20",
    ]  # fmt: skip


def test_existing_candidates_are_generated_again_without_training(tmp_path: Path) -> None:
    lake = lake_with(tmp_path, "candidates", on(7 + 28))
    runs = names(plan_retraining(FIRST, NEWEST, _settings(), lake, champion(on(20)), print))
    assert runs[3:5] == ["generate_candidates 2017-12-16", "train_models 2018-01-13"]


def test_a_retraining_evaluates_the_lists_of_a_horizon_ago_if_there_are_any(tmp_path: Path) -> None:
    for table in ("hybrid_scores", "candidates", "product_snapshot"):
        lake = lake_with(tmp_path, table, on(28))
    runs = names(plan_retraining(FIRST, NEWEST, _settings(), lake, champion(on(20)), print))
    assert runs.index("evaluate 2018-01-20") < runs.index("release 2018-01-20")


@pytest.mark.parametrize("trained", [7, 6, 0])
def test_a_retraining_is_a_daily_update_while_the_champion_is_too_new_for_a_comparison(
    tmp_path: Path, trained: int
) -> None:
    messages: list[str] = []
    new, lake, comparable_from = champion(on(trained)), Lake(tmp_path), on(trained) + dt.timedelta(days=8)
    runs = plan_retraining(FIRST, NEWEST, _settings(), lake, new, messages.append)
    assert runs == plan_daily_update(FIRST, NEWEST, _settings(), lake, new)
    (message,) = messages
    assert message.startswith("nothing to train yet: ")
    assert message.endswith(f" from {comparable_from} on; the newest day is {NEWEST}")


def test_too_few_days_to_train_on_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="which is before the first day, 2018-01-01"):
        plan_retraining(dt.date(2018, 1, 1), NEWEST, _settings(), Lake(tmp_path), champion(on(20)), print)
