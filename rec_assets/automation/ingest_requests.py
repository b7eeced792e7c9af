"""Which days the sensor `purchase_logs_landed` requests runs of `ingest` for: those whose files changed.

Dagster: an observable source asset could report the fingerprint of each day's files. It can't wait for files that are
still being written, group days into one run, or recognize days without sales.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rec_assets.resources.data_versions import Materialization
from rec_assets.resources.lake import Day
from rec_assets.sources.landing import LandedFiles, combined_fingerprint

MAX_GAP_DAYS = 7
"""Days that are at most this far apart share a run, which also reads the days between them: reading is cheap."""


@dataclass(frozen=True)
class IngestRequest:
    """One run of the job `ingest`.

    Attributes:
        first, last: Its days.
        landed: The days in it with new or changed files, or without sales.
        run_key: Changes with the contents of the files, so that each change is requested once.
    """

    first: dt.date
    last: dt.date
    landed: Sequence[dt.date]
    run_key: str

    def __str__(self) -> str:
        days = [str(day) for day in self.landed]
        listed = ", ".join(days) if len(days) <= 3 else f"{days[0]} to {days[-1]}"
        return f"{len(days)} day{'s' if len(days) > 1 else ''} landed: {listed}"


def ingest_requests(
    landed: Mapping[dt.date, LandedFiles], raw: Mapping[Day, Materialization], cleaned: Mapping[Day, Materialization],
    oldest: dt.date,
) -> list[IngestRequest]:  # fmt: skip
    """The runs that ingest the days whose landed files differ from the lake, oldest first.

    Args:
        landed: The files in the landing zone of each day.
        raw, cleaned: Newest materializations of the raw and the cleaned lines that are in the lake.
        oldest: Days before it are ingested only if they were ingested before and have changed since.

    Returns:
        One request per group of days that are close together. A day without files counts as a day without sales once
        a later day has landed. A day whose files are still being written waits.
    """
    complete = [day for day, files in landed.items() if files.is_complete]
    if not complete:
        return []
    days = [oldest + dt.timedelta(days=number) for number in range((max(complete) - oldest).days + 1)]
    groups: list[list[_DayState]] = []
    for day in sorted({*complete, *days}):
        state = _DayState.of(day, landed.get(day), raw.get(day), cleaned.get(day))
        if state.is_done or (state.is_new and day < oldest):
            continue
        previous = groups[-1][-1] if groups else None
        if previous and state.can_share_run(previous) and not _has_incomplete_day(previous.day, day, landed):
            groups[-1].append(state)
        else:
            groups.append([state])
    return [_request(group) for group in groups]


@dataclass(frozen=True)
class _DayState:
    """A day in the landing zone and in the lake. Its representation is part of run keys.

    Attributes:
        day: The day.
        landed: Fingerprint of the landed files; None for a day without sales, "" while files are being written.
        read: Fingerprint of the files that the raw lines were read from; None if there are none.
        raw: Fingerprint of the raw lines.
        cleaned: Fingerprint of the raw lines that the cleaned lines come from; None if there are none.
    """

    day: dt.date
    landed: str | None
    read: str | None
    raw: str | None
    cleaned: str | None

    @classmethod
    def of(
        cls, day: dt.date, files: LandedFiles | None, raw: Materialization | None, cleaned: Materialization | None
    ) -> _DayState:
        return cls(
            day,
            landed=files.fingerprint if files else None,
            read=combined_fingerprint(raw.files) if raw else None,
            raw=raw.fingerprint if raw else None,
            cleaned=cleaned.made_from["raw_purchase_logs"]["fingerprint"] if cleaned else None,
        )

    @property
    def is_new(self) -> bool:
        """Whether it was never read."""
        return self.read is None

    @property
    def is_read(self) -> bool:
        """Whether the raw lines in the lake come from the landed files; without sales, whether the day was read."""
        return self.read is not None if self.landed is None else self.read == self.landed

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to ingest, or nothing yet."""
        return self.landed == "" or (self.is_read and self.cleaned == self.raw)

    def can_share_run(self, previous: _DayState) -> bool:
        """Whether one run can ingest both. A day that was read but not cleaned runs alone: a broken day stopped it."""
        return (self.day - previous.day).days <= MAX_GAP_DAYS and self.is_read == previous.is_read


def _has_incomplete_day(first: dt.date, last: dt.date, landed: Mapping[dt.date, LandedFiles]) -> bool:
    """Whether a day in between is still being written, so that one run over both would read a part of it."""
    return any(first < day < last and not files.is_complete for day, files in landed.items())


def _request(days: list[_DayState]) -> IngestRequest:
    # The state of the lake is part of the key, so that undoing a correction counts as a change too.
    content = hashlib.sha256("".join(f"{day}\n" for day in days).encode())
    first, last = days[0].day, days[-1].day
    return IngestRequest(first, last, [day.day for day in days], f"{first}..{last}:{content.hexdigest()[:16]}")
