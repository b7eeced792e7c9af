"""Assets materialized on Databricks end to end: Dagster, HTTP, a remote process with Spark, the lake, and back.

The workspace is a test double (`double.py`); the wheel, the process, Spark, the lake and both Dagsters are real.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult
from mlflow import MlflowClient

from rec_assets.automation.plan import ExecutionError, PlannedRun
from rec_assets.automation.plan_execution import day_range_tags, run_plan
from rec_assets.definitions import build_definitions
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings
from rec_assets.sources.spec import load_data_source
from rec_assets_tests.databricks.double import (
    BROKEN_CLUSTER,
    CLUSTER,
    TOKEN,
    WAITING_CLUSTER,
    Workspace,
    build_wheel,
)
from rec_assets_tests.shops import write_giftware_shop

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
VOLUME = "/Volumes/main/shop/state"
FIRST, DAY = dt.date(2010, 12, 1), dt.date(2010, 12, 5)


@dataclass(frozen=True)
class Host:
    """A machine with Dagster, and the workspace that materializes its assets."""

    workspace: Workspace
    folder: Path
    wheel: str

    @property
    def lake(self) -> Lake:
        """The lake in the volume."""
        return Lake(self.workspace.local(VOLUME) / "lake")

    def settings(self, *, sees_volume: bool = False, **databricks: object) -> Settings:
        volume = self.workspace.local(VOLUME)
        place = {
            "cluster_id": CLUSTER, "volume": VOLUME, "wheel": self.wheel, "poll_seconds": 0.2,
            "assets": "spark" if sees_volume else "all",
        }  # fmt: skip
        return Settings(
            home=volume if sees_volume else self.folder / "home",
            source=str(self.folder / "shop" / "giftware.yaml"),
            lookback_days=4,
            mlflow_tracking_uri=f"sqlite:///{self.folder}/mlflow.db",
            databricks={**place, "source": f"{VOLUME}/shop/giftware.yaml", **databricks},
        )

    def run(self, settings: Settings, job: str, assets: set[str], *days: dt.date) -> ExecuteInProcessResult:
        """Run assets of a job: unpartitioned, for one day, or for a range of days."""
        return build_definitions(settings).resolve_job_def(job).execute_in_process(
            instance=DagsterInstance.ephemeral(),
            asset_selection=[AssetKey(name) for name in assets],
            partition_key=days[0].isoformat() if len(days) == 1 else None,
            tags=day_range_tags(*days) if len(days) == 2 else None,
            raise_on_error=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("databricks")
    workspace = Workspace(folder / "workspace", VOLUME)
    volume = workspace.local(VOLUME)
    (volume / "wheels").mkdir(parents=True)
    wheel = build_wheel(REPOSITORY, volume / "wheels")
    write_giftware_shop(folder / "shop")
    (volume / "shop").symlink_to(folder / "shop")
    with workspace.serve(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABRICKS_HOST", workspace.url)
        patch.setenv("DATABRICKS_TOKEN", TOKEN)
        yield Host(workspace, folder, f"{VOLUME}/wheels/{wheel.name}")


@pytest.fixture(scope="module")
def ingested(host: Host) -> ExecuteInProcessResult:
    """Five days, read and cleaned on Databricks in one run."""
    settings = host.settings()
    assert host.run(settings, "ingest_catalog", {"raw_product_catalog", "catalog_ids"}).success
    assets = {"raw_purchase_logs", "raw_feedback_events", "cleaned_interactions", "rejected_purchases"}
    return host.run(settings, "ingest", assets, FIRST, DAY)


@pytest.mark.parametrize("assets", ["spark", "all"])
def test_databricks_does_not_change_the_asset_graph(tmp_path: Path, assets: str) -> None:
    def shape(definitions: Definitions) -> object:
        graph = definitions.resolve_asset_graph()
        nodes = {
            key: (
                {(dep.asset_key, dep.partition_mapping) for dep in node.assets_def.specs_by_key[key].deps},
                node.partitions_def, node.group_name, node.kinds, node.owners, node.code_version, node.description,
                node.backfill_policy,
            )
            for key in graph.get_all_asset_keys() if (node := graph.get(key))
        }  # fmt: skip
        checks = {key: graph.get_check_spec(key).blocking for key in graph.asset_check_keys}
        jobs = {job.name: job.asset_layer.selected_asset_keys for job in definitions.resolve_all_job_defs()}
        return nodes, checks, jobs

    here = Settings(home=tmp_path, source=str(write_giftware_shop(tmp_path)), mlflow_tracking_uri="databricks")
    place = {"cluster_id": CLUSTER, "volume": VOLUME, "wheel": "rec_assets.whl", "assets": assets}
    there = Settings(**{**here.model_dump(exclude_unset=True), "databricks": place})
    assert shape(build_definitions(there)) == shape(build_definitions(here))


@pytest.mark.slow
def test_a_machine_without_the_lake_gets_metadata_and_check_results(
    host: Host, ingested: ExecuteInProcessResult
) -> None:
    assert ingested.success
    assert not (host.folder / "home" / "lake").exists()
    assert host.lake.table("cleaned_interactions").days == [FIRST + dt.timedelta(days=number) for number in range(5)]
    rows = {
        event.partition: event.materialization.metadata["dagster/row_count"].value
        for event in ingested.get_asset_materialization_events()
        if event.asset_key == AssetKey("cleaned_interactions")
    }
    assert rows == {
        str(day): host.lake.table("cleaned_interactions").rows([day])
        for day in host.lake.table("rejected_purchases").days
    }
    checks = {check.check_name: check for check in ingested.get_asset_check_evaluations()}
    assert checks["no_line_is_lost"].passed and checks["no_line_is_lost"].description
    runs = MlflowClient(f"sqlite:///{host.folder}/mlflow.db").search_runs(["1"])
    assert [run.data.tags["dagster_run_id"] for run in runs] == [ingested.run_id]
    assert host.workspace.rejected == []


@pytest.mark.slow
def test_a_spark_asset_is_materialized_on_databricks_with_its_metadata(
    host: Host, ingested: ExecuteInProcessResult
) -> None:
    found = host.run(
        host.settings(sees_volume=True), "train_retrieval", {"customer_histories", "product_statistics"}, DAY
    )
    assert found.success
    (event,) = found.asset_materializations_for_node("product_statistics")
    manifest = host.lake.table("product_statistics").partitions.get(DAY)
    assert manifest is not None and manifest.rows > 50
    assert event.partition == str(DAY)
    assert event.metadata["dagster/row_count"].value == manifest.rows
    assert event.metadata["fingerprint"].value == manifest.fingerprint
    assert event.metadata["dagster/column_schema"].value.columns[0].name == "product_id"
    assert event.metadata["Databricks Job Run URL"].value.startswith(host.workspace.url)
    assert list((host.workspace.local(VOLUME) / "tmp").iterdir()) == []  # message files are deleted
    assert host.workspace.rejected == []


@pytest.mark.slow
def test_a_failed_task_reports_its_reason(host: Host, ingested: ExecuteInProcessResult) -> None:
    later = dt.date(2011, 1, 5)
    found = host.run(host.settings(sees_volume=True), "train_retrieval", {"customer_histories"}, later)
    reason = found.failure_data_for_node("customer_histories").user_failure_data.description
    assert "cleaned_interactions: day 2011-01-02 and 3 more days is not in the lake" in reason
    assert f"{host.workspace.url}/jobs/runs/" in reason
    assert not found.get_asset_materialization_events()


@pytest.mark.slow
def test_a_run_that_never_starts_reports_its_reason(host: Host) -> None:
    found = host.run(host.settings(cluster_id=BROKEN_CLUSTER), "train_retrieval", {"product_statistics"}, DAY)
    reason = found.failure_data_for_node("product_statistics").user_failure_data.description
    assert "waiting for the cluster to be ready: out of capacity" in reason
    assert not found.get_asset_materialization_events()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "databricks", "reason"),
    [
        ({}, {"cluster_id": "no-such"}, "the workspace rejected the task: Cluster no-such does not exist"),
        ({}, {"wheel": f"{VOLUME}/wheels/old.whl"}, "the workspace rejected the task: Library old.whl does not exist"),
        ({"DATABRICKS_TOKEN": "expired"}, {}, "the workspace rejected the task: Credential was not sent"),
        ({"DATABRICKS_HOST": ""}, {}, "can't connect to a Databricks workspace: set DATABRICKS_HOST"),
    ],
)
def test_a_request_that_the_workspace_rejects_is_reported(
    host: Host, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], databricks: dict[str, str], reason: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = host.run(host.settings(**databricks), "train_retrieval", {"product_statistics"}, DAY)
    assert reason in found.failure_data_for_node("product_statistics").user_failure_data.description


@pytest.mark.slow
def test_an_interrupted_run_is_canceled_on_databricks(host: Host) -> None:
    host.workspace.on_waiting = lambda: os.kill(os.getpid(), signal.SIGINT)
    found = host.run(host.settings(cluster_id=WAITING_CLUSTER), "train_retrieval", {"product_statistics"}, DAY)
    assert "Execution was interrupted" in found.all_events[-1].message
    assert not found.get_asset_materialization_events()
    *_, last = host.workspace.runs.values()
    assert last.canceled


@pytest.mark.slow
def test_a_plan_on_a_machine_without_the_lake_fails(host: Host) -> None:
    settings = host.settings()
    source = load_data_source(settings.source, settings.root)
    with pytest.raises(ExecutionError, match="run the bundle's job on Databricks instead"):
        run_plan(
            [PlannedRun("ingest_catalog")], Definitions(), DagsterInstance.ephemeral(), settings, source,
            parent="1", log=print,
        )  # fmt: skip
