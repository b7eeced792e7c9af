"""The entry point of the wheel on Databricks: materializes assets for a Dagster elsewhere, or runs a job of the bundle.

It ends by returning. The command line calls `sys.exit`, which notebooks, and maybe tasks, report as a failure.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_pipes import (
    PipesCliArgsParamsLoader,
    PipesContext,
    PipesUnityCatalogVolumesContextLoader,
    PipesUnityCatalogVolumesMessageWriter,
    open_dagster_pipes,
)

MESSAGE_INTERVAL_SECONDS = 2
"""Seconds between two message files. A task ends at most so long after its last message."""


class MaterializationFailed(RuntimeError):
    """Assets could not be materialized; the message names each failed step and its reason."""


def main() -> None:
    """Materialize the requested assets if Dagster Pipes started this process; else run the job in the first argument.

    Raises:
        MaterializationFailed: a step failed.
    """
    parameters = PipesCliArgsParamsLoader()
    if parameters.is_dagster_pipes_process():
        with open_dagster_pipes(
            params_loader=parameters,
            context_loader=PipesUnityCatalogVolumesContextLoader(),
            message_writer=PipesUnityCatalogVolumesMessageWriter(interval=MESSAGE_INTERVAL_SECONDS),
        ) as request:
            materialize_requested(request)
    else:
        run_job(sys.argv[1])


def materialize_requested(request: PipesContext) -> None:
    """Materialize the requested assets with the settings in the request, and report metadata and check results."""
    # Set them before anything reads the settings.
    os.environ.update(request.get_extra("environment"))
    from rec_assets.automation.plan_execution import day_range_tags, describe_failures
    from rec_assets.automation.run_findings import is_failed_check
    from rec_assets.definitions import defs

    days = [dt.date.fromisoformat(day) for day in request.get_extra("days")]
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={dg.AssetKey.from_escaped_user_string(key) for key in request.asset_keys},
        asset_check_selection=None if request.get_extra("with_checks") else set(),
    )
    result = job.execute_in_process(
        # The requesting Dagster stores the records. With its run id, MLflow sees one run.
        instance=dg.DagsterInstance.ephemeral(),
        run_id=request.run_id,
        partition_key=days[0].isoformat() if len(days) == 1 else None,
        tags=day_range_tags(days[0], days[-1]) if len(days) > 1 else None,
        run_config={"loggers": {"console": {}}},
        raise_on_error=False,
    )
    # A failed check is a result: the requesting Dagster decides whether it blocks.
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    if not all(is_failed_check(failure) for failure in failures):
        raise MaterializationFailed(describe_failures(result))
    for message in _messages(result):
        request.report_custom_message(message)


def run_job(name: str) -> None:
    """Run a job of the code location, or `bootstrap`. The settings name the place of Dagster's records."""
    from rec_assets.automation.bootstrap import bootstrap
    from rec_assets.automation.instance import open_instance
    from rec_assets.automation.plan_execution import describe_failures
    from rec_assets.definitions import defs
    from rec_assets.settings import get_settings
    from rec_assets.sources.spec import load_data_source

    settings = get_settings()
    if name == "bootstrap":
        bootstrap(defs, settings, load_data_source(settings.source, settings.root))
        return
    result = defs.resolve_job_def(name).execute_in_process(instance=open_instance(settings), raise_on_error=False)
    if not result.success:
        raise MaterializationFailed(f"{name} failed: {describe_failures(result)}")


def _messages(result: dg.ExecuteInProcessResult) -> Iterator[Mapping[str, Any]]:
    """The metadata of each asset, with what all its days share only once; then the check results."""
    by_asset: dict[str, dict[str | None, Mapping[str, Any]]] = defaultdict(dict)
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        by_asset[materialization.asset_key.to_user_string()][materialization.partition] = materialization.metadata
    for asset, by_day in by_asset.items():
        first = next(iter(by_day.values()))
        shared = {
            name: value for name, value in first.items() if all(other.get(name) == value for other in by_day.values())
        }
        differing = {
            day: dg.serialize_value({name: value for name, value in metadata.items() if name not in shared})
            for day, metadata in by_day.items()
            if day is not None and len(by_day) > 1
        }
        yield {"asset": asset, "metadata": dg.serialize_value(shared), "by_day": differing}
    for evaluation in result.get_asset_check_evaluations():
        yield {"check": dg.serialize_value(evaluation)}
