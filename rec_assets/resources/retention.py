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

CLOCK = "raw_purchase_logs"
INTERACTIONS = ("raw_purchase_logs", "raw_feedback_events", "cleaned_interactions", "rejected_purchases")


@dataclass(frozen=True)
class RetainedPartition:
    """A day that is older than its table's retention but stays.

    Attributes:
        table, day: The partition.
        reason: Why it stays.
    """

    table: str
    day: dt.date
    reason: str


@dataclass(frozen=True)
class RetentionPlan:
    """Days to delete and days to keep.

    Attributes:
        newest: Day that ages count from; None if the lake is empty.
        delete: Table → days to delete, oldest first; only tables with such days.
        retained: Older days that stay.
    """

    newest: dt.date | None
    delete: Mapping[str, Sequence[dt.date]]
    retained: Sequence[RetainedPartition]


def plan_retention(
    days: Mapping[str, Sequence[dt.date]],
    keep: Mapping[str, int | None],
    releases: Sequence[Release],
    *,
    horizon_days: int,
    lookback_days: int,
) -> RetentionPlan:
    """Plan which days to delete.

    Args:
        days: Table → its days in the lake.
        keep: Table → number of days to keep; None for all. Other tables are not touched.
        releases: All releases in the registry.
        horizon_days: Days between a ranker and the candidates that it was trained on.
        lookback_days: Days of purchases behind each model.
    """
    newest = max(days.get(CLOCK, ()), default=None)
    if newest is None:
        return RetentionPlan(None, {}, [])
    needed = _needed_partitions(releases, horizon_days, lookback_days)
    delete: dict[str, list[dt.date]] = {}
    retained: list[RetainedPartition] = []
    for table, length in keep.items():
        existing = sorted(days.get(table, ()))
        if length is None or not existing:
            continue
        for day in existing:
            if day > newest - dt.timedelta(days=length):
                continue
            reason = needed.get((table, day))
            if reason is None and day == existing[-1]:
                reason = "newest day of the table"
            if reason is None:
                delete.setdefault(table, []).append(day)
            else:
                retained.append(RetainedPartition(table, day, reason))
    return RetentionPlan(newest, delete, retained)


def releases_to_keep(releases: Sequence[Release]) -> list[Release]:
    """The active release and the one that a rollback would activate, newest first."""
    promoted = [release for release in releases if release.is_promoted]
    return sorted(promoted, key=lambda release: release.order, reverse=True)[:2]


def _needed_partitions(
    releases: Sequence[Release], horizon_days: int, lookback_days: int
) -> dict[tuple[str, dt.date], str]:
    """(table, day) → why it is needed."""
    needed: dict[tuple[str, dt.date], str] = {}
    for release, role in zip(releases_to_keep(releases), ("active", "target of a rollback"), strict=False):
        for partition in _lineage(release, horizon_days, lookback_days):
            needed.setdefault(partition, f"version {release.version}, {role}")
    return needed


def _lineage(release: Release, horizon_days: int, lookback_days: int) -> Iterator[tuple[str, dt.date]]:
    """The partitions that a release was made from."""
    yield "als_model", release.als_as_of
    yield "co_purchase_graph", release.graph_as_of
    yield "ranker", release.ranker_as_of
    training_day = release.ranker_as_of - dt.timedelta(days=horizon_days)
    snapshot_days = {release.als_as_of, release.graph_as_of, release.ranker_as_of, release.as_of}
    for day in snapshot_days:
        yield "product_statistics", day
    for day in snapshot_days | {training_day}:
        yield "candidates", day
    oldest = min(snapshot_days | {training_day}) - dt.timedelta(days=lookback_days)
    for age in range((release.as_of - oldest).days):
        for table in INTERACTIONS:
            yield table, release.as_of - dt.timedelta(days=age)
