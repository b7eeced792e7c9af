"""Retention: which days of the lake housekeeping may delete, and why older days stay. Decides only; deletes nothing.

Age counts from the newest day of raw_purchase_logs, not from today, so a shop that stops landing files loses no data.
`Settings.min_retention_days` keeps what the next runs need. This module keeps what the active release needs, and the
release that a rollback would activate.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rec_assets.resources.releases import Release

INTERACTIONS = ("raw_purchase_logs", "raw_feedback_events", "cleaned_interactions", "rejected_purchases")


@dataclass(frozen=True)
class RetentionPlan:
    """Days to delete and days to keep.

    Attributes:
        newest: Day that ages count from; None if the lake is empty.
        delete: Table → days to delete, oldest first; only tables with such days.
        kept: (table, day) → why it stays, although it is older than its table's retention.
    """

    newest: dt.date | None
    delete: Mapping[str, Sequence[dt.date]]
    kept: Mapping[tuple[str, dt.date], str]


def plan_retention(
    days: Mapping[str, Sequence[dt.date]], keep: Mapping[str, int | None], releases: Sequence[Release], *,
    horizon_days: int, lookback_days: int,
) -> RetentionPlan:  # fmt: skip
    """Plan which days to delete.

    Args:
        days: Table → its days in the lake.
        keep: Table → number of days to keep; None for all. Other tables are not touched.
        releases: All releases in the registry.
        horizon_days: Days between a ranker and the candidates that it was trained on.
        lookback_days: Days of purchases behind each model.
    """
    newest = max(days.get("raw_purchase_logs", ()), default=None)
    if newest is None:
        return RetentionPlan(None, {}, {})
    needed = _needed_partitions(releases, horizon_days, lookback_days)
    delete: dict[str, list[dt.date]] = {}
    kept: dict[tuple[str, dt.date], str] = {}
    for table, length in keep.items():
        if length is None:
            continue
        existing = sorted(days.get(table, ()))
        for day in existing:
            if day > newest - dt.timedelta(days=length):
                continue
            reason = needed.get((table, day)) or ("newest day of the table" if day == existing[-1] else "")
            if reason:
                kept[table, day] = reason
            else:
                delete.setdefault(table, []).append(day)
    return RetentionPlan(newest, delete, kept)


def _needed_partitions(
    releases: Sequence[Release], horizon_days: int, lookback_days: int
) -> dict[tuple[str, dt.date], str]:
    """(table, day) → why it is needed: for the active release, or for the one that a rollback would activate."""
    needed: dict[tuple[str, dt.date], str] = {}
    newest_first = sorted((each for each in releases if each.is_promoted), key=lambda each: each.order, reverse=True)
    for release, role in zip(newest_first, ("active", "target of a rollback"), strict=False):
        for partition in _lineage(release, horizon_days, lookback_days):
            needed.setdefault(partition, f"version {release.version}, {role}")
    return needed


def _lineage(release: Release, horizon_days: int, lookback_days: int) -> Iterator[tuple[str, dt.date]]:
    """The partitions that a release was made from."""
    yield "als_model", release.als_as_of
    yield "co_purchase_graph", release.graph_as_of
    yield "ranker", release.ranker_as_of
    candidates_day = release.ranker_as_of - dt.timedelta(days=horizon_days)
    snapshot_days = {release.als_as_of, release.graph_as_of, release.ranker_as_of, release.as_of}
    for day in snapshot_days:
        yield "product_statistics", day
    for day in snapshot_days | {candidates_day}:
        yield "candidates", day
    oldest = min(snapshot_days | {candidates_day}) - dt.timedelta(days=lookback_days)
    for age in range((release.as_of - oldest).days):
        for table in INTERACTIONS:
            yield table, release.as_of - dt.timedelta(days=age)
