"""Retention: which days of the lake may go, and why others stay though they are old. Decides only; deletes nothing.

Age counts from the newest day of raw_purchase_logs, not from today: a shop that stops landing files loses nothing.
That the days kept are enough for the next runs is a rule of the settings (`Settings.least_retention`); this module
keeps what the releases need that serve now or would after a rollback.
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
    """A day that stays though it is older than its table's retention.

    Attributes:
        table, day: Which.
        reason: Why.
    """

    table: str
    day: dt.date
    reason: str


@dataclass(frozen=True)
class Plan:
    """What may go.

    Attributes:
        newest: The day that ages count from; None where the lake is empty.
        delete: Days by table, oldest first; tables without any are left out.
        kept: What stays though it is old.
    """

    newest: dt.date | None
    delete: Mapping[str, Sequence[dt.date]]
    kept: Sequence[RetainedPartition]


def plan(
    days: Mapping[str, Sequence[dt.date]],
    keep: Mapping[str, int | None],
    releases: Sequence[Release],
    *,
    horizon_days: int,
    lookback_days: int,
) -> Plan:
    """What may go of the days that are there.

    Args:
        days: The days that are there, by table.
        keep: How many days of each table are kept; None for all. Tables that aren't named are left alone.
        releases: All releases of the registry.
        horizon_days: Days between a ranker and the candidates it learned from.
        lookback_days: Days of purchases behind each model.
    """
    newest = max(days.get(CLOCK, ()), default=None)
    if newest is None:
        return Plan(None, {}, [])
    needed = _needs(releases, horizon_days, lookback_days)
    delete: dict[str, list[dt.date]] = {}
    kept: list[RetainedPartition] = []
    for table, length in keep.items():
        there = sorted(days.get(table, ()))
        if length is None or not there:
            continue
        for day in there:
            if day > newest - dt.timedelta(days=length):
                continue
            reason = needed.get((table, day))
            if reason is None and day == there[-1]:
                reason = "the newest of its table"
            if reason is None:
                delete.setdefault(table, []).append(day)
            else:
                kept.append(RetainedPartition(table, day, reason))
    return Plan(newest, delete, kept)


def live(releases: Sequence[Release]) -> list[Release]:
    """The release in force and the one that a rollback would go back to, newest first."""
    standing = [release for release in releases if release.may_serve]
    return sorted(standing, key=lambda each: (each.as_of, each.version), reverse=True)[:2]


def _needs(releases: Sequence[Release], horizon_days: int, lookback_days: int) -> dict[tuple[str, dt.date], str]:
    """Why a day of a table is needed."""
    needed: dict[tuple[str, dt.date], str] = {}
    for release, role in zip(live(releases), ("in force", "what a rollback goes back to"), strict=False):
        for partition in _lineage(release, horizon_days, lookback_days):
            needed.setdefault(partition, f"version {release.version}, {role}")
    return needed


def _lineage(release: Release, horizon_days: int, lookback_days: int) -> Iterator[tuple[str, dt.date]]:
    """The partitions that a release was made from."""
    yield "als_model", release.als_version
    yield "co_purchase_graph", release.graph_version
    yield "ranker", release.ranker_version
    learned = release.ranker_version - dt.timedelta(days=horizon_days)
    made = {release.als_version, release.graph_version, release.ranker_version, release.as_of}
    for day in made:
        yield "product_statistics", day
    for day in made | {learned}:
        yield "candidates", day
    oldest = min(made | {learned}) - dt.timedelta(days=lookback_days)
    for age in range((release.as_of - oldest).days):
        for table in INTERACTIONS:
            yield table, release.as_of - dt.timedelta(days=age)
