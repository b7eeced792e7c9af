"""Plans: which runs a new lake, a new day and new models need, oldest first."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.automation.plan import (
    NothingToTrain,
    PlanError,
    PlannedRun,
    plan_bootstrap,
    plan_refresh,
    plan_training,
    plan_training_or_refresh,
)
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import PROMOTED, Release
from rec_assets.settings import Settings


def _settings(**changed: int) -> Settings:
    return Settings.model_construct(
        **{"lookback_days": 365, "horizon_days": 28, "gate_days": 7, "reuse_days": 7, **changed}
    )


def test_the_demo_s_year_takes_twelve_runs_oldest_first() -> None:
    runs = plan_bootstrap(dt.date(2017, 1, 1), dt.date(2017, 12, 31), _settings())
    assert [str(run) for run in runs] == [
        "catalog",
        "ingest 2017-01-01 to 2017-12-31",
        "refresh_products",
        "learn 2017-11-05",
        "train 2017-12-03",
        "score 2017-12-03",
        "train 2017-12-31",
        "score 2017-12-31",
        "evaluate 2017-12-31",
        "report 2017-12-31",
        "release 2017-12-31",
        "publish 2017-12-31",
    ]


def test_only_the_days_that_the_oldest_model_looks_back_on_are_ingested() -> None:
    ingest = plan_bootstrap(dt.date(2017, 1, 1), dt.date(2017, 12, 31), _settings(lookback_days=60, horizon_days=14))[1]
    assert str(ingest) == "ingest 2017-10-05 to 2017-12-31"
    assert len(ingest.days) == 60 + 2 * 14


def test_two_horizons_and_a_day_are_just_enough() -> None:
    newest = dt.date(2017, 12, 31)
    runs = plan_bootstrap(newest - dt.timedelta(days=56), newest, _settings())
    assert str(runs[1]) == "ingest 2017-11-05 to 2017-12-31"


def test_key_figures_come_with_the_first_whole_period() -> None:
    newest = dt.date(2017, 12, 31)
    for days, reported in ((28, True), (27, False)):
        runs = plan_bootstrap(newest - dt.timedelta(days=days - 1), newest, _settings(horizon_days=13))
        assert ("report 2017-12-31" in in_words(runs)) == reported


def test_too_few_days_say_how_many_there_are_and_what_to_do() -> None:
    newest = dt.date(2017, 12, 31)
    with pytest.raises(
        PlanError, match=r"56 days of data .*are too few.*land more days, or set REC_HORIZON_DAYS to (\d+)"
    ) as found:
        plan_bootstrap(newest - dt.timedelta(days=55), newest, _settings())
    advised = int(str(found.value).rsplit(" ", 1)[1])
    assert plan_bootstrap(newest - dt.timedelta(days=55), newest, _settings(horizon_days=advised))


@pytest.mark.parametrize("days", [1, 2])
def test_days_that_no_horizon_fits_into_are_not_answered_with_one(days: int) -> None:
    newest = dt.date(2017, 12, 31)
    with pytest.raises(PlanError, match=rf"^{days} days? of data .*land more days$"):
        plan_bootstrap(newest - dt.timedelta(days=days - 1), newest, _settings())
    assert plan_bootstrap(newest - dt.timedelta(days=2), newest, _settings(horizon_days=1))


FIRST, NEWEST = dt.date(2017, 1, 1), dt.date(2018, 1, 20)


def champion(trained: dt.date) -> Release:
    return Release(
        version=1, as_of=trained, als_version=trained, graph_version=trained, ranker_version=trained,
        content="", decision=PROMOTED, rolled_back=False, run_id="", tags={},
    )  # fmt: skip


def lake_with(folder: Path, table: str, *days: dt.date) -> Lake:
    lake = Lake(folder)
    for day in days:
        lake.write(table, pd.DataFrame({"n": [1]}), day)
    return lake


def on(days_ago: int) -> dt.date:
    return NEWEST - dt.timedelta(days=days_ago)


def in_words(runs: list[PlannedRun]) -> list[str]:
    return [str(run) for run in runs]


def test_a_new_day_is_scored_and_published_by_the_models_in_force(tmp_path: Path) -> None:
    assert in_words(plan_refresh(FIRST, NEWEST, _settings(), Lake(tmp_path), champion(on(20)))) == [
        "catalog", "ingest 2017-01-21 to 2018-01-20", "refresh_products", "score 2018-01-20", "publish 2018-01-20",
        "report 2018-01-20",
    ]  # fmt: skip


@pytest.mark.parametrize(("lists_of", "watched"), [(1, True), (3, True), (7, True), (8, False), (0, False)])
def test_a_day_is_watched_where_lists_of_the_days_before_are_there(
    tmp_path: Path, lists_of: int, watched: bool
) -> None:
    runs = plan_refresh(
        FIRST, NEWEST, _settings(), lake_with(tmp_path, "hybrid_scores", on(lists_of)), champion(on(20))
    )
    assert ("watch 2018-01-20" in in_words(runs)) == watched


def test_without_a_release_nothing_is_published(tmp_path: Path) -> None:
    assert "publish 2018-01-20" not in in_words(plan_refresh(FIRST, NEWEST, _settings(), Lake(tmp_path), None))


def test_new_models_are_trained_as_of_days_ago_so_that_the_days_since_can_judge_them(tmp_path: Path) -> None:
    assert in_words(plan_training(FIRST, NEWEST, _settings(), Lake(tmp_path), champion(on(20)))) == [
        "catalog", "ingest 2017-01-01 to 2018-01-20", "refresh_products", "learn 2017-12-16", "train 2018-01-13",
        "report 2018-01-20", "release 2018-01-20", "score 2018-01-20", "publish 2018-01-20",
    ]  # fmt: skip


def test_candidates_that_are_there_are_found_again_only_if_stale_and_without_training(tmp_path: Path) -> None:
    lake = lake_with(tmp_path, "candidates", on(7 + 28))
    runs = in_words(plan_training(FIRST, NEWEST, _settings(), lake, champion(on(20))))
    assert runs[3:5] == ["find 2017-12-16", "train 2018-01-13"]


def test_a_retraining_reports_on_the_lists_of_a_horizon_ago_where_there_are_any(tmp_path: Path) -> None:
    for table in ("hybrid_scores", "candidates", "product_statistics"):
        lake = lake_with(tmp_path, table, on(28))
    runs = in_words(plan_training(FIRST, NEWEST, _settings(), lake, champion(on(20))))
    assert runs.index("evaluate 2018-01-20") < runs.index("release 2018-01-20")


@pytest.mark.parametrize("trained", [7, 6, 0])
def test_models_that_would_not_be_newer_than_the_champions_are_not_trained(tmp_path: Path, trained: int) -> None:
    judged_from = on(trained) + dt.timedelta(days=8)
    with pytest.raises(
        NothingToTrain, match=f"nothing to train yet: .* from {judged_from} on; the newest day is {NEWEST}"
    ):
        plan_training(FIRST, NEWEST, _settings(), Lake(tmp_path), champion(on(trained)))


def test_where_nothing_can_be_trained_yet_a_retraining_is_a_refresh_that_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    new, lake = champion(on(7)), Lake(tmp_path)
    runs = plan_training_or_refresh(FIRST, NEWEST, _settings(), lake, new, said.append)
    assert runs == plan_refresh(FIRST, NEWEST, _settings(), lake, new)
    assert [each.startswith("nothing to train yet") for each in said] == [True]


def test_too_few_days_to_train_on_are_told(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="which is before the first day, 2018-01-01"):
        plan_training(dt.date(2018, 1, 1), NEWEST, _settings(), Lake(tmp_path), champion(on(20)))
