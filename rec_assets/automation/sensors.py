"""The sensors that start runs: when files land, when a catalog lands, when models have grown old.

Each tick looks, asks `requests` what should be run, and says in the UI what it found. All are off until turned on.
"""

import datetime as dt
import json
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from rec_assets.automation.execution import day_range_tags
from rec_assets.automation.flows import REASON_TAG
from rec_assets.automation.requests import ingest_requests, reasons_to_train
from rec_assets.partitions import DayPartitions
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.settings import Settings
from rec_assets.sources.landing import LandedFiles, fingerprint_of, is_in_future, scan, scan_catalog
from rec_assets.sources.spec import Source

AT_WORK = [
    DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]  # fmt: skip


def build_sensors(settings: Settings, source: Source, days: DayPartitions) -> list[SensorDefinition]:
    """The sensors of a code location."""
    lake, releases = Lake(settings.lake), Releases(settings.mlflow_uri, settings.registered_model)
    every: dict[str, Any] = {
        "minimum_interval_seconds": settings.sensor_seconds,
        "default_status": DefaultSensorStatus.STOPPED,
    }

    @sensor(
        **every, job_name="ingest", description="New, changed and late files of the purchase log: asks for `ingest`."
    )
    def landing(context: SensorEvaluationContext) -> SensorResult:
        if not source.is_daily:
            return SensorResult(skip_reason="an export has no new days: run `rec-assets bootstrap` when it is replaced")
        known = _known(context.cursor)
        now = time.time()
        found = scan(source, known, now=now, settle_seconds=settings.landing_settle_seconds)
        mistyped = [str(day) for day in found if is_in_future(day, now)]
        landed = {day: what for day, what in found.items() if days.first <= day and not is_in_future(day, now)}
        cursor = json.dumps({str(day): vars(found) for day, found in landed.items()})
        if not landed:
            return SensorResult(
                skip_reason=f"nothing has landed in {source.expand(source.purchases.path)}", cursor=cursor
            )
        newest = max(landed)
        # What the next training reads; a late file of an older day is of no use to anything.
        back = settings.lookback_days + settings.horizon_days + settings.gate_days
        oldest = max(days.first, newest - dt.timedelta(days=back - 1))
        requests = ingest_requests(landed, lake, oldest)
        growing = [str(day) for day, found in landed.items() if not found.settled]
        waiting = f"; waiting until {', '.join(growing)} has stopped growing" if growing else ""
        waiting += f"; left out, as it lies in the future: {', '.join(mistyped)}" if mistyped else ""
        if not requests:
            return SensorResult(
                skip_reason=f"nothing new: {len(landed)} days have landed, the newest is {newest}{waiting}",
                cursor=cursor,
            )
        if _is_at_work(context, "ingest"):
            # In the middle of a run the lake has some of its days read and not cleaned: they'd be asked for again.
            return SensorResult(skip_reason=f"waiting for the run of ingest that is at work{waiting}", cursor=cursor)
        for request in requests:
            context.log.info(f"{request}{waiting}")
        return SensorResult(
            run_requests=[
                RunRequest(
                    run_key=request.run_key,
                    partition_key=str(request.first) if request.first == request.last else None,
                    tags={
                        REASON_TAG: str(request),
                        **(day_range_tags(request.first, request.last) if request.first != request.last else {}),
                    },
                )
                for request in requests
            ],
            cursor=cursor,
        )

    @sensor(**every, job_name="refresh", description="A new catalog feed: asks for `refresh`, without training.")
    def new_catalog(context: SensorEvaluationContext) -> SensorResult:
        known = _known(context.cursor).get(dt.date.min)
        found = scan_catalog(source, known, now=time.time(), settle_seconds=settings.landing_settle_seconds)
        if found is None:
            return SensorResult(skip_reason="no catalog has landed" if source.catalog else "the source has none")
        cursor = json.dumps({str(dt.date.min): vars(found)})
        if not found.settled:
            return SensorResult(skip_reason="waiting until the new catalog has stopped growing", cursor=cursor)
        manifest = lake.manifest("raw_product_catalog")
        if manifest is not None and fingerprint_of(manifest.sources) == found.fingerprint:
            return SensorResult(skip_reason="nothing new: the newest catalog is in the lake", cursor=cursor)
        context.log.info("a new catalog has landed")
        before = manifest.fingerprint if manifest else "nothing"
        request = RunRequest(run_key=f"{before} to {found.fingerprint}", tags={REASON_TAG: "a new catalog has landed"})
        return SensorResult(run_requests=[request], cursor=cursor)

    @sensor(
        **every,
        job_name="retrain",
        description="New purchases, falling accuracy or unknown products: asks for `retrain`.",
    )
    def models_grown_old(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        newest, champion = max(lake.days("cleaned_interactions"), default=None), releases.in_force()
        if newest is None or champion is None:
            return SkipReason("there is no release to improve on yet: run `rec-assets bootstrap` first")
        if any(_is_at_work(context, job) for job in ("ingest", "retrain")):
            # In the middle of one the lake has new days and accuracies, and no models of them yet.
            return SkipReason("waiting for the run of ingest or retrain that is at work")
        judged_from = champion.ranker_version + dt.timedelta(days=settings.gate_days + 1)
        if newest < judged_from:
            return SkipReason(
                f"newer models than the champion's can be judged from {judged_from} on; newest is {newest}"
            )
        proposed = max(releases.all(), key=_age)
        since = [day for day in lake.days("cleaned_interactions") if day > proposed.as_of]
        learned = [proposed.ranker_version - dt.timedelta(days=age) for age in range(settings.lookback_days)]
        measured = lake.days("live_accuracy")
        reasons = reasons_to_train(
            settings.retraining,
            lines_before=lake.rows("cleaned_interactions", learned),
            lines_since=lake.rows("cleaned_interactions", since),
            live=lake.pandas("live_accuracy", measured).sort_values("date") if measured else _NOTHING_MEASURED,
        )
        if not reasons:
            return SkipReason(
                f"nothing asks for training: {len(since)} days since the last proposal (as of {proposed.as_of})"
            )
        words = "; ".join(reasons.values())
        context.log.info(words)
        # Once a day: until the next, accuracy is that of the lists before, and would ask again whatever was trained.
        return SensorResult(run_requests=[RunRequest(run_key=str(newest), tags={REASON_TAG: words})])

    return [landing, new_catalog, models_grown_old]


_NOTHING_MEASURED = pd.DataFrame(columns=["date", "hit_rate", "unknown_products", "unknown_customers"])


def _is_at_work(context: SensorEvaluationContext, job: str) -> bool:
    return bool(context.instance.get_runs(RunsFilter(job_name=job, statuses=AT_WORK), limit=1))


def _age(release: Release) -> tuple[dt.date, int]:
    return release.as_of, release.version


def _known(cursor: str | None) -> Mapping[dt.date, LandedFiles]:
    """What the last tick found."""
    return {dt.date.fromisoformat(day): LandedFiles(**found) for day, found in json.loads(cursor or "{}").items()}
