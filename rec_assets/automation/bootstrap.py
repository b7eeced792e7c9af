"""Bring a lake up to its newest day: which runs that needs, and running them, oldest first, through Dagster.

A partition is up to date when Dagster has materialised it since all that it was made from last changed. So a second
bootstrap does nothing, one after a crash does the rest, and one after a corrected file does what depends on it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    EventLogRecord,
    RunsFilter,
)
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from rec_assets.resources.lake import Lake, sweep_staging
from rec_assets.resources.tracking import end_orphan
from rec_assets.settings import Settings
from rec_assets.sources.landing import modified_at
from rec_assets.sources.spec import Source

BOOTSTRAP_TAG = "rec_assets/bootstrap"

DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
"""


class BootstrapError(RuntimeError):
    """A bootstrap can't start, or one of its runs failed; the message says what to do."""


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


def plan(first: dt.date, newest: dt.date, settings: Settings) -> list[PlannedRun]:
    """The runs that the newest day needs, oldest first.

    Its report judges the lists of a horizon ago; their ranker learned from the candidates of a horizon before that.

    Args:
        first: First day of data.
        newest: Newest day of data.
        settings: Lookback and horizon.

    Raises:
        BootstrapError: there are too few days.
    """
    horizon = dt.timedelta(days=settings.horizon_days)
    learned, judged = newest - 2 * horizon, newest - horizon
    if learned < first:
        raise BootstrapError(
            f"{(newest - first).days + 1} days of data ({first} to {newest}) are too few: learning and judging take "
            f"2 horizons of {settings.horizon_days} days and a day to look back on: land more days, or set "
            f"REC_HORIZON_DAYS to {max(((newest - first).days) // 3, 1)}"
        )
    oldest = max(first, learned - dt.timedelta(days=settings.lookback_days - 1))
    return [
        PlannedRun("catalogue"),
        PlannedRun("ingest", oldest, newest),
        PlannedRun("refresh_products"),
        PlannedRun("learn", learned, learned),
        PlannedRun("train", judged, judged),
        PlannedRun("score", judged, judged),
        PlannedRun("train", newest, newest),
        PlannedRun("score", newest, newest),
        PlannedRun("evaluate", newest, newest),
    ]


class Freshness:
    """Which partitions are up to date."""

    def __init__(self, graph: BaseAssetGraph, instance: DagsterInstance, lake: Lake, source: Source) -> None:
        self.graph, self.instance, self.lake, self.source = graph, instance, lake, source
        self._materialized: dict[AssetKey, dict[dt.date | None, float]] = {}

    def forget(self) -> None:
        """Look at Dagster's records anew: a run has ended."""
        self._materialized.clear()

    def is_stale(self, key: AssetKey, day: dt.date | None) -> bool:
        """Whether the partition was never materialised, is gone, or something it was made from changed since."""
        table = key.path[-1]
        made = self._made(key).get(day)
        if made is None or self.lake.changed_at(table, day) is None:
            return True
        return any(changed > made for changed in self._inputs_changed(key, day))

    def _made(self, key: AssetKey) -> dict[dt.date | None, float]:
        if key not in self._materialized:
            records: list[EventLogRecord] = []
            cursor = None
            while True:
                page = self.instance.fetch_materializations(
                    AssetRecordsFilter(asset_key=key), limit=1000, cursor=cursor
                )
                records += page.records
                cursor = page.cursor
                if not page.has_more:
                    break
            made: dict[dt.date | None, float] = {}
            for record in reversed(records):
                day = dt.date.fromisoformat(record.partition_key) if record.partition_key else None
                made[day] = record.timestamp
            self._materialized[key] = made
        return self._materialized[key]

    def _inputs_changed(self, key: AssetKey, day: dt.date | None) -> Iterator[float]:
        name = key.path[-1]
        if name == "raw_purchase_logs":
            yield from (modified_at(file) or 0.0 for file in self.source.files(day))
        if name == "raw_product_catalogue" and (catalogue := self.source.catalogue_file()):
            yield modified_at(catalogue) or 0.0
        parents = self.graph.get_parents_partitions(key, day.isoformat() if day else None).parent_partitions
        for parent, partition in parents:
            parent_day = dt.date.fromisoformat(partition) if partition else None
            changed = self.lake.changed_at(parent.path[-1], parent_day)
            if changed is not None:
                yield changed


def bootstrap(definitions: Definitions, settings: Settings, source: Source) -> list[PlannedRun]:
    """Materialise what the newest day needs and isn't up to date.

    Returns:
        The runs that were needed, in order.

    Raises:
        BootstrapError: too few days, another bootstrap is at work, or a run failed.
        SourceError: the source can't be used as it is.
    """
    with _only_one(settings.root):
        if source.dataset:
            import_module(f"rec_assets.datasets.{source.dataset}").land(source)
        first, newest = source.bounds()
        if source.is_daily and not source.last_day:
            newest = min(newest, max(source.landed_days()))
        instance = open_instance(settings)
        _end_orphans(instance, settings)
        sweep_staging(settings.lake)
        runs = plan(first, newest, settings)
        freshness = Freshness(definitions.resolve_asset_graph(), instance, Lake(settings.lake), source)
        done, started = [], time.monotonic()
        for number, run in enumerate(runs, start=1):
            stale = _stale(run, definitions, freshness)
            label = f"[{number}/{len(runs)}] {run}"
            if not stale:
                _say(f"{label}: up to date")
                continue
            _say(f"{label}: {', '.join(sorted({key.path[-1] for key, _ in stale}))}")
            _execute(run, stale, definitions, instance)
            freshness.forget()
            done.append(run)
        _say(f"up to date as of {newest} after {time.monotonic() - started:.0f} s")
        return done


def open_instance(settings: Settings) -> DagsterInstance:
    """The Dagster instance under REC_HOME; made if it isn't there."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    configuration = home / "dagster.yaml"
    if not configuration.exists():
        configuration.write_text(DAGSTER_YAML)
    os.environ["DAGSTER_HOME"] = str(home)
    return DagsterInstance.get()


def _stale(run: PlannedRun, definitions: Definitions, freshness: Freshness) -> list[tuple[AssetKey, dt.date | None]]:
    selected = definitions.resolve_job_def(run.job).asset_layer.selected_asset_keys
    direct = [(key, day) for key in selected for day in run.days if freshness.is_stale(key, day)]
    # What is made from something stale is stale too, before it is remade.
    keys = {key for key, _ in direct}
    for key in freshness.graph.toposorted_asset_keys:
        if key in selected and freshness.graph.get(key).parent_keys & keys:
            keys.add(key)
    days = {day for _, day in direct}
    return [(key, day) for key in selected if key in keys for day in run.days if day in days]


def _execute(
    run: PlannedRun,
    stale: list[tuple[AssetKey, dt.date | None]],
    definitions: Definitions,
    instance: DagsterInstance,
) -> None:
    job = definitions.resolve_job_def(run.job)
    keys = {key for key, _ in stale}
    # cleaned_interactions and rejected_purchases come from one step: both or neither.
    for key in set(keys):
        keys |= job.asset_layer.get(key).execution_set_asset_keys & job.asset_layer.selected_asset_keys
    days = sorted(day for _, day in stale if day is not None)
    tags = {BOOTSTRAP_TAG: str(os.getpid())}
    partition = None
    if days and run.first != run.last:
        tags |= {ASSET_PARTITION_RANGE_START_TAG: str(days[0]), ASSET_PARTITION_RANGE_END_TAG: str(days[-1])}
    elif days:
        partition = str(days[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = job.execute_in_process(
            instance=instance,
            partition_key=partition,
            tags=tags,
            asset_selection=sorted(keys),
            run_config={"loggers": {"console": {}}},
            raise_on_error=False,
        )
    if not result.success:
        raise BootstrapError(f"{run} failed: {_why(result)}\nMend that and run bootstrap again: it goes on from here.")


def _why(result) -> str:  # type: ignore[no-untyped-def] # ExecuteInProcessResult
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


def _end_orphans(instance: DagsterInstance, settings: Settings) -> None:
    """Runs of a bootstrap that was killed are over: say so to Dagster and MLflow. We hold the lock, so none lives.

    Killed early, a run is not even started.
    """
    ended = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
    for run in instance.get_runs(RunsFilter(statuses=[status for status in DagsterRunStatus if status not in ended])):
        if BOOTSTRAP_TAG in run.tags:
            instance.report_run_failed(run, "the process was killed")
            artifacts = str(settings.root / "mlflow" / "artifacts")
            end_orphan(settings.mlflow_uri, artifacts, settings.mlflow_experiment, run.run_id)


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the lock of REC_HOME; it goes with the process, however that ends."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".bootstrap.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BootstrapError(f"another bootstrap is at work in {home}: wait for it, or stop it") from None
        yield


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
