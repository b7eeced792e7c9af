"""What runs on Databricks: assets that a Dagster elsewhere asks for, or a whole job of the bundle.

The wheel's entry point there. It ends by returning, unlike the command line's, which calls `sys.exit`: a notebook's
Python takes that for a failure, and a task's may.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult, serialize_value
from dagster_pipes import (
    PipesCliArgsParamsLoader,
    PipesContext,
    PipesUnityCatalogVolumesContextLoader,
    PipesUnityCatalogVolumesMessageWriter,
    open_dagster_pipes,
)

WRITING_SECONDS = 2
"""Seconds between two files of messages; the last waits as long before the task can end."""


class MakingFailed(RuntimeError):
    """Assets could not be made; the message says which step failed, and why."""


def main() -> None:
    """Make what a Dagster elsewhere asks for, if one started this process; else run the job that is named.

    Raises:
        MakingFailed: a step failed.
    """
    parameters = PipesCliArgsParamsLoader()
    if parameters.is_dagster_pipes_process():
        with open_dagster_pipes(
            params_loader=parameters,
            context_loader=PipesUnityCatalogVolumesContextLoader(),
            message_writer=PipesUnityCatalogVolumesMessageWriter(interval=WRITING_SECONDS),
        ) as asked:
            make(asked)
    else:
        run_job(sys.argv[1])


def make(asked: PipesContext) -> None:
    """Make the assets of a step, with the settings that come with it, and report what was made and checked."""
    # Before anything reads them.
    os.environ.update(asked.get_extra("environment"))
    from rec_assets.automation.execution import day_range_tags, why_failed
    from rec_assets.definitions import defs

    days = [dt.date.fromisoformat(day) for day in asked.get_extra("days")]
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection={AssetKey.from_escaped_user_string(key) for key in asked.asset_keys},
        asset_check_selection=None if asked.get_extra("with_checks") else set(),
    )
    result = job.execute_in_process(
        # The asking Dagster keeps the records; the same run to MLflow, whichever process it is made in.
        instance=DagsterInstance.ephemeral(),
        run_id=asked.run_id,
        partition_key=days[0].isoformat() if len(days) == 1 else None,
        tags=day_range_tags(days[0], days[-1]) if len(days) > 1 else None,
        run_config={"loggers": {"console": {}}},
        raise_on_error=False,
    )
    # A check that fails is a result; what follows from that is for the asking Dagster to say.
    failed = [event for event in result.all_events if event.is_step_failure and not _is_failed_check(event)]
    if failed:
        raise MakingFailed(why_failed(result))
    for message in _messages(result):
        asked.report_custom_message(message)


def run_job(name: str) -> None:
    """Run a job of the graph, or `bootstrap`, with Dagster's records where the settings say."""
    from rec_assets.automation.bootstrap import bootstrap
    from rec_assets.automation.execution import open_instance, why_failed
    from rec_assets.definitions import defs
    from rec_assets.settings import get_settings
    from rec_assets.sources.spec import load_source

    settings = get_settings()
    if name == "bootstrap":
        bootstrap(defs, settings, load_source(settings.source, settings.root))
        return
    result = defs.resolve_job_def(name).execute_in_process(instance=open_instance(settings), raise_on_error=False)
    if not result.success:
        raise MakingFailed(f"{name} failed: {why_failed(result)}")


def _messages(result: ExecuteInProcessResult) -> Iterator[Mapping[str, Any]]:
    """Each asset's metadata, what all its days share only once; then the checks. Serialized as Dagster does it."""
    made: dict[str, dict[str | None, Mapping[str, Any]]] = defaultdict(dict)
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        made[materialization.asset_key.to_user_string()][materialization.partition] = materialization.metadata
    for asset, by_day in made.items():
        first = next(iter(by_day.values()))
        shared = {
            name: value for name, value in first.items() if all(each.get(name) == value for each in by_day.values())
        }
        own = {
            day: serialize_value({name: value for name, value in each.items() if name not in shared})
            for day, each in by_day.items()
            if day is not None and len(by_day) > 1
        }
        yield {"asset": asset, "metadata": serialize_value(shared), "by_day": own}
    for evaluation in result.get_asset_check_evaluations():
        yield {"check": serialize_value(evaluation)}


def _is_failed_check(event: Any) -> bool:
    error = event.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"
