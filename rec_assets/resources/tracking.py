"""MLflow tracking: one MLflow run per Dagster run, with dagster-mlflow.

dagster-mlflow finds or starts the run by the tag `dagster_run_id`, but sets the right final status only for some
outcomes. This resource sets the status from the Dagster run's events when Dagster tears it down.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from rec_assets.resources.mlflow_store import prepare_store
from rec_assets.sqlite import sqlite_file

INTERRUPTIONS = ("DagsterExecutionInterruptedError", "KeyboardInterrupt", "RunTerminated")


class TrackingResource(dg.ConfigurableResource):
    """MLflow tracking: `tracking.mlflow` is the mlflow module with the MLflow run of this Dagster run active."""

    uri: str
    artifacts: str
    experiment: str
    ui_url: str

    _mlflow: Any = PrivateAttr(default=None)
    _context: Any = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Store the Dagster run. The MLflow run starts when an asset uses it."""
        self._context, self._mlflow = context, None

    @property
    def mlflow(self) -> Any:
        """The mlflow module, with the run of this Dagster run active."""
        if self._mlflow is None:
            self._mlflow = self._start()
        return self._mlflow

    @property
    def run_id(self) -> str:
        """Id of the MLflow run."""
        return str(self.mlflow.active_run().info.run_id)

    @property
    def link(self) -> dg.UrlMetadataValue:
        """Link to the run in the MLflow UI."""
        run = self.mlflow.active_run()
        return dg.MetadataValue.url(f"{self.ui_url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """End the MLflow run with the status of the Dagster run."""
        if self._mlflow is not None:
            assert context.instance is not None and context.run is not None
            self._mlflow.end_run(status=_status(context.instance, context.run))

    def _start(self) -> Any:
        mlflow = connect(self.uri, self.artifacts, self.experiment)
        self._create_run(mlflow.MlflowClient())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dagster-mlflow is a beta feature
            from dagster_mlflow.resources import MlFlow

            run, tags = self._context.run, {"partition": self._context.run.tags.get("dagster/partition", "")}
            config = {"experiment_name": self.experiment, "mlflow_tracking_uri": self.uri, "extra_tags": tags}
            return MlFlow(
                SimpleNamespace(log=self._context.log, dagster_run=run, run_id=run.run_id, resource_config=config)
            )

    def _create_run(self, client: Any) -> None:
        """Create the run and its tag in one step, so that dagster-mlflow finds it.

        dagster-mlflow starts the run before it sets the tag. If the process is killed in between, nobody ends that run.
        """
        experiment, run = client.get_experiment_by_name(self.experiment).experiment_id, self._context.run
        if not client.search_runs([experiment], filter_string=f"tags.dagster_run_id = '{run.run_id}'"):
            client.create_run(experiment, run_name=run.job_name, tags={"dagster_run_id": run.run_id})


def connect(uri: str, artifacts: str, experiment: str) -> Any:
    """Set the tracking server, create the experiment if needed, and return the mlflow module."""
    import mlflow

    prepare_store(uri)
    mlflow.set_tracking_uri(uri)
    if mlflow.get_experiment_by_name(experiment) is None:
        local = sqlite_file(uri) is not None
        mlflow.create_experiment(experiment, artifact_location=Path(artifacts).as_uri() if local else None)
    return mlflow


def _status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    errors = [entry.get_dagster_event().step_failure_data.error for entry in failures]
    if any(_is_caused_by(error, INTERRUPTIONS) for error in errors):
        return "KILLED"
    return "FAILED" if errors else "FINISHED"


def _is_caused_by(error: Any, names: tuple[str, ...]) -> bool:
    return error is not None and (error.cls_name in names or _is_caused_by(error.cause, names))


def end_dead_runs(uri: str, artifacts: str, experiment: str, is_finished: Callable[[str], bool]) -> None:
    """Set the status KILLED for MLflow runs that are "running" although their Dagster run has finished.

    Args:
        uri, artifacts, experiment: As in `connect`.
        is_finished: Whether the Dagster run with an id has finished.
    """
    mlflow = connect(uri, artifacts, experiment)
    client = mlflow.MlflowClient()
    ids = [client.get_experiment_by_name(experiment).experiment_id]
    for run in client.search_runs(ids, filter_string="attributes.status = 'RUNNING'"):
        if is_finished(run.data.tags.get("dagster_run_id", "")):
            client.set_terminated(run.info.run_id, status="KILLED")
