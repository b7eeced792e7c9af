"""Events on their way into the graph: one file a day in the landing zone, from the online state.

A day's file is written whole, and again when events of that day came or went; reading it is the graph's own business.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import zoneinfo
from pathlib import Path

from rec_assets.recsys.forgetting import Forgotten, customer_digest
from rec_assets.serving.online import OnlineState


def land_events(
    online: OnlineState, folder: Path, *, time_zone: str, now: dt.datetime, keep_days: int
) -> dict[dt.date, int]:
    """Write what is in the online state into the landing zone, then let go of what is older than `keep_days`.

    Args:
        online: Where the events are.
        folder: Of the landing zone; a day's file is `date=<day>/events.jsonl`.
        time_zone: Of the shop: it decides the day.
        now: The time.
        keep_days: Whole days that stay in the online state.

    Returns:
        Days whose files were written, with the number of their events.
    """
    zone = zoneinfo.ZoneInfo(time_zone)

    def begin(day: dt.date) -> dt.datetime:
        return dt.datetime.combine(day, dt.time(), tzinfo=zone)

    oldest, written = online.oldest_event(), {}
    if oldest is None:
        return {}
    # Days of which events were let go already are whole in their files, and not here any more.
    horizon = now.astimezone(zone).date() - dt.timedelta(days=keep_days)
    day, last = max(oldest.astimezone(zone).date(), horizon), now.astimezone(zone).date()
    while day <= last:
        rows = [
            json.dumps({**row, "time": dt.datetime.fromtimestamp(row["time"], dt.timezone.utc).isoformat()})
            for row in online.events_between(begin(day), begin(day + dt.timedelta(days=1)))
        ]
        file = folder / f"date={day}" / "events.jsonl"
        text = "".join(f"{row}\n" for row in rows)
        if (rows or file.exists()) and (not file.exists() or file.read_text(encoding="utf-8") != text):
            _write(file, text)
            written[day] = len(rows)
        day += dt.timedelta(days=1)
    online.delete_before(begin(horizon))
    return written


def forget_landed(folder: Path, forgotten: Forgotten) -> int:
    """Take customers, and their sessions before they signed in, out of what landed; returns how many files changed."""
    changed = 0
    for file in sorted(folder.glob("date=*/events.jsonl")):
        day = dt.date.fromisoformat(file.parent.name.removeprefix("date="))
        digests = {digest for digest, until in forgotten.items() if day <= until}
        rows = [(line, json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        ids = {row["customer_id"] for _, row in rows if row["customer_id"] is not None}
        theirs = {each for each in ids if customer_digest(each) in digests}
        sessions = {row["session_id"] for _, row in rows if row["customer_id"] in theirs} - {None}
        kept = [
            line
            for line, row in rows
            if row["customer_id"] not in theirs and not (row["customer_id"] is None and row["session_id"] in sessions)
        ]
        if len(kept) < len(rows):
            _write(file, "".join(f"{line}\n" for line in kept))
            changed += 1
    return changed


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f".{file.name}.part")
    staged.write_text(text, encoding="utf-8")
    os.replace(staged, file)
