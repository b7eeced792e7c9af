"""Tasks on Databricks: one Jobs API run per Dagster step, started and followed with Dagster Pipes.

While a task runs, its parameters and messages are files in a Unity Catalog volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster_databricks import PipesDatabricksClient
from dagster_databricks.pipes import PipesUnityCatalogVolumesContextInjector, PipesUnityCatalogVolumesMessageReader
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.compute import Library
from databricks.sdk.service.jobs import PythonWheelTask, RunResultState, SubmitTask

from rec_assets.settings import DatabricksSettings

PACKAGE, ENTRY_POINT = "rec_assets", "rec-assets-on-databricks"
"""Entry point of a task in the wheel (pyproject.toml)."""


@dataclass(frozen=True)
class TaskResult:
    """Result of a successful task.

    Attributes:
        messages: Messages of the task, in order.
        metadata: Id and link of the Databricks run.
    """

    messages: Sequence[Any]
    metadata: Mapping[str, dg.MetadataValue[Any]]


def run_task(
    context: dg.AssetExecutionContext, databricks: DatabricksSettings, name: str, extras: Mapping[str, Any]
) -> TaskResult:
    """Run a task for this step and wait for it.

    Args:
        context: Context of the step. If the step is interrupted, the task is canceled.
        databricks: Cluster, volume and wheel.
        name: Name of the run in the workspace.
        extras: Parameters of the task in addition to the step's assets and run.

    Raises:
        Failure: credentials are missing, the workspace rejected the task, or the task failed.
    """
    try:
        client = WorkspaceClient()
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise dg.Failure(
            f"can't connect to a Databricks workspace: set DATABRICKS_HOST, and DATABRICKS_TOKEN or other "
            f"credentials of databricks-sdk ({reason})"
        ) from None
    task = SubmitTask(
        task_key="make",
        existing_cluster_id=databricks.cluster_id,
        libraries=[Library(whl=databricks.wheel)],
        python_wheel_task=PythonWheelTask(package_name=PACKAGE, entry_point=ENTRY_POINT, parameters=[]),
    )
    try:
        interval = databricks.poll_seconds
        place: dict[str, Any] = {"client": client, "volume_path": databricks.volume}
        done = _Tasks(
            client,
            poll_interval_seconds=interval,
            context_injector=PipesUnityCatalogVolumesContextInjector(**place),
            message_reader=PipesUnityCatalogVolumesMessageReader(**place, interval=interval),
        ).run(context=context, extras=dict(extras), task=task, submit_args={"run_name": name})
    except DatabricksError as error:
        raise dg.Failure(f"{name}: the workspace rejected the task: {error}") from None
    run = int(str(done.metadata["Databricks Job Run ID"].value))
    state = client.jobs.get_run(run).state
    if state is None or state.result_state != RunResultState.SUCCESS:
        raise dg.DagsterExecutionInterruptedError  # the client also returns after a cancellation
    return TaskResult(done.get_custom_messages(), done.metadata)


class _Tasks(PipesDatabricksClient):
    """`PipesDatabricksClient` whose failures contain the error of the task."""

    def _poll_til_success(self, context: Any, run_id: int) -> None:
        try:
            super()._poll_til_success(context, run_id)
        except DagsterPipesExecutionError as error:
            run = self.client.jobs.get_run(run_id)
            raise dg.Failure(f"{run.run_name}: {self._error(run) or error}\n{run.run_page_url}") from None

    def _error(self, run: Any) -> str:
        for task in run.tasks or []:
            try:
                if reason := self.client.jobs.get_run_output(task.run_id).error:
                    return str(reason)
            except DatabricksError:  # the task never started
                continue
        return str(run.state.state_message or "")
