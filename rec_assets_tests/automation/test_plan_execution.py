"""Execution of plans: the plan lock, orphaned runs, and checks before a plan starts."""

from __future__ import annotations

import datetime as dt
import fcntl
from pathlib import Path

import pandas as pd
import pytest
from dagster import AssetKey, DagsterRun, DagsterRunStatus, Definitions

from rec_assets.automation.bootstrap import bootstrap
from rec_assets.automation.instance import open_instance
from rec_assets.automation.plan import PARENT_TAG, ExecutionError, PlanError
from rec_assets.automation.plan_execution import describe_stale, fail_orphaned_runs, require_cleaned_lines
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings
from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import load_data_source
from rec_assets_tests.shops import write_giftware_shop


def test_a_second_bootstrap_at_the_same_time_fails(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)))
    settings.root.mkdir()
    with (settings.root / ".bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ExecutionError, match=f"another plan is running in {settings.root}"):
            bootstrap(Definitions(), settings, load_data_source(settings.source, settings.root))
    assert [path.name for path in settings.root.iterdir()] == [".bootstrap.lock"]


def test_the_lock_is_released_when_a_plan_fails(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)), horizon_days=100)
    source = load_data_source(settings.source, settings.root)
    for _ in range(2):
        with pytest.raises(PlanError, match="too few"):
            bootstrap(Definitions(), settings, source)


@pytest.mark.integration
@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_orphaned_runs_of_a_killed_bootstrap_are_failed_whatever_their_status(
    tmp_path: Path, status: DagsterRunStatus
) -> None:
    # Regression: a run that was killed before it started stayed NOT_STARTED forever.
    settings = Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)), horizon_days=100)
    instance = open_instance(settings)
    unrelated = instance.add_run(DagsterRun(job_name="score_customers", status=status))
    orphaned = instance.add_run(DagsterRun(job_name="train_models", status=status, tags={PARENT_TAG: "1"}))
    fail_orphaned_runs(instance, settings)
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses == {unrelated.run_id: status, orphaned.run_id: DagsterRunStatus.FAILURE}


def test_a_file_of_a_future_day_is_an_error(tmp_path: Path) -> None:
    source = write_giftware_shop(tmp_path)
    folder = source.parent / "sales" / "2071-01"
    folder.mkdir()
    (folder / "invoices_01012071.csv").write_text("Invoice\n")
    settings = Settings(home=tmp_path / "home", source=str(source))
    with pytest.raises(SourceError, match="there is a file for 2071-01-01, "):
        bootstrap(Definitions(), settings, load_data_source(settings.source, settings.root))


def test_a_lookback_without_cleaned_lines_is_one_error_with_the_cleaning_rules(tmp_path: Path) -> None:
    lake, newest = Lake(tmp_path / "lake"), dt.date(2024, 3, 12)
    with pytest.raises(PlanError, match="no purchases to train on from 2024-03-10 to 2024-03-12: no line has landed"):
        require_cleaned_lines(lake, newest, lookback_days=3)
    nothing, rejected = pd.DataFrame({"line_id": pd.Series(dtype=str)}), pd.DataFrame({"reasons": ["has_customer"] * 2})
    lake.write("cleaned_interactions", nothing, newest)
    lake.write("rejected_purchases", rejected, newest)
    with pytest.raises(PlanError, match=r"were rejected \(2 by has_customer\): run `rec-assets check-source`"):
        require_cleaned_lines(lake, newest, lookback_days=3)
    lake.write("cleaned_interactions", pd.DataFrame({"line_id": ["1"]}), newest - dt.timedelta(days=3))
    with pytest.raises(PlanError):
        require_cleaned_lines(lake, newest, lookback_days=3)
    require_cleaned_lines(lake, newest, lookback_days=4)


def test_the_reasons_of_stale_partitions_are_grouped() -> None:
    first, second = dt.date(2024, 3, 1), dt.date(2024, 3, 2)
    raw, cleaned = AssetKey("raw_purchase_logs"), AssetKey("cleaned_interactions")
    stale = {(raw, first): "a landed file has changed since", (raw, second): "not in the lake"}
    stale |= dict.fromkeys(((cleaned, first), (cleaned, second)), "raw_purchase_logs is stale")
    assert describe_stale(stale) == [
        "    raw_purchase_logs (2024-03-01): a landed file has changed since",
        "    raw_purchase_logs (2024-03-02): not in the lake",
        "    cleaned_interactions (2 days, 2024-03-01 to 2024-03-02): raw_purchase_logs is stale",
    ]
    assert describe_stale({(AssetKey("products"), None): "never materialized"}) == ["    products: never materialized"]
