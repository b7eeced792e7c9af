"""Right to erasure: forget customers in the lake, the serving indexes and the released models, before each plan.

Dagster: nothing deletes rows from materialized partitions. The API records the requests. From then on, files
are read without the lines of these customers, and this module rewrites what exists without them.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.recsys.data.forgetting import Forgotten, is_forgotten
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.lake import DamagedPartition, Lake
from rec_assets.resources.releases import Releases
from rec_assets.serving.database.landing import forget_landed
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.manifest import IndexUnreadable
from rec_assets.settings import Settings

TABLES = ("raw_purchase_logs", "raw_feedback_events", "experiment_exposures", "cleaned_interactions",
          "rejected_purchases", "als_model", "candidates", "hybrid_scores")  # fmt: skip
"""Tables with rows of single customers."""


def forget_customers(online: OnlineState, settings: Settings, time_zone: str, log: Callable[[str], None]) -> None:
    """Forget the customers who asked since the last call, and those that a killed process left pending."""
    zone = zoneinfo.ZoneInfo(time_zone)
    requested = {digest: time.astimezone(zone).date() for digest, time in online.forgotten().items()}
    recorded = ForgottenFile.read(settings.forgotten_file)
    new = {digest: until for digest, until in requested.items() if recorded.forgotten.get(digest, dt.date.min) < until}
    pending = {**recorded.pending, **new}
    if not pending:
        return
    # Write the file first, so that files read during the rewrite are read without them.
    everyone = {**recorded.forgotten, **new}
    ForgottenFile(everyone, pending).write(settings.forgotten_file)
    complete = _rewrite(settings, pending, log)
    ForgottenFile(everyone, {} if complete else pending).write(settings.forgotten_file)


def _rewrite(settings: Settings, forgotten: Forgotten, log: Callable[[str], None]) -> bool:
    """Rewrite all data without these customers; returns whether all of it could be rewritten."""
    log(f"forgetting {len(forgotten)} customer{'s' if len(forgotten) > 1 else ''} on request")
    lake, rewritten, complete = Lake(settings.lake), forget_landed(settings.feedback_landing, forgotten), True
    for table in TABLES:
        for day in lake.days(table):
            try:
                rewritten += _rewrite_partition(lake, table, day, forgotten)
            except DamagedPartition as error:  # the following plan materializes it again, without them
                log(f"{error}; until then it may contain forgotten customers, and each plan tries again")
                complete = False
    shutil.rmtree(settings.root / "simulation", ignore_errors=True)  # its ledger names customers
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
            rewritten += 1
    releases = Releases(settings.mlflow_uri, settings.registered_model)
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
                rewritten += 1
    log(f"{rewritten} partitions, indexes and models rewritten")
    return complete


def _rewrite_partition(lake: Lake, table: str, day: dt.date, forgotten: Forgotten) -> bool:
    """Rewrite a partition if it has rows of these customers; returns whether it has."""
    column = "id" if table == "als_model" else "customer_id"
    ids: pd.Series = lake.read(table, [day], columns=[column])[column].to_pandas()
    matches = is_forgotten(ids, day, forgotten)
    if not matches.any():
        return False
    rows, manifest = lake.read(table, [day]).drop_columns(["date"]), lake.manifest(table, day)
    lake.write(table, rows.filter(pc.invert(pa.array(matches))), day, manifest.sources if manifest else {})
    return True
