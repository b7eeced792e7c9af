"""What should be run, and why: decisions of the sensors, from what has landed, what the lake holds and how models fare.

Plain functions of plain values; the sensors ask them at each tick.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from rec_assets.recsys.evaluation.live import control_band
from rec_assets.resources.lake import Lake
from rec_assets.settings import Retraining
from rec_assets.sources.landing import LandedFiles, fingerprint_of

BRIDGED_DAYS = 7
"""Days between two that must be read, up to which one run reads them all: reading a day again is cheap."""

UNKNOWN_DAYS = 7
"""Days over which the share of purchases unknown to the model is taken: single days vary."""


@dataclass(frozen=True)
class IngestRequest:
    """One run of the job `ingest`.

    Attributes:
        first, last: Its days.
        landed: Those of them whose files are new or changed, or that were closed.
        run_key: Differs if anything in the files does, so that nothing is asked for twice.
    """

    first: dt.date
    last: dt.date
    landed: Sequence[dt.date]
    run_key: str

    def __str__(self) -> str:
        days = [str(day) for day in self.landed]
        listed = ", ".join(days) if len(days) <= 3 else f"{days[0]} to {days[-1]}"
        return f"{len(days)} day{'s' if len(days) > 1 else ''} landed: {listed}"


def ingest_requests(landed: Mapping[dt.date, LandedFiles], lake: Lake, oldest: dt.date) -> list[IngestRequest]:
    """The runs that read what has landed and isn't in the lake as it lies there, oldest first.

    Args:
        landed: What lies in the landing zone for each day.
        lake: Its manifests tell which files each day was read from.
        oldest: Days before it are read only if they were read before and have changed since.

    Returns:
        One request for days that lie close together. A day without files is a day on which the shop was closed, once a
        later one has landed. A day whose files are still growing is left for later.
    """
    settled = [day for day, found in landed.items() if found.settled]
    if not settled:
        return []
    days = [oldest + dt.timedelta(days=number) for number in range((max(settled) - oldest).days + 1)]
    groups: list[list[_Day]] = []
    for day in sorted({*settled, *days}):
        wanted = _Day.of(day, landed.get(day), lake)
        if wanted.is_done or (wanted.is_new and day < oldest):
            continue
        before = groups[-1][-1] if groups else None
        if before and wanted.goes_with(before) and not _growing(before.day, day, landed):
            groups[-1].append(wanted)
        else:
            groups.append([wanted])
    return [_request(group) for group in groups]


def reasons_to_train(limits: Retraining, *, lines_before: int, lines_since: int, live: pd.DataFrame) -> dict[str, str]:
    """Why new models should be trained: kind of reason → in words; empty if nothing speaks for it.

    Args:
        limits: When it is enough.
        lines_before: Purchase lines that the last models learned from.
        lines_since: Purchase lines after the day on which models were last proposed.
        live: date, hit_rate, unknown_products, unknown_customers of the days since 0 or more, oldest first.
    """
    reasons = {}
    share = lines_since / max(lines_before, 1)
    if share >= limits.new_share:
        reasons["new purchases"] = (
            f"{lines_since:,} purchase lines have landed since models were last proposed, {share:.1%} of what they "
            f"learned from (limit {limits.new_share:.1%})"
        )
    if len(live):
        last, rate = live["date"].iloc[-1], float(live["hit_rate"].iloc[-1])
        band = control_band(live["hit_rate"].iloc[:-1])
        if band is not None and rate < band.low:
            reasons["accuracy"] = (
                f"on {last} {rate:.3f} of the customers bought something they were shown the day before; usual is "
                f"{band.low:.3f} to {band.high:.3f}"
            )
        for what, limit in (("products", limits.unknown_products), ("customers", limits.unknown_customers)):
            unknown = float(live[f"unknown_{what}"].tail(UNKNOWN_DAYS).mean())
            if unknown > limit:
                reasons[f"unknown {what}"] = (
                    f"{unknown:.1%} of the purchases of the last {min(UNKNOWN_DAYS, len(live))} days measured are of "
                    f"{what} unknown to the model (limit {limit:.1%})"
                )
    return reasons


@dataclass(frozen=True)
class _Day:
    """A day in the landing zone and in the lake.

    Attributes:
        day: Which.
        lies: Fingerprint of the files that lie there; None for a closed day, "" while they are growing.
        read, cleaned: Fingerprints of the files that the lake's lines were read and cleaned from; None where not there.
    """

    day: dt.date
    lies: str | None
    read: str | None
    cleaned: str | None

    @classmethod
    def of(cls, day: dt.date, found: LandedFiles | None, lake: Lake) -> _Day:
        raw, cleaned = (lake.manifest(table, day) for table in ("raw_purchase_logs", "cleaned_interactions"))
        return cls(
            day,
            lies=None if found is None else found.fingerprint,
            read=None if raw is None else fingerprint_of(raw.sources),
            cleaned=None if cleaned is None else fingerprint_of(cleaned.sources),
        )

    @property
    def is_new(self) -> bool:
        """Whether it was never read."""
        return self.read is None

    @property
    def is_read(self) -> bool:
        """Whether the lake's raw lines are those of the files; of a closed day, whether it was looked at."""
        return self.read is not None if self.lies is None else self.read == self.lies

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do, or not yet."""
        return self.lies == "" or (self.is_read and self.cleaned == self.read)

    def goes_with(self, before: _Day) -> bool:
        """Whether one run does both: not a day that was read and not cleaned, since a file beside it was broken."""
        return (self.day - before.day).days <= BRIDGED_DAYS and self.is_read == before.is_read


def _growing(first: dt.date, last: dt.date, landed: Mapping[dt.date, LandedFiles]) -> bool:
    """Whether a day in between is still growing, so that one run over both would read half of it."""
    return any(first < day < last and not found.settled for day, found in landed.items())


def _request(days: list[_Day]) -> IngestRequest:
    # What the lake holds is part of the key: a correction that is taken back is a change like any other.
    content = hashlib.sha256("".join(f"{each}\n" for each in days).encode())
    first, last = days[0].day, days[-1].day
    return IngestRequest(first, last, [each.day for each in days], f"{first}..{last}:{content.hexdigest()[:16]}")
