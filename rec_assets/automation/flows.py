"""The two jobs that run a whole plan: `refresh`, for a new day, and `retrain`, for new models.

Each is one Dagster run that makes the plan's runs, in order, in its own process and with one Spark session; these
carry its id as a tag. What is up to date is left alone, so a flow may be asked for at any time, and again after it
was killed.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence

from dagster import (
    Definitions,
    Failure,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    in_process_executor,
    job,
    op,
)

from rec_assets.automation.execution import ExecutionError, plan_lock, run_plan
from rec_assets.automation.feedback import land_feedback
from rec_assets.automation.plan import PlanError, PlannedRun, plan_refresh, plan_training_or_refresh
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import Settings
from rec_assets.sources.landing import newest_whole_day
from rec_assets.sources.spec import Source

REASON_TAG = "rec_assets/reason"
"""Tag of a run: why it was asked for."""

Plan = Callable[[dt.date, dt.date], Sequence[PlannedRun]]


def build_flows(settings: Settings, source: Source, definitions: Callable[[], Definitions]) -> list[JobDefinition]:
    """The jobs.

    Args:
        settings, source: Of the code location.
        definitions: Gives its definitions, of which these jobs become part.
    """
    lake, releases = Lake(settings.lake), Releases(settings.mlflow_uri, settings.registered_model)

    def follow(context: OpExecutionContext, plan: Plan) -> dt.date:
        """Runs the plan for the newest day, and says which that is."""
        if not source.is_daily:
            raise Failure("an export has no new days: run `rec-assets bootstrap` when it has been replaced")
        first, _ = source.bounds()
        newest = newest_whole_day(source, now=time.time(), settle_seconds=settings.landing_settle_seconds)
        if newest is None:
            raise Failure(f"no day has landed whole in {source.expand(source.purchases.path)} yet")
        tags = {name: value for name, value in context.run.tags.items() if name == REASON_TAG}
        with plan_lock(settings, say=context.log.info):
            land_feedback(settings, source.time_zone, context.log.info)
            try:
                done = run_plan(
                    plan(first, newest), definitions(), context.instance, settings, source,
                    parent=context.run_id, say=context.log.info, tags=tags,
                )  # fmt: skip
            except (ExecutionError, PlanError) as error:
                raise Failure(str(error)) from None
        context.add_output_metadata(
            {
                "as_of": str(newest),
                "made": MetadataValue.md("\n".join(f"- {run}" for run in done) or "nothing: up to date"),
            }
        )
        return newest

    @op(description="Run what of the plan for the newest day is stale.")
    def bring_up_to_date(context: OpExecutionContext) -> None:
        follow(context, lambda first, newest: plan_refresh(first, newest, settings, lake, releases.in_force()))

    @op(description="Train, judge and, if the gate lets them pass, release new models; a rejection is a result.")
    def train_and_release(context: OpExecutionContext) -> None:
        if releases.in_force() is None:
            raise Failure("there is no release to improve on yet: run `rec-assets bootstrap` first")
        said: list[str] = []
        newest = follow(
            context,
            lambda first, newest: plan_training_or_refresh(
                first, newest, settings, lake, releases.before(newest), said.append
            ),
        )
        verdict = "; ".join(said) or releases.verdict(newest)
        context.log.info(verdict)
        context.add_output_metadata({"verdict": verdict})

    @job(
        executor_def=in_process_executor,
        description="Ingest what landed, refresh products, make everybody's lists by the models in force, publish.",
    )
    def refresh() -> None:
        bring_up_to_date()

    @job(
        executor_def=in_process_executor,
        description="Train models, hold them against the champion by the purchases since, release them if they pass.",
    )
    def retrain() -> None:
        train_and_release()

    return [refresh, retrain]
