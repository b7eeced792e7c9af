"""`rec-assets lineage`: version → Dagster run → models → days of interactions → landed files of a release.

Dagster: its asset lineage shows the newest materializations. This is the lineage stored with the release, compared with
the lake today.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release, Releases

DAILY_TABLES = ("cleaned_interactions", "raw_purchase_logs")

UNCHANGED = "unchanged"


def describe_lineage(release: Release, releases: Releases, lake: Lake, instance: dg.DagsterInstance) -> Iterator[str]:
    """The lineage as lines of text, down to each landed file with its SHA-256."""
    inputs = releases.load_inputs(release)
    decision = (release.decision or "not decided") + (", rolled back" if release.rolled_back else "")
    yield f"{releases.model} version {release.version}, as of {release.as_of}: {decision}"
    if reasons := release.tags.get("reasons"):
        yield f"  because {reasons}"
    run = instance.get_run_by_id(release.tags["dagster_run_id"])
    status = f"{run.job_name}, {run.status.value}" if run else "its record was deleted"
    yield f"  Dagster run {release.tags['dagster_run_id']} ({status}), MLflow run {release.run_id}"
    yield f"  commit {release.tags['git_commit'] or '(not from a git checkout)'}"
    yield f"  data fingerprint {release.tags['data_fingerprint']}"
    versions = (f"{table} {version}" for table, version in sorted(release.table_versions.items()))
    yield f"  versions of the tables: {', '.join(versions) or '(not recorded)'}"
    for table in ("als_model", "co_purchase_graph", "ranker"):
        for day, part in inputs[table].items():
            yield f"  {table} {day}  {part['fingerprint'][:16]}  {_compare(lake, table, day, part)}"
    for table in DAILY_TABLES:
        days = inputs[table]
        changed = [day for day, part in days.items() if _compare(lake, table, day, part) != UNCHANGED]
        more = f"; changed or deleted: {', '.join(changed[:10])}{' …' if len(changed) > 10 else ''}" if changed else ""
        yield f"  {table}: {len(days)} days, {min(days)} to {max(days)}{more}"
    for day, part in inputs["raw_purchase_logs"].items():
        for file, fingerprint in part.get("files", {}).items():
            yield f"    {day}  {fingerprint}  {file}"


def _compare(lake: Lake, table: str, day: str, part: Mapping[str, Any]) -> str:
    partition = lake.table(table).partitions.get(dt.date.fromisoformat(day))
    if partition is None:
        return "no longer in the lake"
    return UNCHANGED if partition.fingerprint == part["fingerprint"] else "changed since"
