"""Which runs bring a lake up to date, oldest first: for a first bootstrap, for a day's refresh, for a retraining.

A plan only says what is needed; what of it is stale is found out in `freshness`, and run in `execution`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from rec_assets.recsys.evaluation.kpis import PERIOD_DAYS
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release
from rec_assets.settings import Settings
from rec_assets.sources.findings import count


class PlanError(RuntimeError):
    """What is asked for can't be done with the days there are; the message says what to do."""


class NothingToTrain(PlanError):
    """Newer models than the champion's can't be judged yet."""


@dataclass(frozen=True)
class PlannedRun:
    """One Dagster run of the plan.

    Attributes:
        job: Name of the job.
        first, last: Its days; both None for unpartitioned assets, equal for an as-of day.
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
        """Partitions that the run covers."""
        if self.first is None or self.last is None:
            return [None]
        return [self.first + dt.timedelta(days=i) for i in range((self.last - self.first).days + 1)]


def plan_bootstrap(first: dt.date, newest: dt.date, settings: Settings) -> list[PlannedRun]:
    """All that the newest day of a new lake needs.

    Its report judges the lists of a horizon ago; their ranker learned from the candidates of a horizon before that.

    Args:
        first: First day of data.
        newest: Newest day of data.
        settings: Lookback and horizon.

    Raises:
        PlanError: there are too few days.
    """
    if said := too_few_days(first, newest, settings):
        raise PlanError(said)
    horizon = dt.timedelta(days=settings.horizon_days)
    learned, judged = newest - 2 * horizon, newest - horizon
    return [
        *_plan_data(max(first, learned - dt.timedelta(days=settings.lookback_days - 1)), newest),
        _on("learn", learned),
        _on("train", judged),
        _on("score", judged),
        _on("train", newest),
        _on("score", newest),
        _on("evaluate", newest),
        *_plan_report(first, newest),
        _on("release", newest),
        _on("publish", newest),
    ]


def too_few_days(first: dt.date, newest: dt.date, settings: Settings) -> str:
    """In words, why a bootstrap can't be made of these days; "" where it can."""
    days, needed = (newest - first).days + 1, 2 * settings.horizon_days + 1
    if days >= needed:
        return ""
    said = (
        f"{count(days, 'day')} of data ({first} to {newest}) {'is' if days == 1 else 'are'} too few: learning and "
        f"judging take 2 horizons of {settings.horizon_days} days and a day to look back on: land more days"
    )
    return said if days < 3 else f"{said}, or set REC_HORIZON_DAYS to {max((days - 1) // 3, 1)}"


def plan_refresh(
    first: dt.date, newest: dt.date, settings: Settings, lake: Lake, champion: Release | None
) -> list[PlannedRun]:
    """What a new day needs: its lines, products, lists by the models in force, what the API serves, and key figures.

    Args:
        first, newest: First and newest day of data.
        settings: Lookback.
        lake: Tells whether there are earlier lists, by which to measure the day.
        champion: The release in force; without one nothing is published.
    """
    return [
        *_plan_data(max(first, newest - dt.timedelta(days=settings.lookback_days - 1)), newest),
        *_plan_lists(newest, settings, lake),
        *([_on("publish", newest)] if champion else []),
        *_plan_report(first, newest),
    ]


def plan_training(
    first: dt.date, newest: dt.date, settings: Settings, lake: Lake, champion: Release | None
) -> list[PlannedRun]:
    """Models of `gate_days` ago, which the purchases since judge; then the newest day's lists by the release in force.

    Args:
        first, newest: First and newest day of data.
        settings: Lookback, horizon and the gate's days.
        lake: Tells which candidates are there for the ranker to learn from, and which lists to report on.
        champion: The release that the new models must be newer than.

    Raises:
        NothingToTrain: there would be no newer models that could be judged.
        PlanError: there are too few days.
    """
    if champion is None:
        raise PlanError("there is no release to improve on yet: run `rec-assets bootstrap` first")
    trained = newest - dt.timedelta(days=settings.gate_days)
    learned = trained - dt.timedelta(days=settings.horizon_days)
    if trained <= champion.ranker_version:
        raise NothingToTrain(
            f"nothing to train yet: the champion's models are of {champion.ranker_version}, and newer ones can be "
            f"judged by the purchases of {settings.gate_days} days from "
            f"{champion.ranker_version + dt.timedelta(days=settings.gate_days + 1)} on; the newest day is {newest}"
        )
    if learned < first:
        raise PlanError(
            f"training for {trained} needs the candidates of {learned}, which is before the first day, {first}: "
            "land more days, or lower REC_HORIZON_DAYS or REC_GATE_DAYS"
        )
    return [
        *_plan_data(max(first, learned - dt.timedelta(days=settings.lookback_days - 1)), newest),
        _on("find" if lake.is_whole("candidates", learned) else "learn", learned),
        _on("train", trained),
        *([_on("evaluate", newest)] if _can_be_evaluated(newest, settings, lake) else []),
        *_plan_report(first, newest),
        _on("release", newest),
        *_plan_lists(newest, settings, lake),
        _on("publish", newest),
    ]


def plan_training_or_refresh(
    first: dt.date, newest: dt.date, settings: Settings, lake: Lake, champion: Release | None,
    say: Callable[[str], None],
) -> list[PlannedRun]:  # fmt: skip
    """What new models take; where there is nothing to train yet, which `say` is told, what a new day takes.

    Raises:
        PlanError: as `plan_training`.
    """
    try:
        return plan_training(first, newest, settings, lake, champion)
    except NothingToTrain as why:
        say(str(why))
        return plan_refresh(first, newest, settings, lake, champion)


def _can_be_evaluated(newest: dt.date, settings: Settings, lake: Lake) -> bool:
    judged = newest - dt.timedelta(days=settings.horizon_days)
    return all(lake.is_whole(table, judged) for table in ("hybrid_scores", "candidates", "product_statistics"))


def _plan_data(oldest: dt.date, newest: dt.date) -> list[PlannedRun]:
    return [PlannedRun("catalog"), PlannedRun("ingest", oldest, newest), PlannedRun("refresh_products")]


def _plan_lists(newest: dt.date, settings: Settings, lake: Lake) -> list[PlannedRun]:
    seen = [newest - dt.timedelta(days=age) for age in range(1, settings.reuse_days + 1)]
    were_shown = any(lake.is_whole("hybrid_scores", day) for day in seen)
    return [_on("score", newest), *([_on("watch", newest)] if were_shown else [])]


def _plan_report(first: dt.date, newest: dt.date) -> list[PlannedRun]:
    return [_on("report", newest)] if (newest - first).days + 1 >= PERIOD_DAYS else []


def _on(job: str, day: dt.date) -> PlannedRun:
    return PlannedRun(job, day, day)
