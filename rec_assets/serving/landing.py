"""Events and exposures on their way into the graph: a file of each a day in the landing zone, from the online state.

A day's file is written whole, and again when rows of that day came or went; reading it is the graph's own business.
It is readable for its owner and group only.
"""

from __future__ import annotations

import datetime as dt
import json
import zoneinfo
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rec_assets.files import restrict, write_whole
from rec_assets.recsys.data.forgetting import Forgotten, customer_digest
from rec_assets.serving.online import OnlineState
from rec_assets.serving.tables import EVENT_ROWS, LANDED_TABLES


def land_events(
    online: OnlineState, folder: Path, *, time_zone: str, now: dt.datetime, keep_days: int
) -> dict[dt.date, int]:
    """Write what is in the online state into the landing zone, then let go of what is older than `keep_days`.

    Args:
        online: Where the events are.
        folder: Of the landing zone; a day's files are `date=<day>/events.jsonl` and, of experiments, `exposures.jsonl`.
        time_zone: Of the shop: it decides the day.
        now: The time.
        keep_days: Whole days that stay in the online state.

    Returns:
        Days whose files were written, with the number of their events.
    """
    zone = zoneinfo.ZoneInfo(time_zone)

    def begin(day: dt.date) -> dt.datetime:
        return dt.datetime.combine(day, dt.time(), tzinfo=zone)

    restrict([folder, *folder.glob("date=*/*.jsonl")])  # an earlier version let everybody read them
    oldest, written = online.oldest_event(), {}
    if oldest is None:
        return {}
    horizon = now.astimezone(zone).date() - dt.timedelta(days=keep_days)
    day, last = oldest.astimezone(zone).date(), now.astimezone(zone).date()
    while day <= last:
        begins, ends = begin(day), begin(day + dt.timedelta(days=1))
        for table, key in LANDED_TABLES.items():
            rows = list(online.rows_between(table, begins, ends))
            # Of days before the horizon the first rows are in the file only, and what is here came late.
            count = _land(folder / f"date={day}" / f"{table}.jsonl", key, rows, keeps=day < horizon)
            if count is not None and table == EVENT_ROWS:
                written[day] = count
            if day < horizon:
                online.let_go(table, [_key(row, key) for row in rows])
        day += dt.timedelta(days=1)
    return written


def _land(file: Path, key: tuple[str, ...], rows: Iterable[Mapping[str, Any]], *, keeps: bool) -> int | None:
    """Write a day's rows, sorted by key, if they aren't what is there; returns how many, or None."""
    before = file.read_text(encoding="utf-8") if file.exists() else None
    lines = {_key(json.loads(line), key): line for line in (before or "").splitlines()} if keeps else {}
    for row in rows:
        time = dt.datetime.fromtimestamp(row["time"], dt.timezone.utc).isoformat()
        # An event of the shop's own keys names no sender, as in files of earlier versions.
        told = {name: value for name, value in row.items() if name != "sender" or value}
        lines[_key(row, key)] = json.dumps({**told, "time": time})
    text = "".join(f"{lines[each]}\n" for each in sorted(lines))
    if text == (before or ""):
        return None
    write_whole(file, text, private=True)
    return len(lines)


def _key(row: Mapping[str, Any], key: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row.get(each) or "" for each in key)


def forget_landed(folder: Path, forgotten: Forgotten) -> int:
    """Take customers, and their sessions before they signed in, out of what landed; returns how many files changed."""
    landed = {
        file: [(line, json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in sorted(folder.glob("date=*/*.jsonl"))
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
            write_whole(file, "".join(f"{line}\n" for line in kept), private=True)
            changed += 1
    return changed
