"""Customers who asked to be forgotten, on their way out of all that is kept; done before each plan.

The API notes whom to forget (`serving/online.py`). From then on reading leaves their lines out, whatever a shop's files
still hold; and what is there already is rewritten without them: the lake, the serving indexes, the released models.
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
from rec_assets.serving.folder import ServingFolder
from rec_assets.serving.index import Index
from rec_assets.serving.landing import forget_landed
from rec_assets.serving.manifest import IndexUnreadable
from rec_assets.serving.online import OnlineState
from rec_assets.settings import Settings

TABLES = {
    "raw_purchase_logs": "customer_id",
    "raw_feedback_events": "customer_id",
    "experiment_exposures": "customer_id",
    "cleaned_interactions": "customer_id",
    "rejected_purchases": "customer_id",
    "als_model": "id",
    "candidates": "customer_id",
    "hybrid_scores": "customer_id",
}
"""Tables that hold something of single customers → the column with their ids."""


def forget_customers(online: OnlineState, settings: Settings, time_zone: str, say: Callable[[str], None]) -> None:
    """Take out of everything who asked for it since the last time, and whom a killed process left to do."""
    zone = zoneinfo.ZoneInfo(time_zone)
    asked = {digest: time.astimezone(zone).date() for digest, time in online.forgotten().items()}
    noted = ForgottenFile.read(settings.forgotten_file)
    new = {digest: until for digest, until in asked.items() if noted.forgotten.get(digest, dt.date.min) < until}
    pending = {**noted.pending, **new}
    if not pending:
        return
    # Noted first: what is read while the rest is rewritten is read without them.
    everyone = {**noted.forgotten, **new}
    ForgottenFile(everyone, pending).write(settings.forgotten_file)
    done = _settle(settings, pending, say)
    ForgottenFile(everyone, {} if done else pending).write(settings.forgotten_file)


def _settle(settings: Settings, forgotten: Forgotten, say: Callable[[str], None]) -> bool:
    """Rewrite everything without them; returns whether it could all be."""
    say(f"forgetting {len(forgotten)} customer{'s' if len(forgotten) > 1 else ''}, who asked for it")
    lake, rewritten, done = Lake(settings.lake), forget_landed(settings.feedback_landing, forgotten), True
    for table, column in TABLES.items():
        for day in lake.days(table):
            try:
                rewritten += _without(lake, table, column, day, forgotten)
            except DamagedPartition as error:  # the plan that follows makes it again, without them
                say(f"{error}; until then it may still know them, and this is tried before each plan")
                done = False
    shutil.rmtree(settings.root / "simulation", ignore_errors=True)  # it names customers, and is of no use any more
    serving = ServingFolder(settings.serving)
    for published in serving.indexes():
        try:
            index = Index.load(published.path)
        except IndexUnreadable as error:  # nor can anybody answer from it, and the plan publishes anew
            say(f"deleting what can't be rewritten: {error}")
            serving.remove(published)
            continue
        kept = index.without(forgotten)
        if kept is not index:
            serving.replace(published, kept.save)
            rewritten += 1
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    for release in releases.all():
        with tempfile.TemporaryDirectory() as folder:
            fetched, new = Path(folder) / "index", Path(folder) / "new"
            releases.fetch_index(release, fetched)
            try:
                index = Index.load(fetched)
            except IndexUnreadable:
                say(
                    f"version {release.version} of {releases.model} can't be read by this version of rec_assets, and "
                    "may still know them: delete it in MLflow's registry; until then this is tried before each plan"
                )
                done = False
                continue
            kept = index.without(forgotten)
            if kept is not index:
                kept.save(new)
                releases.replace_index(release, new)
                rewritten += 1
    say(f"{rewritten} partitions, indexes and models rewritten")
    return done


def _without(lake: Lake, table: str, column: str, day: dt.date, forgotten: Forgotten) -> bool:
    """Rewrite a partition, if there is something of them in it."""
    ids: pd.Series = lake.read(table, [day], columns=[column])[column].to_pandas()
    theirs = is_forgotten(ids, day, forgotten)
    if not theirs.any():
        return False
    rows, manifest = lake.read(table, [day]).drop_columns(["date"]), lake.manifest(table, day)
    lake.write(table, rows.filter(pc.invert(pa.array(theirs))), day, manifest.sources if manifest else {})
    return True
