"""Run launcher: Dagster's default launcher plus health checks of the run's process.

Dagster's default launcher does not support health checks. A run whose process was killed would stay "started" and, with
one run at a time, block all others. With this launcher, Dagster's run monitoring fails such a run, and run retries
start it again. DAGSTER_HOME/dagster.yaml names this class.

`dagster dev` connects to its code server over a socket, so the run's process is on this machine. A code server with a
port may be on another machine, so the launcher asks the server about the run.
"""

from __future__ import annotations

import json
import time

import dagster as dg
import psutil
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

TOLERANCE_SECONDS = 60
"""A run that has no process id after this time is dead. A process that started later than this after the launch is
another one with the same id."""


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher with health checks of run workers."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True, unlike the default launcher."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check whether the process of a run is alive."""
        if "port" in json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
            return self._ask_server(run)
        pid, launched = self._process_of(run.run_id)
        if pid is None:
            record = self._instance.get_run_record_by_id(run.run_id)
            if record is not None and record.start_time and time.time() - record.start_time > TOLERANCE_SECONDS:
                return CheckRunHealthResult(WorkerStatus.FAILED, "its process ended before the run began")
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            process = psutil.Process(pid)
            alive = process.status() != psutil.STATUS_ZOMBIE and process.create_time() < launched + TOLERANCE_SECONDS
        except psutil.NoSuchProcess:
            alive = False
        if alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process ({pid}) is gone: killed, or out of memory")

    def _ask_server(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        client = self._get_grpc_client_for_termination(run.run_id)
        if client is None:  # the run has ended
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=10)
        except DagsterUserCodeUnreachableError:
            # Ask again later: a server that is back, or was restarted, knows its runs.
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server does not answer")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server has no process for it: killed, or restarted")

    def _process_of(self, run_id: str) -> tuple[int | None, float]:
        """The process id of a run, if it is known, and when it was launched (seconds since the epoch)."""
        pid, launched = None, 0.0
        for entry in self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            recorded = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if recorded is not None:
                pid, launched = int(str(recorded.value)), entry.timestamp
        return pid, launched
