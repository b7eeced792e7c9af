"""Housekeeping: the job on a real lake, instance and model registry."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterEventType,
    DagsterInstance,
    DailyPartitionsDefinition,
    DefaultScheduleStatus,
    Definitions,
    ExecuteInProcessResult,
    asset,
)
from mlflow import MlflowClient

from rec_assets.automation.housekeeping import build_housekeeping
from rec_assets.automation.plan import plan_bootstrap
from rec_assets.automation.staleness import StalenessChecker
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import RetentionSettings, Settings
from rec_assets.sources.spec import DataSource, load_data_source
from rec_assets_tests.shops import write_giftware_shop

pytestmark = pytest.mark.integration

NEWEST = dt.date(2017, 12, 31)
KEEP = 24  # the minimum for candidates with the settings below
ROWS = 10


def ago(days: int) -> dt.date:
    return NEWEST - dt.timedelta(days=days)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    folder = tmp_path_factory.mktemp("shop")
    return load_data_source(str(write_giftware_shop(folder)), folder)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        horizon_days=8,
        gate_days=7,
        lookback_days=20,
        retention=RetentionSettings(candidates=KEEP, ranker=40),
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """Purchases and candidates of 60 days."""
    lake = Lake(settings.lake)
    for age in range(60):
        for table in ("raw_purchase_logs", "candidates"):
            lake.write(table, pd.DataFrame({"n": [age] * ROWS}), ago(age))
    lake.write("products", pd.DataFrame({"product_id": ["a"]}))
    return lake


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def run_housekeeping(
    settings: Settings, source: DataSource, instance: DagsterInstance, *, dry_run: bool = False
) -> ExecuteInProcessResult:
    job, schedule = build_housekeeping(settings, source)
    definitions = Definitions(jobs=[job], schedules=[schedule], resources={"lake": Lake(settings.lake)})
    config = {"ops": {"delete_old_days": {"config": {"dry_run": dry_run}}}}
    return definitions.resolve_job_def("housekeeping").execute_in_process(
        instance=instance, run_config=config, raise_on_error=False
    )


def metadata(result: ExecuteInProcessResult) -> dict[str, Any]:
    (output,) = [event for event in result.all_events if event.event_type == DagsterEventType.STEP_OUTPUT]
    return {name: value.value for name, value in output.event_specific_data.metadata.items()}


def test_old_days_are_deleted_and_counted_in_the_metadata(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance
) -> None:
    candidates = lake.table("candidates")
    bytes_before = sum(candidates.partitions[day].bytes for day in candidates.days if day <= ago(KEEP))
    result = run_housekeeping(settings, source, instance)
    assert result.success
    assert lake.table("candidates").days == [ago(age) for age in reversed(range(KEEP))]
    assert len(lake.table("raw_purchase_logs").days) == 60
    assert lake.table("products").pandas()["product_id"].tolist() == ["a"]
    found = metadata(result)
    assert (found["newest_day"], found["days_deleted"]) == ("2017-12-31", 60 - KEEP)
    assert found["mb_deleted"] == round(bytes_before / 1e6, 3)
    assert f"| candidates | {KEEP} | {60 - KEEP} | {(60 - KEEP) * ROWS} |" in found["deleted"]
    assert "| raw_purchase_logs | all | 0 | 0 |" in found["deleted"]


def test_a_second_run_deletes_nothing(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance
) -> None:
    run_housekeeping(settings, source, instance)
    result = run_housekeeping(settings, source, instance)
    assert result.success and metadata(result)["days_deleted"] == 0


def test_a_dry_run_counts_the_days_and_deletes_nothing(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance
) -> None:
    result = run_housekeeping(settings, source, instance, dry_run=True)
    assert metadata(result)["days_deleted"] == 60 - KEEP
    assert len(lake.table("candidates").days) == 60


def test_the_run_after_a_kill_deletes_the_rest(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Lake, "vacuum", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        assert not run_housekeeping(settings, source, instance).success
    assert len(lake.table("candidates").days) == KEEP
    assert run_housekeeping(settings, source, instance).success
    assert len(lake.table("candidates").days) == KEEP


def test_files_of_replaced_partitions_are_vacuumed_unless_a_release_needs_them(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance, registry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    settings = settings.model_copy(update={"mlflow_tracking_uri": registry, "registered_model": "remade"})
    needed = lake.table("candidates").version
    for number in range(2):
        lake.write("candidates", pd.DataFrame({"n": [-number]}), NEWEST)
    propose(settings, 5, decision="promoted", table_versions=f'{{"candidates": {needed}}}')
    assert metadata(run_housekeeping(settings, source, instance))["files_vacuumed"] == 0, "a reader may need them"
    vacuum = Lake.vacuum
    monkeypatch.setattr(Lake, "vacuum", lambda *args, **more: vacuum(*args, **{**more, "hours": 0}))
    run_housekeeping(settings, source, instance)
    assert lake.at({"candidates": needed or 0}).table("candidates").pandas([NEWEST])["n"].tolist() == [0] * ROWS
    assert len(list((lake.root / "candidates" / f"date={NEWEST}").iterdir())) == 2, "the newest and the needed file"


# ---- releases, in a real registry ----


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's database, whose creation takes seconds."""
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    MlflowClient(uri, uri).search_registered_models()
    yield uri
    mlflow.set_tracking_uri(before)


def propose(settings: Settings, age: int, **tags: str) -> None:
    client = MlflowClient(settings.mlflow_uri, settings.mlflow_uri)
    if not client.search_registered_models(f"name = '{settings.registered_model}'"):
        client.create_registered_model(settings.registered_model)
    day = str(ago(age))
    versions = dict.fromkeys(("as_of", "als_as_of", "graph_as_of", "ranker_as_of"), day)
    about = {**versions, "recipe": Recipe().model_dump_json(), **tags}
    client.create_model_version(settings.registered_model, "file:///nowhere", tags=about)


def test_models_that_a_rollback_needs_are_kept(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance, registry: str
) -> None:
    settings = settings.model_copy(update={"mlflow_tracking_uri": registry, "registered_model": "rolled-back"})
    for age in range(60):
        lake.write("ranker", pd.DataFrame({"n": [age]}), ago(age))
    propose(settings, 50, decision="promoted")
    propose(settings, 45, decision="promoted")
    propose(settings, 42, decision="promoted", rolled_back="true")
    propose(settings, 41, decision="rejected")
    result = run_housekeeping(settings, source, instance)
    assert result.success
    assert lake.table("ranker").days == [ago(50), ago(45), *(ago(age) for age in reversed(range(40)))]
    kept = metadata(result)["kept_old_days"]
    assert "| ranker | version 2, active | 1 |" in kept
    assert "| ranker | version 1, target of a rollback | 1 |" in kept


def test_a_registry_without_the_releases_stops_housekeeping(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance
) -> None:
    lake.write("champion", pd.DataFrame({"version": ["1"]}), ago(3))
    result = run_housekeeping(settings, source, instance)
    assert not result.success
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert "deletes nothing" in failure.user_failure_data.description
    assert len(lake.table("candidates").days) == 60


# ---- with bootstrap ----


def test_bootstrap_does_not_need_deleted_partitions(
    settings: Settings, source: DataSource, lake: Lake, instance: DagsterInstance
) -> None:
    """No planned partition is stale because it was deleted. Deleted partitions are stale, but not planned."""

    @asset(partitions_def=DailyPartitionsDefinition(str(ago(59)), end_date=str(ago(-1))))
    def candidates() -> None: ...

    for age in range(60):
        instance.report_runless_asset_event(AssetMaterialization("candidates", partition=str(ago(age))))
    run_housekeeping(settings, source, instance)
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    checker = StalenessChecker(
        Definitions(assets=[candidates]), instance, lake, releases, source, settings.feedback_landing
    )
    planned = {
        day
        for run in plan_bootstrap(ago(59), NEWEST, settings)
        if run.job in ("train_retrieval", "train_models")
        for day in run.days
    }
    key = AssetKey("candidates")
    assert len(planned) == 3 and not any(checker.stale_reason(key, day) for day in planned)
    assert checker.stale_reason(key, ago(50)) == "not in the lake"


# ---- the schedule ----


@pytest.mark.parametrize(("own", "expected"), [(None, "Europe/London"), ("Asia/Tokyo", "Asia/Tokyo")])
def test_the_schedule_is_off_by_default_and_in_the_time_zone_of_the_shop(
    settings: Settings, source: DataSource, own: str | None, expected: str
) -> None:
    source = source.model_copy(update={"time_zone": "Europe/London"})
    settings = settings.model_copy(update={"schedule_time_zone": own, "housekeeping_cron": "30 4 * * *"})
    job, schedule = build_housekeeping(settings, source)
    assert schedule.default_status == DefaultScheduleStatus.STOPPED
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * *", expected)
    Definitions.validate_loadable(
        Definitions(jobs=[job], schedules=[schedule], resources={"lake": Lake(settings.lake)})
    )
