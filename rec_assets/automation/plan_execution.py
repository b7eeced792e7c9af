"""Execution of a plan: run each planned run that has stale partitions, in order, in this process.

Dagster: a backfill launches a process, and thus a Spark session, for each run, and knows no order between jobs.
"""

from __future__ import annotations

import datetime as dt
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG, MAX_RETRIES_TAG

from rec_assets.automation.plan import PARENT_TAG, ExecutionError, PlanError, PlannedRun
from rec_assets.automation.run_findings import describe_failure
from rec_assets.automation.staleness import Partition, StalenessChecker
from rec_assets.recsys.rules.rules_file import read_rules
from rec_assets.resources.lake import Lake, open_lake
from rec_assets.resources.releases import Releases
from rec_assets.resources.tracking import end_dead_runs
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource

STAGING_HOURS = 6
"""Age from which temporary files are removed."""


def run_plan(
    plan: Sequence[PlannedRun], definitions: dg.Definitions, instance: dg.DagsterInstance, settings: Settings,
    source: DataSource, *, parent: str, log: Callable[[str], None], tags: Mapping[str, str] | None = None,
    keep: bool = False,
) -> list[PlannedRun]:  # fmt: skip
    """Run the stale parts of a plan. The caller holds the `plan_lock`.

    Args:
        plan: Its runs, in order.
        definitions, instance, settings, source: The code location.
        parent: Id of the Dagster run, or of the process, that executes the plan.
        log: Gets progress messages.
        tags: Further tags of every run.
        keep: Whether partitions that an earlier code version made count as up to date.

    Returns:
        The runs that had stale partitions.

    Raises:
        ExecutionError: one of the runs failed, and the later ones did not start; or this machine can't read the lake.
        PlanError: the lookback window has no cleaned lines.
    """
    if settings.databricks and settings.databricks.assets == "all":
        raise ExecutionError(
            "with REC_DATABRICKS__ASSETS=all this machine can't read the lake, so it can't find stale partitions: run "
            "the bundle's job on Databricks instead (deploy/databricks/README.md)"
        )
    fail_orphaned_runs(instance, settings)
    for left in settings.staging.glob("*"):  # by killed runs of Spark, and product snapshots; others may be at work
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STAGING_HOURS * 3600:
                # Under another name first, because what is partly deleted must not look complete.
                shutil.rmtree(left.rename(left.with_name(uuid.uuid4().hex)), ignore_errors=True)
    lake = open_lake(settings.lake)
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    releases.set_champion_alias()  # a process may have been killed between promoting a version and moving the alias
    rules = read_rules(settings.rules)
    staleness = StalenessChecker(
        definitions, instance, lake, releases, source, settings.feedback_landing, settings.experiments,
        rules_version=rules.version(rules.default), serving=ServingFolder(settings.serving), keep=keep,
        newest=max((day for run in plan for day in run.days if day is not None), default=None),
    )  # fmt: skip
    executed = []
    for number, run in enumerate(plan, start=1):
        if run.job == "update_products":  # all data is ingested, and training has not started
            require_cleaned_lines(lake, staleness.newest, settings.lookback_days)
        stale = staleness.stale_partitions(run)
        label = f"[{number}/{len(plan)}] {run}"
        if not stale:
            log(f"{label}: up to date")
            continue
        log(f"{label}: {', '.join(sorted({key.path[-1] for key, _ in stale}))}")
        for line in describe_stale(stale):
            log(line)
        # If the process dies, the whole plan is retried, so Dagster must not retry its runs.
        run_tags = {PARENT_TAG: parent, MAX_RETRIES_TAG: "0", **(tags or {})}
        _execute(run, stale, definitions, instance, run_tags)
        staleness = replace(staleness)  # a run has ended: only what Dagster recorded before it is still known
        executed.append(run)
    return executed


def require_cleaned_lines(lake: Lake, newest: dt.date | None, lookback_days: int) -> None:
    """Check that there is data to train on.

    Raises:
        PlanError: the lookback window has no cleaned lines.
    """
    if newest is None:
        return
    oldest = newest - dt.timedelta(days=lookback_days - 1)
    days = [day for day in lake.table("cleaned_interactions").days if oldest <= day <= newest]
    if lake.table("cleaned_interactions").rows(days):
        return
    why = "no line has landed: land files of these days"
    if days:
        rejected = lake.table("rejected_purchases").pandas(days, columns=["reasons"])["reasons"].value_counts()
        if by_rule := ", ".join(f"{count:,} by {reasons}" for reasons, count in rejected.head(3).items()):
            why = f"all landed lines were rejected ({by_rule}): run `rec-assets check-source`"
    raise PlanError(f"there are no purchases to train on from {oldest} to {newest}: {why}")


def fail_orphaned_runs(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Mark the runs of killed plans as failed, in Dagster and MLflow. The caller holds the plan lock, so none is alive.

    Dagster's run monitoring sees only runs that a launcher started, and these run inside another process.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        if PARENT_TAG in run.tags:
            instance.report_run_failed(run, "the process was killed")

    def is_finished(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    artifacts = str(settings.root / "mlflow" / "artifacts")
    end_dead_runs(settings.mlflow_uri, artifacts, settings.mlflow_experiment, is_finished)


def describe_stale(stale: Mapping[Partition, str]) -> list[str]:
    """One line for each reason, with the assets and days that are stale for it."""
    lines = []
    for why in dict.fromkeys(stale.values()):
        partitions = [partition for partition, reason in stale.items() if reason == why]
        assets = ", ".join(sorted({key.path[-1] for key, _ in partitions}))
        days = sorted({day for _, day in partitions if day is not None})
        span = f" ({len(days)} days, {days[0]} to {days[-1]})" if len(days) > 1 else f" ({days[0]})" if days else ""
        lines.append(f"    {assets}{span}: {why}")
    return lines


def _execute(
    run: PlannedRun, stale: Mapping[Partition, str], definitions: dg.Definitions, instance: dg.DagsterInstance,
    tags: dict[str, str],
) -> None:  # fmt: skip
    job = definitions.resolve_job_def(run.job)
    keys: set[dg.AssetKey] = {key for key, _ in stale}
    # One step makes both cleaned_interactions and rejected_purchases: select both or neither.
    for key in set(keys):
        keys |= job.asset_layer.get(key).execution_set_asset_keys & job.asset_layer.selected_asset_keys
    days = sorted(day for _, day in stale if day is not None)
    is_range = bool(days) and run.first != run.last
    range_tags = day_range_tags(days[0], days[-1]) if is_range else {}
    partition = str(days[0]) if days and not is_range else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = job.execute_in_process(
            instance=instance, partition_key=partition, tags={**tags, **range_tags}, asset_selection=sorted(keys),
            run_config={"loggers": {"console": {}}}, raise_on_error=False,
        )  # fmt: skip
    if not result.success:
        raise ExecutionError(
            f"{run} failed: {describe_failures(result)}\nFix that and run it again: it continues from here."
        )


def day_range_tags(first: dt.date, last: dt.date) -> dict[str, str]:
    """Tags of one run over a range of days."""
    return {ASSET_PARTITION_RANGE_START_TAG: str(first), ASSET_PARTITION_RANGE_END_TAG: str(last)}


def describe_failures(result: dg.ExecuteInProcessResult) -> str:
    """Each failed step with its reason, one per line."""
    failed = (event for event in result.all_events if event.is_step_failure)
    lines = [f"{event.step_key}: {describe_failure(event.step_failure_data)}" for event in failed]
    return "\n".join(lines) or "see the run in the UI"
