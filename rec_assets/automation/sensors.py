"""The sensors that request runs: for landed or overdue purchase logs, a landed catalog, and needed retraining.

Dagster: asset sensors and `AutomationCondition` react to materializations. These sensors react to files in the landing
zone and to the content of tables. They are off until you turn them on.
"""

import datetime as dt
import json
import time
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import dagster as dg
import pandas as pd
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from rec_assets.automation.asset_jobs import CHECK_LANDING
from rec_assets.automation.ingest_requests import ingest_requests
from rec_assets.automation.plan_execution import day_range_tags
from rec_assets.automation.plan_jobs import EXPORT_MESSAGE, REASON_TAG
from rec_assets.automation.retraining_reasons import retraining_reasons
from rec_assets.partitions import DayPartitions
from rec_assets.resources.data_versions import Materializations
from rec_assets.resources.lake import open_lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import Settings
from rec_assets.sources.landing import LandedFiles, combined_fingerprint, is_in_future, scan, scan_catalog
from rec_assets.sources.rhythm import LEARNED_DAYS, punctuality
from rec_assets.sources.spec import DataSource

READ_TABLES = ("raw_purchase_logs", "cleaned_interactions")
"""Tables whose materializations tell which landed files are ingested."""


def build_sensors(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.SensorDefinition]:
    """The sensors of a code location."""
    lake, releases = open_lake(settings.lake), Releases(settings.mlflow_uri, settings.registered_model)
    materializations = Materializations()
    common: dict[str, Any] = {
        "minimum_interval_seconds": settings.sensor_interval_seconds, "default_status": dg.DefaultSensorStatus.STOPPED
    }  # fmt: skip

    @dg.sensor(
        **common, job_name="ingest", description="Requests `ingest` for new, changed and late files of purchase logs."
    )
    def purchase_logs_landed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not source.is_daily:
            return dg.SensorResult(skip_reason=EXPORT_MESSAGE)
        now = time.time()
        scanned = scan(source, _load_cursor(context.cursor), now=now, settle_seconds=settings.landing_settle_seconds)
        future_days = [str(day) for day in scanned if is_in_future(day, now)]
        landed = {day: files for day, files in scanned.items() if days.first <= day and not is_in_future(day, now)}
        cursor = json.dumps({str(day): vars(files) for day, files in landed.items()})
        if not landed:
            return dg.SensorResult(
                skip_reason=f"no files have landed in {source.expand(source.purchases.path)}", cursor=cursor
            )
        newest = max(landed)
        # The days that the next training reads. Nothing uses late files of older days.
        needed_days = settings.lookback_days + settings.horizon_days + settings.gate_days
        oldest = max(days.first, newest - dt.timedelta(days=needed_days - 1))
        raw, cleaned = (
            {day: record for day, record in materializations.of(name, context.instance).items() if day in days_in_lake}
            for name, days_in_lake in ((name, lake.table(name).partitions) for name in READ_TABLES)
        )
        requests = ingest_requests(landed, raw, cleaned, oldest)
        incomplete = [str(day) for day, files in landed.items() if not files.is_complete]
        notes = f"; waiting until the files of {', '.join(incomplete)} are complete" if incomplete else ""
        notes += f"; ignored, because they are in the future: {', '.join(future_days)}" if future_days else ""
        if not requests:
            return dg.SensorResult(
                skip_reason=f"nothing new: {len(landed)} days have landed, the newest is {newest}{notes}", cursor=cursor
            )
        if _is_in_progress(context, "ingest"):
            # During the run some days are read but not cleaned yet, and would be requested again.
            return dg.SensorResult(skip_reason=f"waiting for the running ingest{notes}", cursor=cursor)
        run_requests = []
        for request in requests:
            context.log.info(f"{request}{notes}")
            day = str(request.first) if request.first == request.last else None
            range_tags = {} if day else day_range_tags(request.first, request.last)
            tags = {REASON_TAG: str(request), **range_tags}
            run_requests.append(dg.RunRequest(request.run_key, partition_key=day, tags=tags))
        return dg.SensorResult(run_requests=run_requests, cursor=cursor)

    @dg.sensor(
        **common, job_name=CHECK_LANDING,
        description="Requests the check `purchases_land_on_time` when a day is overdue, so that it fails.",
    )  # fmt: skip
    def purchase_logs_overdue(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if not source.is_daily:
            return dg.SkipReason(EXPORT_MESSAGE)
        found = punctuality(source, dt.datetime.now(dt.timezone.utc))
        if found is None or not found.overdue:
            return dg.SkipReason(found.summary if found else f"less than {LEARNED_DAYS} days have landed")
        run_key = f"{found.overdue[0]} to {found.overdue[-1]}, {len(found.overdue)} days"
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key, tags={REASON_TAG: found.summary})])

    @dg.sensor(**common, job_name="daily_update", description="Requests `daily_update` for a new catalog file.")
    def catalog_landed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not source.is_daily:
            return dg.SensorResult(skip_reason=EXPORT_MESSAGE)
        previous = _load_cursor(context.cursor).get(dt.date.min)
        landed = scan_catalog(source, previous, now=time.time(), settle_seconds=settings.landing_settle_seconds)
        if landed is None:
            reason = "no catalog has landed" if source.catalog else "the data source has no catalog"
            return dg.SensorResult(skip_reason=reason)
        cursor = json.dumps({str(dt.date.min): vars(landed)})
        if not landed.is_complete:
            return dg.SensorResult(skip_reason="waiting until the new catalog is complete", cursor=cursor)
        made = materializations.of("raw_product_catalog", context.instance).get(None)
        if made is not None and combined_fingerprint(made.files) == landed.fingerprint:
            return dg.SensorResult(skip_reason="nothing new: the newest catalog is in the lake", cursor=cursor)
        context.log.info("a new catalog has landed")
        before = combined_fingerprint(made.files) if made else "nothing"
        request = dg.RunRequest(
            run_key=f"{before} to {landed.fingerprint}", tags={REASON_TAG: "a new catalog has landed"}
        )
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    @dg.sensor(
        **common,
        job_name="retrain",
        description="Requests `retrain` for new interactions, low live accuracy, or unknown products or customers.",
    )
    def retraining_needed(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if not source.is_daily:
            return dg.SkipReason(EXPORT_MESSAGE)
        newest, champion = max(lake.table("cleaned_interactions").days, default=None), releases.active()
        if newest is None or champion is None:
            return dg.SkipReason("there is no release yet: run `rec-assets bootstrap` first")
        if any(_is_in_progress(context, job) for job in ("ingest", "retrain")):
            # During these runs the lake has new days and live accuracies, but no models of them yet.
            return dg.SkipReason("waiting for the running ingest or retrain")
        comparable_from = champion.ranker_as_of + dt.timedelta(days=settings.gate_days + 1)
        if newest < comparable_from:
            return dg.SkipReason(
                f"the gate can compare newer models with the champion from {comparable_from} on, and the newest day is "
                f"{newest}"
            )
        challenger = max(releases.versions(), key=attrgetter("as_of", "version"))
        since = [day for day in lake.table("cleaned_interactions").days if day > challenger.as_of]
        lookback = [challenger.ranker_as_of - dt.timedelta(days=age) for age in range(settings.lookback_days)]
        measured = lake.table("live_accuracy").days
        reasons = retraining_reasons(
            settings.retraining,
            trained_interactions=lake.table("cleaned_interactions").rows(lookback),
            new_interactions=lake.table("cleaned_interactions").rows(since),
            live=lake.table("live_accuracy").pandas(measured).sort_values("date") if measured else pd.DataFrame(),
        )
        if not reasons:
            return dg.SkipReason(
                f"no reason to train: {len(since)} days since the last challenger (as of {challenger.as_of})"
            )
        reason = "; ".join(reasons.values())
        context.log.info(reason)
        # Once for each newest day: until the next one, live accuracy is that of the same lists, whatever was trained.
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=str(newest), tags={REASON_TAG: reason})])

    return [purchase_logs_landed, purchase_logs_overdue, catalog_landed, retraining_needed]


def _is_in_progress(context: dg.SensorEvaluationContext, job: str) -> bool:
    return bool(context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=NOT_FINISHED_STATUSES), limit=1))


def _load_cursor(cursor: str | None) -> Mapping[dt.date, LandedFiles]:
    """The files of each day at the last tick."""
    return {dt.date.fromisoformat(day): LandedFiles(**files) for day, files in json.loads(cursor or "{}").items()}
