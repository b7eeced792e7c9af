"""Plans: the runs that bring a lake up to date, in order, for a bootstrap, a daily update or a retraining.

Dagster: an `AutomationCondition` decides for one asset partition at a time. It can't choose past days to train on from
the newest landed day and the champion, nor release the models before it publishes the lists.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from rec_assets.automation.asset_jobs import EXPORT
from rec_assets.errors import UserError
from rec_assets.recsys.evaluation.kpis import PERIOD_DAYS
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release
from rec_assets.settings import Settings
from rec_assets.sources.landing import too_few_days_message

PLAN_JOBS = ("daily_update", "retrain")
"""The jobs that execute a plan."""

PARENT_TAG = "rec_assets/parent_run"
"""Tag of a run that belongs to a plan: the id of the Dagster run, or of the process, that executes the plan."""


class PlanError(UserError, RuntimeError):
    """The data or the releases do not allow the plan; the message says what to do."""


class ExecutionError(UserError, RuntimeError):
    """A plan can't start, or one of its runs failed; the message says what to do."""


@dataclass(frozen=True)
class PlannedRun:
    """One Dagster run of the plan.

    Attributes:
        job: Name of the job.
        first, last: Its days: None for unpartitioned assets, equal for one as-of day.
    """

    job: str
    first: dt.date | None = None
    last: dt.date | None = None

    def __str__(self) -> str:
        if self.first is None:
            return self.job
        return f"{self.job} {self.last}" if self.first == self.last else f"{self.job} {self.first} to {self.last}"

    @property
    def days(self) -> list[dt.date | None]:
        """The partitions of the run."""
        if self.first is None or self.last is None:
            return [None]
        return [self.first + dt.timedelta(days=i) for i in range((self.last - self.first).days + 1)]


def plan_bootstrap(first: dt.date, newest: dt.date, settings: Settings) -> list[PlannedRun]:
    """Plan all runs that the newest day of a new lake needs, for data from `first` to `newest`.

    The report of the newest day evaluates the lists of one horizon ago. The ranker of those lists trains on the
    candidates of two horizons ago.

    Raises:
        PlanError: there are too few days.
    """
    if message := too_few_days_message(first, newest, settings.horizon_days):
        raise PlanError(message)
    horizon = dt.timedelta(days=settings.horizon_days)
    candidates_day, evaluated_day = newest - 2 * horizon, newest - horizon
    return [
        *_plan_data(max(first, candidates_day - dt.timedelta(days=settings.lookback_days - 1)), newest),
        _on("train_retrieval", candidates_day),
        _on("train_models", evaluated_day),
        _on("score_customers", evaluated_day),
        _on("train_models", newest),
        _on("score_customers", newest),
        _on("evaluate", newest),
        *_plan_kpis(first, newest),
        _on("release", newest),
        _on("publish_index", newest),
        *_plan_export(newest, settings),
    ]


def plan_daily_update(
    first: dt.date, newest: dt.date, settings: Settings, lake: Lake, champion: Release | None
) -> list[PlannedRun]:
    """Plan the runs for a new day: data, products, lists with the active models, serving index and KPIs.

    Live accuracy is measured if the lake has lists of the days before. Without a champion, nothing is published.
    """
    return [
        *_plan_data(max(first, newest - dt.timedelta(days=settings.lookback_days - 1)), newest),
        *_plan_lists(newest, settings, lake),
        *([_on("publish_index", newest)] if champion else []),
        *_plan_export(newest, settings),
        *_plan_kpis(first, newest),
    ]


def plan_retraining(
    first: dt.date, newest: dt.date, settings: Settings, lake: Lake, champion: Release | None,
    log: Callable[[str], None],
) -> list[PlannedRun]:  # fmt: skip
    """Plan models of `gate_days` ago, their comparison by the purchases since, and the lists of the active release.

    If the gate can't compare newer models yet, plan a daily update; `log` gets the reason.

    Raises:
        PlanError: there is no release yet, or there are too few days.
    """
    if champion is None:
        raise PlanError("there is no release yet: run `rec-assets bootstrap` first")
    training_day = newest - dt.timedelta(days=settings.gate_days)
    candidates_day = training_day - dt.timedelta(days=settings.horizon_days)
    if training_day <= champion.ranker_as_of:
        log(
            f"nothing to train yet: the champion's models are as of {champion.ranker_as_of}. The gate needs the "
            f"purchases of {settings.gate_days} days after newer models, so it can compare them from "
            f"{champion.ranker_as_of + dt.timedelta(days=settings.gate_days + 1)} on; the newest day is {newest}"
        )
        return plan_daily_update(first, newest, settings, lake, champion)
    if candidates_day < first:
        raise PlanError(
            f"training for {training_day} needs the candidates of {candidates_day}, which is before the first day, "
            f"{first}: land more days, or lower REC_HORIZON_DAYS or REC_GATE_DAYS"
        )
    has_candidates = lake.table("candidates").is_intact(candidates_day)
    return [
        *_plan_data(max(first, candidates_day - dt.timedelta(days=settings.lookback_days - 1)), newest),
        _on("generate_candidates" if has_candidates else "train_retrieval", candidates_day),
        _on("train_models", training_day),
        *([_on("evaluate", newest)] if _can_be_evaluated(newest, settings, lake) else []),
        *_plan_kpis(first, newest),
        _on("release", newest),
        *_plan_lists(newest, settings, lake),
        _on("publish_index", newest),
        *_plan_export(newest, settings),
    ]


def _can_be_evaluated(newest: dt.date, settings: Settings, lake: Lake) -> bool:
    day = newest - dt.timedelta(days=settings.horizon_days)
    return all(lake.table(table).is_intact(day) for table in ("hybrid_scores", "candidates", "product_snapshot"))


def _plan_data(oldest: dt.date, newest: dt.date) -> list[PlannedRun]:
    return [PlannedRun("ingest_catalog"), PlannedRun("ingest", oldest, newest), PlannedRun("update_products")]


def _plan_lists(newest: dt.date, settings: Settings, lake: Lake) -> list[PlannedRun]:
    served_days = [newest - dt.timedelta(days=age) for age in range(1, settings.model_reuse_days + 1)]
    has_served_lists = any(lake.table("hybrid_scores").is_intact(day) for day in served_days)
    return [_on("score_customers", newest), *([_on("measure_live_accuracy", newest)] if has_served_lists else [])]


def _plan_kpis(first: dt.date, newest: dt.date) -> list[PlannedRun]:
    return [_on("report_kpis", newest)] if (newest - first).days + 1 >= PERIOD_DAYS else []


def _plan_export(newest: dt.date, settings: Settings) -> list[PlannedRun]:
    return [_on(EXPORT, newest)] if settings.export.url else []


def _on(job: str, day: dt.date) -> PlannedRun:
    return PlannedRun(job, day, day)
