"""Launching runs as Dagster does by default, and noticing when the process of one has died.

Dagster's own launcher can't tell, so a run whose process was killed would stay "started" for ever and, with one run at
a time, nothing would run any more. Named in DAGSTER_HOME/dagster.yaml; with it, Dagster's run monitoring fails such a
run, and its run retries make it again.

`dagster dev` speaks with its code server over a socket: the run's process is one of this machine. A server that was
reached by a port may be on another machine, so it is asked for the processes it started.
"""

from __future__ import annotations

import json
import time

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

SLACK_SECONDS = 60
"""A run that has no process after this time never will; a process that began this much later is another one."""


class WatchedRunLauncher(DefaultRunLauncher):
    """The default launcher, which also knows the health of its run workers."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes, unlike the default one."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process that Dagster says it started for a run is alive."""
        if "port" in json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
            return self._ask_server(run)
        pid, launched = self._worker(run.run_id)
        if pid is None:
            record = self._instance.get_run_record_by_id(run.run_id)
            if record is not None and record.start_time and time.time() - record.start_time > SLACK_SECONDS:
                return CheckRunHealthResult(WorkerStatus.FAILED, "its process ended before it did anything")
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            process = psutil.Process(pid)
            alive = process.status() != psutil.STATUS_ZOMBIE and process.create_time() < launched + SLACK_SECONDS
        except psutil.NoSuchProcess:
            alive = False
        if alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"its process ({pid}) is gone: killed, or out of memory")

    def _ask_server(self, run: DagsterRun) -> CheckRunHealthResult:
        client = self._get_grpc_client_for_termination(run.run_id)
        if client is None:  # it has ended meanwhile
            return CheckRunHealthResult(WorkerStatus.SUCCESS)
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=10)
        except DagsterUserCodeUnreachableError:
            # A server that comes back knows, as does one that restarted: it has no such run.
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its code server does not answer")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "its code server has no process for it: killed, or restarted")

    def _worker(self, run_id: str) -> tuple[int | None, float]:
        pid, launched = None, 0.0
        for entry in self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
            noted = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if noted is not None:
                pid, launched = int(str(noted.value)), entry.timestamp
        return pid, launched
