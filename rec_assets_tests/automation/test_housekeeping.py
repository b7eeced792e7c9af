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

from rec_assets.automation.freshness import Freshness
from rec_assets.automation.housekeeping import build_housekeeping
from rec_assets.automation.plan import plan_bootstrap
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.resources.storage import DELETED
from rec_assets.settings import Retention, Settings
from rec_assets.sources.spec import Source, load_source
from rec_assets_tests.shops import write_giftware_shop

NEWEST = dt.date(2017, 12, 31)
KEEP = 24  # the least for candidates, by the settings below
ROWS = 10


def ago(days: int) -> dt.date:
    return NEWEST - dt.timedelta(days=days)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("shop")
    return load_source(str(write_giftware_shop(folder)), folder)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, horizon_days=8, gate_days=7, lookback_days=20, retention=Retention(candidates=KEEP, ranker=40)
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


def keep_house(
    settings: Settings, source: Source, instance: DagsterInstance, *, dry_run: bool = False
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


def test_old_days_go_and_the_summary_says_how_many(
    settings: Settings, source: Source, lake: Lake, instance: DagsterInstance
) -> None:
    bytes_before = sum(lake.manifest("candidates", day).bytes for day in lake.days("candidates") if day <= ago(KEEP))
    result = keep_house(settings, source, instance)
    assert result.success
    assert lake.days("candidates") == [ago(age) for age in reversed(range(KEEP))]
    assert len(lake.days("raw_purchase_logs")) == 60
    assert lake.pandas("products")["product_id"].tolist() == ["a"]
    found = metadata(result)
    assert (found["newest_day"], found["days_deleted"]) == ("2017-12-31", 60 - KEEP)
    assert found["mb_freed"] == round(bytes_before / 1e6, 3)
    assert f"| candidates | {KEEP} | {60 - KEEP} | {(60 - KEEP) * ROWS} |" in found["freed"]
    assert "| raw_purchase_logs | all | 0 | 0 |" in found["freed"]


def test_a_second_time_deletes_nothing(
    settings: Settings, source: Source, lake: Lake, instance: DagsterInstance
) -> None:
    keep_house(settings, source, instance)
    result = keep_house(settings, source, instance)
    assert result.success and metadata(result)["days_deleted"] == 0


def test_a_dry_run_says_what_would_go_and_deletes_nothing(
    settings: Settings, source: Source, lake: Lake, instance: DagsterInstance
) -> None:
    result = keep_house(settings, source, instance, dry_run=True)
    assert metadata(result)["days_deleted"] == 60 - KEEP
    assert len(lake.days("candidates")) == 60


def test_killed_midway_the_next_one_does_the_rest(
    settings: Settings, source: Source, lake: Lake, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, calls = Lake.delete, []

    def die_at_the_fifth(self: Lake, table: str, day: dt.date) -> object:
        calls.append(day)
        if len(calls) == 5:
            (self.root / DELETED / "half").mkdir(parents=True)  # as a kill amid the removal of files leaves it
            raise SystemExit
        return delete(self, table, day)

    monkeypatch.setattr(Lake, "delete", die_at_the_fifth)
    assert not keep_house(settings, source, instance).success
    monkeypatch.undo()
    assert len(lake.days("candidates")) == 56
    assert keep_house(settings, source, instance).success
    assert len(lake.days("candidates")) == KEEP
    assert not list((lake.root / DELETED).glob("*"))


# ---- releases, in a real registry ----


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's database, which takes seconds to make."""
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
    versions = dict.fromkeys(("as_of", "als_version", "graph_version", "ranker_version"), day)
    about = {**versions, "recipe": Recipe().model_dump_json(), **tags}
    client.create_model_version(settings.registered_model, "file:///nowhere", tags=about)


def test_what_a_rollback_would_go_back_to_stays(
    settings: Settings, source: Source, lake: Lake, instance: DagsterInstance, registry: str
) -> None:
    settings = settings.model_copy(update={"mlflow_tracking_uri": registry, "registered_model": "rolled-back"})
    propose(settings, 50, decision="promoted")
    propose(settings, 45, decision="promoted")
    propose(settings, 40, decision="promoted", rolled_back="true")
    propose(settings, 35, decision="rejected")
    result = keep_house(settings, source, instance)
    assert result.success
    # Each with the candidates that its ranker learned from, a horizon of 8 days before.
    old = [ago(58), ago(53), ago(50), ago(45)]
    assert lake.days("candidates") == [*old, *(ago(age) for age in reversed(range(KEEP)))]
    kept = metadata(result)["kept_though_old"]
    assert "| candidates | version 2, in force | 2 |" in kept
    assert "| candidates | version 1, what a rollback goes back to | 2 |" in kept


def test_a_registry_that_knows_nothing_of_the_releases_stops_it(
    settings: Settings, source: Source, lake: Lake, instance: DagsterInstance
) -> None:
    lake.write("champion", pd.DataFrame({"version": ["1"]}), ago(3))
    result = keep_house(settings, source, instance)
    assert not result.success
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert "nothing was deleted" in failure.user_failure_data.description
    assert len(lake.days("candidates")) == 60


# ---- with bootstrap ----


def test_bootstrap_does_not_miss_what_went(
    settings: Settings, source: Source, lake: Lake, instance: DagsterInstance
) -> None:
    """Nothing that it plans is stale for having been deleted; what went is, and isn't planned."""

    @asset(partitions_def=DailyPartitionsDefinition(str(ago(59)), end_date=str(ago(-1))))
    def candidates() -> None: ...

    for age in range(60):
        instance.report_runless_asset_event(AssetMaterialization("candidates", partition=str(ago(age))))
    keep_house(settings, source, instance)
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    freshness = Freshness(Definitions(assets=[candidates]), instance, lake, releases, source, settings.feedback_landing)
    planned = {
        day for run in plan_bootstrap(ago(59), NEWEST, settings) if run.job in ("learn", "train") for day in run.days
    }
    key = AssetKey("candidates")
    assert len(planned) == 3 and not any(freshness.is_stale(key, day) for day in planned)
    assert freshness.is_stale(key, ago(50))


# ---- the schedule ----


@pytest.mark.parametrize(("own", "expected"), [(None, "Europe/London"), ("Asia/Tokyo", "Asia/Tokyo")])
def test_the_schedule_is_off_and_in_the_shops_time_zone(
    settings: Settings, source: Source, own: str | None, expected: str
) -> None:
    source = source.model_copy(update={"time_zone": "Europe/London"})
    settings = settings.model_copy(update={"schedule_time_zone": own, "housekeeping_cron": "30 4 * * *"})
    job, schedule = build_housekeeping(settings, source)
    assert schedule.default_status == DefaultScheduleStatus.STOPPED
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * *", expected)
    Definitions.validate_loadable(
        Definitions(jobs=[job], schedules=[schedule], resources={"lake": Lake(settings.lake)})
    )
