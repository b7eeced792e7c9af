"""Events on their way into the graph: one file a day in the landing zone, from the online state.

A day's file is written whole, and again when events of that day came or went; reading it is the graph's own business.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    horizon = now.astimezone(zone).date() - dt.timedelta(days=keep_days)
    day, last = oldest.astimezone(zone).date(), now.astimezone(zone).date()
    while day <= last:
        file = folder / f"date={day}" / "events.jsonl"
        # Of days before the horizon the first events are in the file only, and what is here came late.
        before = file.read_text(encoding="utf-8").splitlines() if day < horizon and file.exists() else []
        rows = {json.loads(line)["event_id"]: line for line in before}
        for row in online.events_between(begin(day), begin(day + dt.timedelta(days=1))):
            time = dt.datetime.fromtimestamp(row["time"], dt.timezone.utc).isoformat()
            rows[row["event_id"]] = json.dumps({**row, "time": time})
        text = "".join(f"{rows[event]}\n" for event in sorted(rows))
        if (rows or file.exists()) and (not file.exists() or file.read_text(encoding="utf-8") != text):
            _write(file, text)
            written[day] = len(rows)
        day += dt.timedelta(days=1)
    online.delete_before(begin(horizon))
    return written


def forget_landed(folder: Path, forgotten: Forgotten) -> int:
    """Take customers, and their sessions before they signed in, out of what landed; returns how many files changed."""
    landed = {
        file: [(line, json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in sorted(folder.glob("date=*/events.jsonl"))
    }
    days = {file: dt.date.fromisoformat(file.parent.name.removeprefix("date=")) for file in landed}
    ids = {row["customer_id"] for rows in landed.values() for _, row in rows if row["customer_id"] is not None}
    until = {each: forgotten[digest] for each in ids if (digest := customer_digest(each)) in forgotten}
    sessions: dict[str, dt.date] = {}
    for rows in landed.values():
        for _, row in rows:
            if row["customer_id"] in until and row["session_id"] is not None:
                sessions[row["session_id"]] = max(
                    until[row["customer_id"]], sessions.get(row["session_id"], dt.date.min)
                )

    def goes(row: Mapping[str, Any], day: dt.date) -> bool:
        customer, session = row["customer_id"], row["session_id"]
        return day <= (sessions.get(session, dt.date.min) if customer is None else until.get(customer, dt.date.min))

    changed = 0
    for file, rows in landed.items():
        kept = [line for line, row in rows if not goes(row, days[file])]
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
