"""A shared deployment as processes: code servers, daemon and web server with one PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from rec_assets.automation.instance import DATABASE_VARIABLE, open_instance
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings
from rec_assets_tests.conftest import SMALL, Shop, free_port, wait_for
from rec_assets_tests.shops import GIFTWARE_DAYS, write_giftware_shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOCATIONS = ("one", "two")

_LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


class Parts:
    """The processes, each with the environment of compose.yaml. They reach each other only through ports."""

    def __init__(self, folder: Path, database: str) -> None:
        self.shop = Shop(
            folder / "home", write_giftware_shop(folder / "shop"), settings={**SMALL, DATABASE_VARIABLE: database}
        )
        self.environment = {**self.shop.environment, "DAGSTER_HOME": str(self.shop.home / "dagster")}
        settings = Settings(home=self.shop.home, dagster_database_url=database)
        self.instance: DagsterInstance = open_instance(settings)
        self.folder, self.running = folder, {}
        self.ports = {name: free_port() for name in (*LOCATIONS, "web")}
        entries = [
            {"grpc_server": {"host": "127.0.0.1", "port": self.ports[name], "location_name": name}}
            for name in LOCATIONS
        ]
        (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": entries}))

    def start(self, name: str, *command: str) -> None:
        program, *rest = command
        with (self.folder / f"{name}.log").open("ab") as output:
            self.running[name] = subprocess.Popen(
                [str(Path(sys.executable).with_name(program)), *rest], env=self.environment, stdout=output,
                stderr=output, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        if name in self.ports:
            wait_for(self.ports[name], self.running[name], 180)

    def start_code(self, name: str) -> None:
        self.start(
            name, "dagster", "code-server", "start", "--host=127.0.0.1", f"--port={self.ports[name]}",
            "--module-name=rec_assets.definitions",
        )  # fmt: skip

    def stop(self) -> None:
        for process in self.running.values():
            kill(process.pid)
            process.wait(30)
        self.instance.dispose()

    def launch(self, location: str, job: str, **tags: str) -> str:
        params = {
            "selector": {"repositoryName": "__repository__", "repositoryLocationName": location, "jobName": job},
            "mode": "default", "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }  # fmt: skip
        body = json.dumps({"query": _LAUNCH, "variables": {"params": params}}).encode()
        url = f"http://127.0.0.1:{self.ports['web']}/graphql"
        with urllib.request.urlopen(
            urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=60
        ) as response:
            answer = json.load(response)
        assert answer.get("data", {}).get("launchPipelineExecution", {}).get("run"), answer
        return str(answer["data"]["launchPipelineExecution"]["run"]["runId"])

    def status(self, run_id: str) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def wait(self, what: str, until: Callable[[], Any], seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if until():
                return
            time.sleep(0.5)
        logs = {name: (self.folder / f"{name}.log").read_text()[-1500:] for name in self.running}
        raise AssertionError(
            f"waited {seconds} s for {what}: {[run.status for run in self.instance.get_runs()]} {logs}"
        )


def kill(pid: int) -> None:
    """Kill a process and its descendants."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for member in [*process.children(recursive=True), process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Parts]:
    import sqlalchemy as sa

    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE parts")
    engine.dispose()
    url = postgres.replace("+psycopg:", "+psycopg2:").replace("/postgres?", "/parts?")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATABASE_VARIABLE, url)
        patch.setenv("DAGSTER_HOME", "")
        found = Parts(tmp_path_factory.mktemp("parts"), url)
        try:
            for name in LOCATIONS:
                found.start_code(name)
            found.start("daemon", "dagster-daemon", "run", "--workspace=workspace.yaml")
            found.start(
                "web",
                "dagster-webserver",
                "--host=127.0.0.1",
                f"--port={found.ports['web']}",
                "--workspace=workspace.yaml",
            )
            yield found
        finally:
            found.stop()


def test_each_code_server_executes_runs(parts: Parts) -> None:
    day = str(GIFTWARE_DAYS[0])
    runs = [parts.launch("one", "ingest_catalog"), parts.launch("two", "ingest_catalog")]
    parts.wait("both catalogs", lambda: all(parts.status(run) is DagsterRunStatus.SUCCESS for run in runs))
    runs.append(parts.launch("two", "ingest", **{"dagster/partition": day}))
    parts.wait("the day", lambda: parts.status(runs[-1]) is DagsterRunStatus.SUCCESS)
    places = [json.loads(parts.instance.get_run_by_id(run).tags[GRPC_INFO_TAG])["port"] for run in runs]  # type: ignore[union-attr]
    assert places == [parts.ports[name] for name in ("one", "two", "two")]
    lake = Lake(parts.shop.home / "lake")
    assert [str(each) for each in lake.table("cleaned_interactions").days] == [day]
    assert lake.table("raw_purchase_logs").rows(lake.table("raw_purchase_logs").days) > 0


def test_the_health_of_a_run_is_checked_at_its_code_server(parts: Parts) -> None:
    """The process id means nothing on another machine."""

    def health(port: int) -> WorkerStatus:
        place = json.dumps({"host": "127.0.0.1", "port": port})
        run = parts.instance.add_run(
            DagsterRun(job_name="score_customers", status=DagsterRunStatus.STARTED, tags={GRPC_INFO_TAG: place})
        )
        try:
            return parts.instance.run_launcher.check_run_worker_health(run).status
        finally:
            parts.instance.delete_run(run.run_id)

    assert health(parts.ports["one"]) is WorkerStatus.FAILED, "the server has no such run"
    assert health(free_port()) is WorkerStatus.RUNNING, "the server does not respond"


def test_a_run_whose_code_server_was_killed_is_detected_and_retried(parts: Parts) -> None:
    """The server restarts as a container does, and executes another run of the same job."""
    day = str(GIFTWARE_DAYS[1])
    first = parts.launch("one", "ingest", **{"dagster/partition": day})
    parts.wait("the run to start", lambda: parts.status(first) is DagsterRunStatus.STARTED)
    kill(parts.running["one"].pid)
    parts.running["one"].wait(30)
    assert parts.status(first) is DagsterRunStatus.STARTED
    parts.start_code("one")
    parts.wait("the run to be failed", lambda: parts.status(first) is DagsterRunStatus.FAILURE)

    def is_retried() -> bool:
        return any(
            run.root_run_id == first and run.run_id != first and run.status is DagsterRunStatus.SUCCESS
            for run in parts.instance.get_runs()
        )

    parts.wait("the retry", is_retried)
    assert day in map(str, Lake(parts.shop.home / "lake").table("cleaned_interactions").days)
