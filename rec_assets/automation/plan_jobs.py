"""The jobs that execute a whole plan, `daily_update` and `retrain`, and their schedules.

Dagster: a run of a job has one partition, or one range. A plan needs other days for each of its jobs, so each of these
jobs is one run that executes the runs of the plan in its own process. Up-to-date partitions are skipped.
`build_schedule_from_partitioned_job` requests a calendar day; these jobs find the newest landed day.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence

import dagster as dg

from rec_assets.automation.land_and_forget import find_other_runs, land_and_forget
from rec_assets.automation.plan import ExecutionError, PlanError, PlannedRun, plan_daily_update, plan_retraining
from rec_assets.automation.plan_execution import run_plan
from rec_assets.automation.plan_lock import plan_lock
from rec_assets.resources.lake import open_lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import Settings
from rec_assets.sources.extraction import extract_days
from rec_assets.sources.landing import newest_complete_day
from rec_assets.sources.spec import DataSource

REASON_TAG = "rec_assets/reason"
"""Tag of a run: why a sensor requested it."""

EXPORT_MESSAGE = "an export has no new days: run `rec-assets bootstrap` when it changes"

MakePlan = Callable[[dt.date, dt.date], Sequence[PlannedRun]]
"""Plans for data from the first to the newest day."""


def build_plan_jobs(
    settings: Settings, source: DataSource, definitions: Callable[[], dg.Definitions]
) -> list[dg.JobDefinition]:
    """The jobs. `definitions` returns the definitions of the code location, which include these jobs."""
    lake, releases = open_lake(settings.lake), Releases(settings.mlflow_uri, settings.registered_model)

    def execute(context: dg.OpExecutionContext, make_plan: MakePlan) -> dt.date:
        """Executes a plan for the newest day, and returns that day."""
        if not source.is_daily:
            raise dg.Failure(EXPORT_MESSAGE)
        extract_days(source, now=time.time(), log=context.log.info)
        first = source.start()
        # Extracted files are complete.
        settle_seconds = settings.landing_settle_seconds if source.purchases.extract is None else 0
        newest = newest_complete_day(source, now=time.time(), settle_seconds=settle_seconds)
        if newest is None:
            raise dg.Failure(
                f"no complete day has landed in {source.expand(source.purchases.path)} yet: land files first"
            )
        tags = {name: value for name, value in context.run.tags.items() if name == REASON_TAG}
        with plan_lock(settings, log=context.log.info):
            other_runs = find_other_runs(context.instance)
            land_and_forget(settings, source.time_zone, context.log.info, other_runs=other_runs)
            try:
                executed = run_plan(
                    make_plan(first, newest), definitions(), context.instance, settings, source,
                    parent=context.run_id, log=context.log.info, tags=tags,
                )  # fmt: skip
            except (ExecutionError, PlanError) as error:
                raise dg.Failure(str(error)) from None
        runs = "\n".join(f"- {run}" for run in executed) or "none: everything is up to date"
        context.add_output_metadata({"as_of": str(newest), "executed_runs": dg.MetadataValue.md(runs)})
        return newest

    @dg.op(description="Executes the stale parts of the daily update's plan for the newest day.")
    def execute_daily_update(context: dg.OpExecutionContext) -> None:
        execute(context, lambda first, newest: plan_daily_update(first, newest, settings, lake, releases.active()))

    @dg.op(description="Executes the stale parts of the retraining's plan. A rejected challenger is no failure.")
    def execute_retraining(context: dg.OpExecutionContext) -> None:
        if releases.active() is None:
            raise dg.Failure("there is no release yet: run `rec-assets bootstrap` first")
        reasons: list[str] = []
        newest = execute(
            context,
            lambda first, newest: plan_retraining(
                first, newest, settings, lake, releases.active_before(newest), reasons.append
            ),
        )
        verdict = "; ".join(reasons) or releases.decision_summary(newest)
        context.log.info(verdict)
        context.add_output_metadata({"verdict": verdict})

    @dg.job(
        executor_def=dg.in_process_executor,
        description="Ingest landed files, update products, score customers with the active models, and publish.",
    )
    def daily_update() -> None:
        execute_daily_update()

    @dg.job(
        executor_def=dg.in_process_executor,
        description="Train models, compare them with the champion on the purchases since, and release them if they "
        "pass the gate.",
    )
    def retrain() -> None:
        execute_retraining()

    return [daily_update, retrain]


def build_schedules(
    settings: Settings, source: DataSource, plan_jobs: Sequence[dg.JobDefinition]
) -> list[dg.ScheduleDefinition]:
    """Schedules of the daily update and of retraining, off until you turn them on."""
    jobs = {job.name: job for job in plan_jobs}
    return [
        dg.ScheduleDefinition(
            name=name, job=jobs[job], cron_schedule=cron, description=description,
            execution_timezone=settings.schedule_time_zone or source.time_zone,
            default_status=dg.DefaultScheduleStatus.STOPPED,
        )
        for name, job, cron, description in (
            ("nightly_update", "daily_update", settings.nightly_cron, "Makes new lists from the files landed so far."),
            ("scheduled_retraining", "retrain", settings.retrain_cron, "Trains models, and releases those that pass."),
        )
    ]  # fmt: skip
