"""Running plans: only one at a time, and what a killed one left behind is ended."""

from __future__ import annotations

import datetime as dt
import fcntl
from pathlib import Path

import pandas as pd
import pytest
from dagster import DagsterRun, DagsterRunStatus, Definitions

from rec_assets.automation.bootstrap import bootstrap
from rec_assets.automation.execution import PARENT_TAG, ExecutionError, end_orphans, open_instance, require_lines
from rec_assets.automation.plan import PlanError
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings
from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import load_source
from rec_assets_tests.shops import write_giftware_shop


def test_a_second_bootstrap_at_the_same_time_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)))
    settings.root.mkdir()
    with (settings.root / ".bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ExecutionError, match=f"another bootstrap is at work in {settings.root}"):
            bootstrap(Definitions(), settings, load_source(settings.source, settings.root))
    assert [path.name for path in settings.root.iterdir()] == [".bootstrap.lock"]


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)), horizon_days=100)
    source = load_source(settings.source, settings.root)
    for _ in range(2):
        with pytest.raises(PlanError, match="too few"):
            bootstrap(Definitions(), settings, source)


@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_what_a_killed_bootstrap_left_behind_is_ended_wherever_it_was(tmp_path: Path, status: DagsterRunStatus) -> None:
    # A run killed between being recorded and being started stayed NOT_STARTED for ever.
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)), horizon_days=100)
    instance = open_instance(settings)
    theirs = instance.add_run(DagsterRun(job_name="score", status=status))
    ours = instance.add_run(DagsterRun(job_name="train", status=status, tags={PARENT_TAG: "1"}))
    end_orphans(instance, settings)
    found = {run.run_id: run.status for run in instance.get_runs()}
    assert found == {theirs.run_id: status, ours.run_id: DagsterRunStatus.FAILURE}


def test_a_file_of_the_future_is_named_and_nothing_is_planned_up_to_it(tmp_path: Path) -> None:
    source = write_giftware_shop(tmp_path)
    folder = source.parent / "sales" / "2071-01"
    folder.mkdir()
    (folder / "invoices_01012071.csv").write_text("Invoice\n")
    settings = Settings(home=tmp_path / "home", source=str(source))
    with pytest.raises(SourceError, match="a file has landed for 2071-01-01, which lies in the future"):
        bootstrap(Definitions(), settings, load_source(settings.source, settings.root))


def test_a_lookback_without_a_line_that_counts_is_one_error_that_says_what_refused_them(tmp_path: Path) -> None:
    lake, newest = Lake(tmp_path / "lake"), dt.date(2024, 3, 12)
    with pytest.raises(PlanError, match="no line of 2024-03-10 to 2024-03-12 counts: none has landed"):
        require_lines(lake, newest, lookback_days=3)
    nothing, refused = pd.DataFrame({"line_id": pd.Series(dtype=str)}), pd.DataFrame({"reasons": ["has_customer"] * 2})
    lake.write("cleaned_interactions", nothing, newest)
    lake.write("rejected_purchases", refused, newest)
    with pytest.raises(PlanError, match=r"were refused \(2 by has_customer\): `rec-assets check-source`"):
        require_lines(lake, newest, lookback_days=3)
    lake.write("cleaned_interactions", pd.DataFrame({"line_id": ["1"]}), newest - dt.timedelta(days=3))
    with pytest.raises(PlanError):
        require_lines(lake, newest, lookback_days=3)
    require_lines(lake, newest, lookback_days=4)
