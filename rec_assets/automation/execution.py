"""Running a plan: each stale run of it in turn, through Dagster, in this process; only one plan at a time."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from dagster import AssetKey, DagsterInstance, DagsterRunStatus, Definitions, ExecuteInProcessResult, RunsFilter
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    MAX_RETRIES_TAG,
)

from rec_assets.automation.freshness import Freshness, Partition
from rec_assets.automation.lock import database_lock, file_lock
from rec_assets.automation.plan import PlanError, PlannedRun
from rec_assets.recsys.rules.spec import read_rules
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.resources.storage import sweep_staging
from rec_assets.resources.tracking import end_dead_runs
from rec_assets.serving.folder import ServingFolder
from rec_assets.settings import Settings
from rec_assets.sources.spec import Source

PARENT_TAG = "rec_assets/parent_run"
"""Tag of a run that is part of a plan: the id of the Dagster run, or of the process, that runs the plan."""

DAGSTER_YAML = Path(__file__).with_name("dagster.yaml")

DATABASE_VARIABLE = "REC_DAGSTER_DATABASE_URL"

POSTGRES_YAML = f"""
# Runs, events and schedules in PostgreSQL. The URL holds a password, so it stays in the environment.
storage:
  postgres:
    postgres_url:
      env: {DATABASE_VARIABLE}
"""

Say = Callable[[str], None]


class ExecutionError(RuntimeError):
    """A plan can't start, or one of its runs failed; the message says what to do."""


def open_instance(settings: Settings) -> DagsterInstance:
    """The Dagster instance under REC_HOME; made if it isn't there, and configured as this version wants it.

    Raises:
        ExecutionError: its dagster.yaml and REC_DAGSTER_DATABASE_URL contradict each other, or no driver is there.
    """
    home, url = settings.dagster_home, settings.dagster_database_url
    home.mkdir(parents=True, exist_ok=True)
    configuration = home / "dagster.yaml"
    if not configuration.exists():
        configuration.write_text(DAGSTER_YAML.read_text() + (POSTGRES_YAML if url else ""))
    if (DATABASE_VARIABLE in configuration.read_text()) != (url is not None):
        raise ExecutionError(
            f"{DATABASE_VARIABLE} is {'set' if url else 'not set'}, but {configuration} keeps runs "
            f"{'elsewhere' if url else 'there'}: set it as it was, or delete that file to begin new records"
        )
    if url:
        if find_spec("dagster_postgres") is None:
            raise ExecutionError(f"{DATABASE_VARIABLE} needs dagster-postgres: pip install 'rec_assets[postgres]'")
        os.environ[DATABASE_VARIABLE] = url.get_secret_value()  # the file names it, also for the runs' processes
    os.environ["DAGSTER_HOME"] = str(home)
    return DagsterInstance.get()


@contextlib.contextmanager
def plan_lock(settings: Settings, *, say: Say | None = None) -> Iterator[None]:
    """Hold the lock of the deployment; it goes with the process, however that ends.

    Args:
        settings: Where REC_HOME is, or Dagster's database.
        say: If given, wait for the lock and say so; else it must be free.

    Raises:
        ExecutionError: another process holds it.
    """
    url = settings.dagster_database_url
    with database_lock(url.get_secret_value()) if url else file_lock(settings.root / ".bootstrap.lock") as take:
        waiting = False
        while holder := take():
            if say is None:
                raise ExecutionError(f"another bootstrap is at work {holder}: wait for it, or stop it")
            if not waiting:
                say(f"waiting: another plan is at work {holder}")
            waiting = True
            time.sleep(2)
        yield


def run_plan(
    plan: Sequence[PlannedRun],
    definitions: Definitions,
    instance: DagsterInstance,
    settings: Settings,
    source: Source,
    *,
    parent: str,
    say: Say,
    tags: Mapping[str, str] | None = None,
) -> list[PlannedRun]:
    """Run what of a plan is stale. The caller holds the lock (`plan_lock`).

    Args:
        plan: Its runs, in order.
        definitions, instance, settings, source: Of the code location.
        parent: Id of who runs it.
        say: Told what is being done.
        tags: Further tags of every run.

    Returns:
        The runs that were needed.

    Raises:
        ExecutionError: one of them failed, and those after it are left out; or the lake can't be seen from here.
        PlanError: no line of the lookback counts.
    """
    if settings.databricks and settings.databricks.assets == "all":
        raise ExecutionError(
            "with REC_DATABRICKS__ASSETS=all this machine doesn't see the lake and can't tell what is stale: run the "
            "bundle's job on Databricks instead (deploy/databricks/README.md)"
        )
    end_orphans(instance, settings)
    sweep_staging(settings.shared_disk)
    lake = Lake(settings.lake)
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    releases.point_champion()  # a process may have been killed between promoting a version and moving the alias
    rules = read_rules(settings.rules)
    freshness = Freshness(
        definitions,
        instance,
        lake,
        releases,
        source,
        settings.feedback_landing,
        settings.experiments,
        rules_version=rules.version(rules.default),
        newest=max((day for run in plan for day in run.days if day is not None), default=None),
        serving=ServingFolder(settings.serving),
    )
    done = []
    for number, run in enumerate(plan, start=1):
        if run.job == "refresh_products":  # what there is to learn from is in the lake, and nothing was learned yet
            require_lines(lake, freshness.newest, settings.lookback_days)
        stale = freshness.stale(run)
        label = f"[{number}/{len(plan)}] {run}"
        if not stale:
            say(f"{label}: up to date")
            continue
        say(f"{label}: {', '.join(sorted({key.path[-1] for key, _ in stale}))}")
        for key, day in stale:
            if why := freshness.damage(key, day):
                say(f"{key.path[-1]}{f' of {day}' if day else ''} is damaged and made again: {why}")
        # The plan is run again as a whole, if its process dies; Dagster needn't retry its parts.
        run_tags = {PARENT_TAG: parent, MAX_RETRIES_TAG: "0", **(tags or {})}
        _execute(run, stale, definitions, instance, run_tags)
        freshness.forget()
        done.append(run)
    return done


def require_lines(lake: Lake, newest: dt.date | None, lookback_days: int) -> None:
    """See that there is anything to make lists from.

    Raises:
        PlanError: no line of the days that the newest one looks back on counts.
    """
    if newest is None:
        return
    window = [newest - dt.timedelta(days=age) for age in range(lookback_days - 1, -1, -1)]
    days = [day for day in lake.days("cleaned_interactions") if window[0] <= day <= newest]
    if lake.rows("cleaned_interactions", days):
        return
    why = ""
    if days:
        refused = lake.pandas("rejected_purchases", days, columns=["reasons"])["reasons"].value_counts()
        why = ", ".join(f"{count:,} by {reasons}" for reasons, count in refused.head(3).items())
    raise PlanError(
        f"there is nothing to make lists from: no line of {window[0]} to {newest} counts: "
        + (f"all that landed were refused ({why}): `rec-assets check-source` says more" if why else "none has landed")
    )


def end_orphans(instance: DagsterInstance, settings: Settings) -> None:
    """Runs of a plan whose process was killed are over: say so to Dagster and MLflow. We hold the lock, so none lives.

    Killed early, a run is not even started.
    """
    ended = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
    for run in instance.get_runs(RunsFilter(statuses=[status for status in DagsterRunStatus if status not in ended])):
        if PARENT_TAG in run.tags:
            instance.report_run_failed(run, "the process was killed")

    def is_over(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    artifacts = str(settings.root / "mlflow" / "artifacts")
    end_dead_runs(settings.mlflow_uri, artifacts, settings.mlflow_experiment, is_over)


def _execute(
    run: PlannedRun,
    stale: list[Partition],
    definitions: Definitions,
    instance: DagsterInstance,
    tags: Mapping[str, str],
) -> None:
    job = definitions.resolve_job_def(run.job)
    keys: set[AssetKey] = {key for key, _ in stale}
    # cleaned_interactions and rejected_purchases come from one step: both or neither.
    for key in set(keys):
        keys |= job.asset_layer.get(key).execution_set_asset_keys & job.asset_layer.selected_asset_keys
    days = sorted(day for _, day in stale if day is not None)
    partition, days_tags = None, {}
    if days and run.first != run.last:
        days_tags = day_range_tags(days[0], days[-1])
    elif days:
        partition = str(days[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = job.execute_in_process(
            instance=instance,
            partition_key=partition,
            tags={**tags, **days_tags},
            asset_selection=sorted(keys),
            run_config={"loggers": {"console": {}}},
            raise_on_error=False,
        )
    if not result.success:
        raise ExecutionError(f"{run} failed: {why_failed(result)}\nMend that and run it again: it goes on from here.")


def day_range_tags(first: dt.date, last: dt.date) -> dict[str, str]:
    """Tags of one run over a range of days."""
    return {ASSET_PARTITION_RANGE_START_TAG: str(first), ASSET_PARTITION_RANGE_END_TAG: str(last)}


def why_failed(result: ExecuteInProcessResult) -> str:
    """Each step that failed, with the first cause of that; a line each."""
    reasons = []
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            error = failure.user_failure_data.description if failure.user_failure_data else None
            cause = failure.error
            while cause is not None and cause.cause is not None:
                cause = cause.cause
            reasons.append(f"{event.step_key}: {error or (cause.message.strip() if cause else 'unknown')}")
    return "\n".join(reasons) or "see the run in the UI"
