"""Retention: which days and versions housekeeping may delete, and why older ones stay. Decides only; deletes nothing.

Age counts from the newest day of raw_purchase_logs, not from today: a shop that stops landing files loses nothing. The
settings keep what the next runs need. Releases read tables at the versions that they name, but models also stay.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rec_assets.resources.releases import AS_OF_NAMES, Release


class RetentionPlan(NamedTuple):
    """Table → days to delete, oldest first; and (table, day) → why a day stays that is past its retention."""

    delete: dict[str, list[dt.date]]
    kept: dict[tuple[str, dt.date], str]


def plan_retention(
    days: Mapping[str, Sequence[dt.date]], keep: Mapping[str, int | None], releases: Sequence[Release]
) -> RetentionPlan:
    """Plan which of the `days` of each table to delete. `keep`: table → number of days to keep; None for all."""
    plan, needed = RetentionPlan({}, {}), dict[tuple[str, dt.date], str]()
    newest = max(days.get("raw_purchase_logs", ()), default=None)
    for release, role in zip(_live(releases), ("active", "target of a rollback"), strict=False):
        for table, name in AS_OF_NAMES.items():
            needed.setdefault((table, getattr(release, name)), f"version {release.version}, {role}")
    for table, length in keep.items():
        for day in sorted(days.get(table, ())):
            if newest is None or length is None or day > newest - dt.timedelta(days=length):
                continue
            if reason := needed.get((table, day)) or ("newest day of the table" if day == max(days[table]) else ""):
                plan.kept[table, day] = reason
            else:
                plan.delete.setdefault(table, []).append(day)
    return plan


def releases_in_use(releases: Sequence[Release]) -> list[Release]:
    """The active release, the one that a rollback would activate, and those that are not decided yet."""
    return [*_live(releases), *(release for release in releases if not release.decision)]


def _live(releases: Sequence[Release]) -> list[Release]:
    """The active release, and the one that a rollback would activate."""
    return sorted((each for each in releases if each.is_promoted), key=lambda each: each.order, reverse=True)[:2]
