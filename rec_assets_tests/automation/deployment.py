"""A deployment as a shop runs it: web server and daemon as processes, controlled through the GraphQL API of the UI."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dagster import DagsterRun, DagsterRunStatus, RunsFilter

from rec_assets.resources.releases import Releases
from rec_assets_tests.conftest import Shop, dagster_instance, free_port

LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "rec_assets.definitions"}

_START = """mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } } }"""
_STOP = """mutation($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }"""
_SENSOR = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
  ... on Sensor { id sensorState { status ticks(limit: 20) { tickId status skipReason runIds } } } } }"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


class Deployment:
    """`dagster dev` for a shop; you can `start` and `kill` it repeatedly."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.process, self.port = shop, None, 0
        self.log = shop.home.parent / "dagster-dev.log"
        self.instance = dagster_instance(shop.home)
        self.releases = Releases(f"sqlite:///{shop.home}/mlflow/mlflow.db", "product-recommender")

    def start(self) -> None:
        """Start the processes, and wait until the code location is loaded."""
        self.port = free_port()
        environment = {**self.shop.environment, "DAGSTER_HOME": str(self.shop.home / "dagster")}
        dagster = Path(sys.executable).with_name("dagster")
        command = [dagster, "dev", "-m", "rec_assets.definitions", "--port", str(self.port)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(  # type: ignore[assignment]
                command, env=environment, stdout=output, stderr=output, start_new_session=True,
                # Tests that run in the background of a shell ignore Ctrl-C; these processes must not inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        self.wait(
            "the code location to load", lambda: self._ask(_SENSOR, selector=_selector("purchase_logs_landed")), 180
        )

    def stop(self) -> None:
        """Stop the processes as Ctrl-C does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def kill(self) -> None:
        """Kill all processes at once."""
        assert self.process is not None
        for pid in _process_tree(self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    # ---- actions of a user of the UI ----

    def turn_on(self, *sensors: str) -> None:
        """Turn sensors on."""
        for name in sensors:
            answer = self._ask(_START, selector=_selector(name))["startSensor"]
            assert answer["__typename"] == "Sensor", answer

    def turn_off(self, *sensors: str) -> None:
        """Turn sensors off."""
        for name in sensors:
            sensor = self._ask(_SENSOR, selector=_selector(name))["sensorOrError"]
            self._ask(_STOP, id=sensor["id"])

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The newest ticks, newest first."""
        found = self._ask(_SENSOR, selector=_selector(sensor))["sensorOrError"]["sensorState"]["ticks"]
        return list(found)

    def launch(self, job: str, **tags: str) -> str:
        """Launch a job; returns the id of the run."""
        params = {
            "selector": {**LOCATION, "jobName": job},
            "mode": "default",
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask(_LAUNCH, params=params)["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    # ---- state ----

    def runs(self, job: str) -> list[DagsterRun]:
        """Runs of a job, oldest first."""
        return list(reversed(self.instance.get_runs(RunsFilter(job_name=job))))

    def status(self, run_id: str) -> DagsterRunStatus:
        """The status of a run."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def ended(self, job: str, count: int) -> Callable[[], bool]:
        """A function that checks whether so many runs of a job have ended."""

        def check() -> bool:
            return sum(run.is_finished for run in self.runs(job)) >= count

        return check

    def champion(self) -> int:
        """The version of the alias `champion`."""
        return int(self.releases.client.get_model_version_by_alias("product-recommender", "champion").version)

    def wait(self, what: str, until: Callable[[], Any], seconds: float) -> Any:
        """Wait until a function returns a true value; returns the value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := until():
                    return found
            except OSError:
                pass  # the web server is not up yet
            time.sleep(0.5)
        runs = [(run.job_name, run.status.value, dict(run.tags)) for run in self.instance.get_runs(limit=8)]
        raise AssertionError(f"waited {seconds} s for {what}; runs: {runs}; log: {self.log.read_text()[-3000:]}")

    def _ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        if "errors" in answer:
            raise OSError(str(answer["errors"])[:500])
        return answer["data"]


def _selector(sensor: str) -> dict[str, str]:
    return {**LOCATION, "sensorName": sensor}


def _process_tree(pid: int) -> list[int]:
    """A process and all its descendants, also those in other sessions."""
    import psutil

    try:
        parent = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [pid, *(child.pid for child in parent.children(recursive=True))]
