"""Running plans: only one at a time, and what a killed one left behind is ended."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from dagster import DagsterRun, DagsterRunStatus, Definitions

from rec_assets.automation.bootstrap import bootstrap
from rec_assets.automation.execution import PARENT_TAG, ExecutionError, end_orphans, open_instance
from rec_assets.automation.plan import PlanError
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
