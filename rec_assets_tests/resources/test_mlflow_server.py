"""Releases on a real MLflow server with PostgreSQL and proxied artifacts."""

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from dagster import DagsterInstance, asset, materialize

from rec_assets.assets.model_artifact import ReleaseProposal, register_model
from rec_assets.automation.rollback import roll_back
from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.resources.releases import PROMOTED, Release, Releases
from rec_assets.resources.tracking import TrackingResource, end_dead_runs
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.settings import Settings
from rec_assets_tests.conftest import free_port, wait_for
from rec_assets_tests.serving import shop


@pytest.fixture
def server(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of the server. A client sees none of its files."""
    port, before = free_port(), mlflow.get_tracking_uri()
    command = [
        Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1",
        "--backend-store-uri", database, "--artifacts-destination", (tmp_path / "artifacts").as_uri(),
    ]  # fmt: skip
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    with (tmp_path / "mlflow.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=tmp_path)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        mlflow.set_tracking_uri(before)


def release(settings: Settings, as_of: dt.date, index: Index) -> Release:
    """Register an index as an asset does, and promote it."""
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    models = dict.fromkeys(("als_as_of", "graph_as_of", "ranker_as_of"), str(as_of))
    tags = {"as_of": str(as_of), **models, "recipe": shop.RECIPE.model_dump_json(), "content": f"models of {as_of}"}

    @asset
    def challenger(tracking: TrackingResource) -> None:
        register_model(
            tracking, releases, ReleaseProposal(tags, {"als_model": {str(as_of): {"fingerprint": "0f"}}}), index.save
        )

    tracking = TrackingResource(
        uri=settings.mlflow_uri, artifacts=str(settings.root / "nowhere"), experiment="shop",
        ui_url=settings.mlflow_ui_base_url,
    )  # fmt: skip
    with DagsterInstance.ephemeral() as instance:
        assert materialize([challenger], resources={"tracking": tracking}, instance=instance).success
    found = releases.versions()[-1]
    releases.set_decision(found.version, PROMOTED, {"reasons": "…"})
    return releases.get(found.version)


def test_the_whole_life_of_a_release_works_over_http(server: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", mlflow_tracking_uri=server)
    assert settings.mlflow_ui_base_url == server
    releases, serving, index = (
        Releases(server, settings.registered_model),
        ServingFolder(settings.serving),
        shop.index(),
    )
    assert releases.active() is None

    first = release(settings, shop.AS_OF, index)
    second = release(settings, shop.AS_OF + dt.timedelta(days=7), index)
    client = releases.client
    assert releases.active() == second
    assert client.get_model_version_by_alias(settings.registered_model, "champion").version == str(second.version)
    assert releases.load_inputs(first) == {"als_model": {str(shop.AS_OF): {"fingerprint": "0f"}}}
    assert client.get_run(first.run_id).info.status == "FINISHED"
    assert client.get_run(first.run_id).info.artifact_uri.startswith("mlflow-artifacts:")

    # The serving folder has no index: the rollback downloads it from the server.
    champion, published = roll_back(settings)
    assert champion.version == first.version == published.version
    assert client.get_model_version_by_alias(settings.registered_model, "champion").version == str(first.version)
    assert serving.current() == published
    found = Index.load(published.path)
    assert list(found.histories.customers) == list(index.histories.customers)

    gone = str(index.histories.customers[0].decode())
    kept = found.without({customer_digest(gone): shop.AS_OF})
    kept.save(tmp_path / "without")
    releases.replace_index(first, tmp_path / "without")
    releases.download_index(first, tmp_path / "again")
    again = Index.load(tmp_path / "again").histories.customers
    assert gone.encode() not in again and list(again) == list(kept.histories.customers)
    assert not (settings.root / "mlflow").exists() and not (settings.root / "nowhere").exists()


def test_a_dead_run_is_ended_over_http(server: str, tmp_path: Path) -> None:
    client = Releases(server, "model").client
    experiment = client.create_experiment("shop")
    run = client.create_run(experiment, tags={"dagster_run_id": "dead"})
    alive = client.create_run(experiment, tags={"dagster_run_id": "alive"})
    end_dead_runs(server, str(tmp_path), "shop", lambda run_id: run_id == "dead")
    assert client.get_run(run.info.run_id).info.status == "KILLED"
    assert client.get_run(alive.info.run_id).info.status == "RUNNING"
