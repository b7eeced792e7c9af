"""Bootstrap: which runs a newest day needs, and that only one bootstrap is ever at work."""

from __future__ import annotations

import datetime as dt
import fcntl
from pathlib import Path

import pytest
from dagster import DagsterRun, DagsterRunStatus, Definitions

from rec_assets.automation.bootstrap import BOOTSTRAP_TAG, BootstrapError, bootstrap, open_instance, plan
from rec_assets.settings import Settings
from rec_assets.sources.spec import load_source
from rec_assets_tests.shops import write_giftware_shop


def _settings(**changed: int) -> Settings:
    return Settings.model_construct(**{"lookback_days": 365, "horizon_days": 28, **changed})


def test_the_demo_s_year_takes_nine_runs_oldest_first() -> None:
    runs = plan(dt.date(2017, 1, 1), dt.date(2017, 12, 31), _settings())
    assert [str(run) for run in runs] == [
        "catalogue",
        "ingest 2017-01-01 to 2017-12-31",
        "refresh_products",
        "learn 2017-11-05",
        "train 2017-12-03",
        "score 2017-12-03",
        "train 2017-12-31",
        "score 2017-12-31",
        "evaluate 2017-12-31",
    ]


def test_only_the_days_that_the_oldest_model_looks_back_on_are_ingested() -> None:
    ingest = plan(dt.date(2017, 1, 1), dt.date(2017, 12, 31), _settings(lookback_days=60, horizon_days=14))[1]
    assert str(ingest) == "ingest 2017-10-05 to 2017-12-31"
    assert len(ingest.days) == 60 + 2 * 14


def test_two_horizons_and_a_day_are_just_enough() -> None:
    newest = dt.date(2017, 12, 31)
    runs = plan(newest - dt.timedelta(days=56), newest, _settings())
    assert str(runs[1]) == "ingest 2017-11-05 to 2017-12-31"


def test_too_few_days_say_how_many_there_are_and_what_to_do() -> None:
    newest = dt.date(2017, 12, 31)
    with pytest.raises(
        BootstrapError, match=r"56 days of data .*are too few.*land more days, or set REC_HORIZON_DAYS to (\d+)"
    ) as found:
        plan(newest - dt.timedelta(days=55), newest, _settings())
    advised = int(str(found.value).rsplit(" ", 1)[1])
    assert plan(newest - dt.timedelta(days=55), newest, _settings(horizon_days=advised))


def test_a_second_bootstrap_at_the_same_time_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)))
    settings.root.mkdir()
    with (settings.root / ".bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BootstrapError, match=f"another bootstrap is at work in {settings.root}"):
            bootstrap(Definitions(), settings, load_source(settings.source, settings.root))
    assert [path.name for path in settings.root.iterdir()] == [".bootstrap.lock"]


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)), horizon_days=100)
    source = load_source(settings.source, settings.root)
    for _ in range(2):
        with pytest.raises(BootstrapError, match="too few"):
            bootstrap(Definitions(), settings, source)


@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_what_a_killed_bootstrap_left_behind_is_ended_wherever_it_was(tmp_path: Path, status: DagsterRunStatus) -> None:
    # A run killed between being recorded and being started stayed NOT_STARTED for ever.
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)), horizon_days=100)
    instance = open_instance(settings)
    theirs = instance.add_run(DagsterRun(job_name="score", status=status))
    ours = instance.add_run(DagsterRun(job_name="train", status=status, tags={BOOTSTRAP_TAG: "1"}))
    with pytest.raises(BootstrapError, match="too few"):
        bootstrap(Definitions(), settings, load_source(settings.source, settings.root))
    found = {run.run_id: run.status for run in instance.get_runs()}
    assert found == {theirs.run_id: status, ours.run_id: DagsterRunStatus.FAILURE}
