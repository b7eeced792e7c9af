"""Before each plan: land the events that the API collected, and forget customers who asked for it.

To forget customers, this module rewrites the lake, the serving indexes and the released models without them (right to
erasure). A plan first writes who is forgotten, and from then on, files are read without their lines.

Dagster: nothing deletes rows from materialized partitions. A sensor could land events, but not always before a plan
reads the landing zone.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from sqlalchemy.exc import SQLAlchemyError

from rec_assets.assets.model_loading import released_model
from rec_assets.automation.plan import PARENT_TAG, PLAN_JOBS
from rec_assets.automation.retention import releases_in_use
from rec_assets.recsys.data.forgetting import Forgotten, is_forgotten
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.lake import DamagedPartition, Day, Lake, LakeTable, MissingPartition, Partition, open_lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.serving.database.landing import forget_landed, land_events
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.manifest import IndexUnreadable
from rec_assets.settings import Settings

ALS_MODEL = "als_model"
TABLES = ("raw_purchase_logs", "raw_feedback_events", "experiment_exposures", "cleaned_interactions",
          "rejected_purchases", "customer_histories", ALS_MODEL, "candidates", "hybrid_scores")  # fmt: skip
"""Tables with rows of single customers."""

OtherRuns = Callable[[], list[str]]
"""Returns the runs, in words, that may write to the lake at the same time."""


def land_and_forget(
    settings: Settings, time_zone: str, log: Callable[[str], None], *, other_runs: OtherRuns = list
) -> bool:
    """Land the feedback since the last call, and forget customers. Without an API database, do nothing.

    If there are `other_runs`, before or after, forgetting is repeated next time, because they may write what they have
    read before. Returns False if the database doesn't respond: its events land next time.
    """
    if settings.api.database_url is None and not settings.online_file.exists():
        return True
    online = OnlineState(settings.online_url)
    try:
        online.create()
        written = land_events(
            online, settings.feedback_landing, time_zone=time_zone, now=dt.datetime.now(dt.timezone.utc),
            keep_days=settings.api.event_retention_days,
        )  # fmt: skip
        _forget_customers(online, settings, time_zone, log, other_runs)
    except SQLAlchemyError as error:
        log(f"could not land the API's events; the next plan tries again: {type(error).__name__}: {error}")
        return False
    finally:
        online.close()
    if written:
        log(f"landed {sum(written.values())} events of the API for {', '.join(str(day) for day in sorted(written))}")
    return True


def find_other_runs(instance: dg.DagsterInstance) -> OtherRuns:
    """A function that names the runs that may have written since now, but for plans: the caller holds their lock."""
    filters = (
        dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES),
        dg.RunsFilter(updated_after=dt.datetime.now(dt.timezone.utc)),
    )

    def names() -> list[str]:
        runs = (run for each in filters for run in instance.get_runs(each))
        found = (run for run in runs if PARENT_TAG not in run.tags and run.job_name not in PLAN_JOBS)
        return sorted({f"{run.job_name} {run.run_id}" for run in found})

    return names


def _forget_customers(
    online: OnlineState, settings: Settings, time_zone: str, log: Callable[[str], None], other_runs: OtherRuns
) -> None:
    """Forget the customers who asked since the last call, and those whom earlier calls could not forget for good."""
    zone = zoneinfo.ZoneInfo(time_zone)
    requested = {digest: time.astimezone(zone).date() for digest, time in online.forgotten().items()}
    recorded = ForgottenFile.read(settings.forgotten_file)
    new = {digest: until for digest, until in requested.items() if recorded.forgotten.get(digest, dt.date.min) < until}
    pending = {**recorded.pending, **new}
    if not pending:
        return
    # Write the file first, so that files read during the rewrite are read without them.
    everyone = {**recorded.forgotten, **new}
    ForgottenFile(forgotten=everyone, pending=pending).write(settings.forgotten_file)
    complete = _rewrite(settings, pending, log, are_others_writing=bool(other_runs()))
    if others := other_runs():
        complete = False
        log(f"these runs may still write rows that they read before, so the next plan repeats this: {others}")
    ForgottenFile(forgotten=everyone, pending={} if complete else pending).write(settings.forgotten_file)


def _rewrite(settings: Settings, forgotten: Forgotten, log: Callable[[str], None], *, are_others_writing: bool) -> bool:
    """Rewrite all data without these customers; returns whether all of it could be rewritten.

    Logs the receipt: a line for each table, index and model version that contained them.
    """
    log(f"forgetting {len(forgotten)} customer{'s' if len(forgotten) > 1 else ''} on request")
    if files := forget_landed(settings.feedback_landing, forgotten):
        log(f"landed feedback: {files} files rewritten")
    shutil.rmtree(settings.root / "simulation", ignore_errors=True)  # its ledger names customers
    lake, complete = open_lake(settings.lake), True
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    for name in (name for name in TABLES if lake.table(name).version is not None):
        try:
            log(_rewrite_table(lake, name, forgotten, releases, are_others_writing=are_others_writing))
        except DamagedPartition as error:  # the following plan materializes it again, without them
            log(f"{error}; until then it may contain forgotten customers, and each plan tries again")
            complete = False
    serving = ServingFolder(settings.serving)
    for published in serving.indexes():
        try:
            index = Index.load(published.path)
        except IndexUnreadable as error:  # no worker can serve it, and the following plan publishes a new one
            log(f"deleting an index that can't be rewritten: {error}")
            serving.remove(published)
            continue
        kept = index.without(forgotten)
        if kept is not index:
            serving.replace(published, kept.save)
            log(f"serving index {published.path.name}: rewritten")
    for release in releases.versions():
        with tempfile.TemporaryDirectory() as folder:
            fetched, new = Path(folder) / "index", Path(folder) / "new"
            releases.download_index(release, fetched)
            try:
                index = Index.load(fetched)
            except IndexUnreadable:
                log(
                    f"this version of rec_assets can't read version {release.version} of {releases.model}, which may "
                    "contain forgotten customers: delete it in MLflow's registry; until then each plan tries again"
                )
                complete = False
                continue
            kept = index.without(forgotten)
            if kept is not index:
                kept.save(new)
                releases.replace_index(release, new)
                log(f"{releases.model} version {release.version}: rewritten")
    return complete


def _rewrite_table(lake: Lake, name: str, forgotten: Forgotten, releases: Releases, *, are_others_writing: bool) -> str:
    """Remove the rows of these customers from a table, and its earlier versions; returns what was removed.

    Raises:
        DamagedPartition: a partition can't be read. The others are rewritten.
    """
    table, staged, removed, damaged = lake.table(name), dict[Day, Partition](), 0, None
    for day in table.days:
        try:
            if (rows := _rows_to_keep(table, day, forgotten)) is not None:
                staged[day] = lake.stage(name, rows, day)
                removed += table.rows([day]) - len(rows)
        except DamagedPartition as error:
            damaged = error
    if staged:
        lake.commit(name, staged)
    needed = _rewrite_released_models(lake, forgotten, releases) if name == ALS_MODEL else []
    rewritten = lake.table(name).version
    deleted = lake.vacuum(name, needed, hours=0, full=not are_others_writing)
    if damaged is not None:
        raise damaged
    files = f"{len(deleted)} files of versions before {rewritten} deleted"
    return f"{name}: {removed} rows of {len(staged)} days removed; {files}"


def _rewrite_released_models(lake: Lake, forgotten: Forgotten, releases: Releases) -> list[int]:
    """Write the ALS models of the releases in use as new versions, without these customers; returns the versions."""
    current, written = lake.table(ALS_MODEL), dict[int, tuple[Release, LakeTable, dt.date]]()
    for release in releases_in_use(releases.versions()):
        try:
            table, day = released_model(lake, release, ALS_MODEL)
            rows = _rows_to_keep(table, day, forgotten)
            lake.write(ALS_MODEL, _rows(table, day) if rows is None else rows, day)
        except (MissingPartition, DamagedPartition):
            continue  # it can't be used any more
        written[release.version] = release, lake.table(ALS_MODEL), day
        if day in current.partitions:  # another model may have been trained for the day since
            lake.write(ALS_MODEL, _rows(current, day), day)
    newest, versions = lake.table(ALS_MODEL), list[int]()
    for version, (release, table, day) in written.items():
        found = newest if newest.partitions.get(day) == table.partitions[day] else table
        versions.append(found.version or 0)
        tags = {
            "table_versions": {**release.table_versions, ALS_MODEL: found.version},
            "model_fingerprints": {**release.model_fingerprints, ALS_MODEL: found.partitions[day].fingerprint},
        }
        releases.set_tags(version, {name: json.dumps(value) for name, value in tags.items()})
    return versions


def _rows_to_keep(table: LakeTable, day: dt.date, forgotten: Forgotten) -> pa.Table | None:
    """The rows of a day without these customers; None if it has none of theirs. Raises DamagedPartition."""
    column = "id" if table.name == ALS_MODEL else "customer_id"
    matches = is_forgotten(table.read([day], columns=[column])[column].to_pandas(), day, forgotten)
    if not matches.any():
        return None
    return _rows(table, day).filter(pc.invert(pa.array(matches)))


def _rows(table: LakeTable, day: dt.date) -> pa.Table:
    return table.read([day]).drop_columns(["date"])
