"""MLflow tracking: one MLflow run per Dagster run, with the same final status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from dagster import AssetsDefinition, DagsterInstance, asset, materialize
from dagster._core.errors import DagsterExecutionInterruptedError
from mlflow import MlflowClient
from mlflow.entities import Run

from rec_assets.resources.tracking import TrackingResource, end_dead_runs

pytestmark = pytest.mark.integration

EXPERIMENT = "shop"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for MLflow's database and artifacts, shared because creating the database takes seconds."""
    before = mlflow.get_tracking_uri()
    yield tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(before)


@pytest.fixture
def tracking(store: Path) -> TrackingResource:
    return TrackingResource(
        uri=f"sqlite:///{store / 'mlflow.db'}", artifacts=str(store / "artifacts"), experiment=EXPERIMENT,
        ui_url="http://localhost:5000",
    )  # fmt: skip


def _assets(end: Callable[[], None]) -> list[AssetsDefinition]:
    """Two assets with tracking; the second one runs `end`."""

    @asset
    def model(tracking: TrackingResource) -> None:
        tracking.mlflow.log_param("rank", 8)

    @asset(deps=[model])
    def scores(tracking: TrackingResource) -> None:
        tracking.mlflow.log_metric("rows", 3)
        end()

    return [model, scores]


def _run(tracking: TrackingResource, end: Callable[[], None]) -> str:
    """Materialize, ignore errors, and return the Dagster run's id."""
    with DagsterInstance.ephemeral() as instance:
        with contextlib.suppress(KeyboardInterrupt, DagsterExecutionInterruptedError):
            materialize(_assets(end), resources={"tracking": tracking}, instance=instance, raise_on_error=False)
        return instance.get_runs()[0].run_id


def _tracked(tracking: TrackingResource, dagster_run: str) -> list[Run]:
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], filter_string=f"tags.dagster_run_id = '{dagster_run}'")


def _raise(error: BaseException) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


def test_the_assets_of_a_dagster_run_share_one_finished_mlflow_run(tracking: TrackingResource) -> None:
    (run,) = _tracked(tracking, _run(tracking, lambda: None))
    assert run.info.status == "FINISHED"
    assert (run.data.params, run.data.metrics) == ({"rank": "8"}, {"rows": 3.0})
    assert mlflow.active_run() is None


def test_each_dagster_run_has_its_own_mlflow_run(tracking: TrackingResource) -> None:
    first, second = (_run(tracking, lambda: None) for _ in range(2))
    assert len({run.info.run_id for each in (first, second) for run in _tracked(tracking, each)}) == 2


def test_a_failed_asset_fails_the_mlflow_run(tracking: TrackingResource) -> None:
    (run,) = _tracked(tracking, _run(tracking, _raise(ValueError("no such thing"))))
    assert run.info.status == "FAILED"
    assert mlflow.active_run() is None


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, DagsterExecutionInterruptedError])
def test_an_interrupted_run_has_the_status_killed(
    tracking: TrackingResource, interruption: type[BaseException]
) -> None:
    (run,) = _tracked(tracking, _run(tracking, _raise(interruption())))
    assert run.info.status == "KILLED"
    assert mlflow.active_run() is None


def test_a_dagster_run_without_tracking_has_no_mlflow_run(tracking: TrackingResource, store: Path) -> None:
    @asset
    def plain(tracking: TrackingResource) -> None:
        pass

    with DagsterInstance.ephemeral() as instance:
        materialize([plain], resources={"tracking": tracking}, instance=instance)
        assert _tracked(tracking, instance.get_runs()[0].run_id) == []


def test_the_run_of_a_killed_process_gets_the_status_killed(tracking: TrackingResource, store: Path) -> None:
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    died, lives = (client.create_run(experiment.experiment_id, tags={"dagster_run_id": name}) for name in "ab")
    end_dead_runs(tracking.uri, tracking.artifacts, EXPERIMENT, lambda run: run == "a")
    assert client.get_run(died.info.run_id).info.status == "KILLED"
    assert client.get_run(lives.info.run_id).info.status == "RUNNING"
    client.set_terminated(lives.info.run_id)
