"""A test double of a Databricks workspace: the parts of the Jobs and Files APIs that Dagster Pipes uses, over HTTP.

It implements: bearer tokens; one-off runs of one wheel task, each a process that runs the submitted wheel with an
existing Spark session; run states, output and cancellation; files and folders of one volume. It checks every request:
fields that the types of databricks-sdk or this double don't know are rejected, and recorded in `rejected`.

It does not implement: users and permissions; clusters (three ids are known, see below) and their start; installing the
dependencies of the wheel (the task uses this environment); FUSE and its limits on writing; Unity Catalog except the
volume; rate limits; pages of listings; every other API. `/Volumes` is a folder of the test, and paths in the
parameters of a task are rewritten to it.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dagster_pipes import decode_param, encode_param
from databricks.sdk.service.jobs import JobsAPI, SubmitTask

CLUSTER = "0101-120000-works"
BROKEN_CLUSTER = "0101-120000-broken"
"""A cluster that can't start."""
WAITING_CLUSTER = "0101-120000-waiting"
"""A cluster whose tasks wait forever."""

TOKEN = "dapi0123456789"

TASK = """
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

from pyspark.sql import SparkSession

SparkSession.builder.master("local[2]").appName("Databricks Shell").config("spark.ui.enabled", "false").getOrCreate()
distribution, name = PathDistribution(Path(sys.argv[1])), sys.argv[2]
sys.argv = sys.argv[2:]
(entry_point,) = [e for e in distribution.entry_points if e.name == name]
try:
    entry_point.load()()
except SystemExit as end:
    raise RuntimeError(f"SystemExit: {end}") from None
"""


@dataclass
class Run:
    """A one-off run and the process of its task."""

    name: str
    cluster: str
    process: subprocess.Popen[str] | None = None
    output: str | None = None
    canceled: bool = False

    @property
    def state(self) -> dict[str, str]:
        if self.canceled:
            return {"life_cycle_state": "TERMINATED", "result_state": "CANCELED", "state_message": "Run cancelled."}
        if self.cluster == BROKEN_CLUSTER:
            message = "Unexpected failure while waiting for the cluster to be ready: out of capacity"
            return {"life_cycle_state": "INTERNAL_ERROR", "result_state": "FAILED", "state_message": message}
        if self.process is None:
            return {"life_cycle_state": "PENDING", "state_message": "Waiting for cluster"}
        if self.output is None:
            return {"life_cycle_state": "RUNNING", "state_message": "In run"}
        if self.process.returncode == 0:
            return {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS", "state_message": ""}
        message = "Workload failed, see run output for details"
        return {"life_cycle_state": "TERMINATED", "result_state": "FAILED", "state_message": message}


class Rejected(Exception):
    """A request that the service would reject."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Workspace:
    """A workspace in a folder.

    Attributes:
        root: Holds `Volumes`.
        volume: The only volume, as /Volumes/….
        on_waiting: Called when the state of a waiting run is requested.
    """

    root: Path
    volume: str
    url: str = ""
    runs: dict[int, Run] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    on_waiting: Callable[[], None] = lambda: None

    def local(self, path: str) -> Path:
        """The local path of a path in the volume."""
        if not (path == self.volume or path.startswith(f"{self.volume}/")) or ".." in path:
            raise Rejected(404, "NOT_FOUND", f"{path} is in no volume")
        return self.root / path.lstrip("/")

    @contextmanager
    def serve(self) -> Iterator[Workspace]:
        """Serve requests in the context; at its end, the processes of tasks are killed."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"workspace": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            for run in self.runs.values():
                if run.process is not None and run.process.poll() is None:
                    run.process.kill()

    # ---- jobs ----

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        unknown = body.keys() - inspect.signature(JobsAPI.submit).parameters.keys()
        if unknown or len(body["tasks"]) != 1:
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"unknown fields {unknown}, or more tasks than one")
        task = SubmitTask.from_dict(body["tasks"][0])
        if task.as_dict() != body["tasks"][0]:  # the service does not know what the type drops
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"unknown fields in {body['tasks'][0]}")
        wheel_task, libraries = task.python_wheel_task, task.libraries or []
        if task.existing_cluster_id not in (CLUSTER, BROKEN_CLUSTER, WAITING_CLUSTER):
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"Cluster {task.existing_cluster_id} does not exist")
        if wheel_task is None or len(libraries) != 1 or not libraries[0].whl:
            raise Rejected(400, "INVALID_PARAMETER_VALUE", "this double runs only tasks of one wheel")
        run = Run(body.get("run_name", "Untitled"), task.existing_cluster_id)
        self.runs[number := len(self.runs) + 1] = run
        if run.cluster == CLUSTER:
            distribution = self._install(self.local(libraries[0].whl), wheel_task.package_name)
            parameters = self._rewritten(wheel_task.parameters or [])
            command = [sys.executable, "-c", TASK, str(distribution), wheel_task.entry_point, *parameters]
            threading.Thread(target=self._execute, args=(run, command, distribution.parent), daemon=True).start()
        return {"run_id": number}

    def _install(self, wheel: Path, package: str) -> Path:
        if not wheel.is_file():
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"Library {wheel.name} does not exist")
        folder = self.root / "installed" / wheel.stem
        if not folder.exists():
            with zipfile.ZipFile(wheel) as files:
                files.extractall(folder)
        (distribution,) = folder.glob("*.dist-info")
        if not distribution.name.startswith(f"{package}-"):
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"{wheel.name} is not a wheel of {package}")
        return distribution

    def _rewritten(self, parameters: list[str]) -> list[str]:
        """The parameters and the context of a Pipes process with local paths of the volume."""
        rewritten = list(parameters)
        for name in ("--dagster-pipes-context", "--dagster-pipes-messages"):
            at = parameters.index(name) + 1
            params = decode_param(parameters[at])
            file = self.local(params["path"])
            if file.is_file():
                file.write_text(file.read_text().replace(self.volume, str(self.local(self.volume))))
            rewritten[at] = encode_param({**params, "path": str(file)})
        return rewritten

    def _execute(self, run: Run, command: list[str], installed: Path) -> None:
        # The task does not inherit settings from this process.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("REC_", "DAGSTER_"))}
        environment |= {"PYTHONPATH": str(installed), "DATABRICKS_RUNTIME_VERSION": "17.3"}
        environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
        run.process = subprocess.Popen(
            command, env=environment, cwd=installed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        run.output = run.process.communicate()[0]

    def get(self, number: int) -> dict[str, Any]:
        run = self._run(number)
        if run.cluster == WAITING_CLUSTER and not run.canceled:
            self.on_waiting()
        # The run of a task has another number than its parent run.
        tasks = [{"task_key": "make", "run_id": 1000 + number, "state": run.state}]
        url = f"{self.url}/jobs/runs/{number}"
        return {"run_id": number, "run_name": run.name, "run_page_url": url, "state": run.state, "tasks": tasks}

    def get_output(self, number: int) -> dict[str, Any]:
        if number <= 1000:
            raise Rejected(400, "INVALID_PARAMETER_VALUE", "Retrieving the output of runs with tasks is not supported")
        run = self._run(number - 1000)
        lines = (run.output or "").strip().splitlines()
        failed = run.state.get("result_state") == "FAILED" and lines
        return {"metadata": {"run_id": number}, **({"error": "\n".join(lines[-3:])} if failed else {})}

    def cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.keys() != {"run_id"}:
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"unknown fields in {body}")
        run = self._run(body["run_id"])
        run.canceled = True
        if run.process is not None and run.process.poll() is None:
            run.process.terminate()
        return {}

    def _run(self, number: int) -> Run:
        if number not in self.runs:
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"Run {number} does not exist.")
        return self.runs[number]


class _Handler(BaseHTTPRequestHandler):
    workspace: Workspace
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        workspace, (path, _, query) = self.workspace, self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        workspace.requests.append(f"{self.command} {path}")
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Rejected(401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type")
            found = self._found(path, dict(urllib.parse.parse_qsl(query)), body)
            status, sent = 200, found if isinstance(found, bytes) else json.dumps(found).encode()
        except Rejected as rejection:
            if rejection.status != 404 or self.command != "GET":  # polling for the next message is no error
                workspace.rejected.append(f"{self.command} {self.path}: {rejection}")
            status, sent = (
                rejection.status,
                json.dumps({"error_code": rejection.code, "message": str(rejection)}).encode(),
            )
        except Exception as error:
            workspace.rejected.append(f"{self.command} {self.path}: {error!r}")
            status, sent = 400, json.dumps({"error_code": "BAD_REQUEST", "message": repr(error)}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(sent, bytes) else "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def _found(self, path: str, query: dict[str, str], body: bytes) -> dict[str, Any] | bytes:
        workspace = self.workspace
        for kind in ("files", "directories"):
            if path.startswith(prefix := f"/api/2.0/fs/{kind}/"):
                where = workspace.local("/" + urllib.parse.unquote(path[len(prefix) :]))
                return getattr(self, f"_{kind}")(where, query, body)
        answers: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {
            ("POST", "/api/2.2/jobs/runs/submit"): lambda: workspace.submit(json.loads(body)),
            ("POST", "/api/2.2/jobs/runs/cancel"): lambda: workspace.cancel(json.loads(body)),
            ("GET", "/api/2.2/jobs/runs/get"): lambda: workspace.get(int(query.pop("run_id"))),
            ("GET", "/api/2.2/jobs/runs/get-output"): lambda: workspace.get_output(int(query.pop("run_id"))),
        }
        if (self.command, path) not in answers:
            raise Rejected(404, "ENDPOINT_NOT_FOUND", f"No API found for '{self.command} {path}'")
        answer = answers[self.command, path]()
        if query:
            raise Rejected(400, "INVALID_PARAMETER_VALUE", f"unknown parameters: {query}")
        return answer

    def _files(self, file: Path, query: dict[str, str], body: bytes) -> dict[str, Any] | bytes:
        if self.command == "PUT":
            if not file.parent.is_dir() or not query.keys() <= {"overwrite"}:
                raise Rejected(400, "INVALID_PARAMETER_VALUE", f"{file.parent} is no folder, or {query} unknown")
            file.write_bytes(body)
            return b""
        if not file.is_file():
            raise Rejected(404, "NOT_FOUND", f"{file} does not exist")
        if self.command == "DELETE":
            file.unlink()
            return b""
        return file.read_bytes()

    def _directories(self, folder: Path, query: dict[str, str], body: bytes) -> dict[str, Any] | bytes:
        if self.command == "PUT":
            folder.mkdir(parents=True, exist_ok=True)
            return b""
        if not folder.is_dir():
            raise Rejected(404, "NOT_FOUND", f"{folder} does not exist")
        if self.command == "DELETE":
            if any(folder.iterdir()):
                raise Rejected(400, "INVALID_PARAMETER_VALUE", f"{folder} is not empty")
            folder.rmdir()
            return b""
        here = self.workspace.root
        contents = [
            {"path": f"/{entry.relative_to(here)}", "name": entry.name, "is_directory": entry.is_dir()}
            for entry in sorted(folder.iterdir())
        ]
        return {"contents": contents}

    def log_message(self, format: str, *args: object) -> None:  # the name in the base class
        """Log nothing."""


def build_wheel(repository: Path, folder: Path) -> Path:
    """Build the wheel from a copy of the code, because the build writes files."""
    copy = folder / "copy"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "rec_assets", copy / "rec_assets", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    return wheel
