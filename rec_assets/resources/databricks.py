"""Tasks on Databricks: one run of the Jobs API a step, started and followed through Dagster Pipes.

What a task is given and what it reports back lie in files of a Unity Catalog volume while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster import AssetExecutionContext, DagsterExecutionInterruptedError, Failure, MetadataValue
from dagster._core.errors import DagsterPipesExecutionError
from dagster_databricks import PipesDatabricksClient
from dagster_databricks.pipes import (
    PipesUnityCatalogVolumesContextInjector,
    PipesUnityCatalogVolumesMessageReader,
)
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.compute import Library
from databricks.sdk.service.jobs import PythonWheelTask, RunResultState, SubmitTask

from rec_assets.settings import Databricks

PACKAGE, ENTRY_POINT = "rec_assets", "rec-assets-on-databricks"
"""What a task runs: the function of that name in the wheel (pyproject.toml)."""


@dataclass(frozen=True)
class Done:
    """A task that ended well.

    Attributes:
        messages: What it reported, in order.
        metadata: Which run it was, with a link.
    """

    messages: Sequence[Any]
    metadata: Mapping[str, MetadataValue[Any]]


def run_task(context: AssetExecutionContext, place: Databricks, name: str, extras: Mapping[str, Any]) -> Done:
    """Run a task for this step and wait for it.

    Args:
        context: Of the step; if that is interrupted, so is the task.
        place: The cluster, the volume and the wheel.
        name: Of the run in the workspace.
        extras: What the task is told beside the step's assets and run.

    Raises:
        Failure: there are no credentials, the service refused the task, or it failed; says why, and where to look.
    """
    try:
        client = WorkspaceClient()
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise Failure(
            f"no way into a Databricks workspace: set DATABRICKS_HOST, and DATABRICKS_TOKEN or another of "
            f"databricks-sdk's credentials ({reason})"
        ) from None
    task = SubmitTask(
        task_key="make",
        existing_cluster_id=place.cluster_id,
        libraries=[Library(whl=place.wheel)],
        python_wheel_task=PythonWheelTask(package_name=PACKAGE, entry_point=ENTRY_POINT, parameters=[]),
    )
    try:
        done = _Tasks(
            client,
            context_injector=PipesUnityCatalogVolumesContextInjector(client=client, volume_path=place.volume),
            message_reader=PipesUnityCatalogVolumesMessageReader(
                client=client, volume_path=place.volume, interval=place.poll_seconds
            ),
            poll_interval_seconds=place.poll_seconds,
        ).run(context=context, extras=dict(extras), task=task, submit_args={"run_name": name})
    except DatabricksError as error:
        raise Failure(f"{name}: the workspace refused it: {error}") from None
    run = int(str(done.metadata["Databricks Job Run ID"].value))
    state = client.jobs.get_run(run).state
    if state is None or state.result_state != RunResultState.SUCCESS:
        raise DagsterExecutionInterruptedError  # the client returns after a cancellation as it does after a success
    return Done(done.get_custom_messages(), done.metadata)


class _Tasks(PipesDatabricksClient):
    """`PipesDatabricksClient` whose failures say what went wrong in the task, not only that something did."""

    def _poll_til_success(self, context: Any, run_id: int) -> None:
        try:
            super()._poll_til_success(context, run_id)
        except DagsterPipesExecutionError as error:
            run = self.client.jobs.get_run(run_id)
            raise Failure(f"{run.run_name}: {self._why(run) or error}\n{run.run_page_url}") from None

    def _why(self, run: Any) -> str:
        for task in run.tasks or []:
            try:
                if reason := self.client.jobs.get_run_output(task.run_id).error:
                    return str(reason)
            except DatabricksError:  # it never started
                continue
        return str(run.state.state_message or "")
