"""Export of events and exposures to the landing zone: one file per day and table.

Each export rewrites the files of days whose rows changed. Only the owner and the group can read the files. The assets
`raw_feedback_events` and `experiment_exposures` read them.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import zoneinfo
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rec_assets.files import restrict, write_atomically
from rec_assets.recsys.data.forgetting import Forgotten, customer_digest
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.database.tables import EVENT_ROWS, LANDED_TABLES


def land_events(
    online: OnlineState, folder: Path, *, time_zone: str, now: dt.datetime, keep_days: int
) -> dict[dt.date, int]:
    """Export the online state to the landing zone, then delete rows older than `keep_days` from the database.

    Args:
        online: The database.
        folder: The landing zone. Files are `date=<day>/events.jsonl` and, with experiments, `exposures.jsonl`.
        time_zone: Of the shop; it defines the days.
        now: The current time.
        keep_days: Number of whole days to keep in the database.

    Returns:
        Days whose file of events was written → number of events in it.
    """
    zone = zoneinfo.ZoneInfo(time_zone)
    restrict([folder, *folder.glob("date=*/*.jsonl")])
    oldest, written = online.oldest_event(), {}
    if oldest is None:
        return {}
    first_kept = now.astimezone(zone).date() - dt.timedelta(days=keep_days)
    day, last = oldest.astimezone(zone).date(), now.astimezone(zone).date()
    while day <= last:
        start, end = (dt.datetime.combine(day + dt.timedelta(days=days), dt.time(), tzinfo=zone) for days in (0, 1))
        for table, columns in LANDED_TABLES.items():
            rows = list(online.rows_between(table, start, end))
            # For days before `first_kept`, only late rows are in the database: add them to the file.
            count = _land(folder / f"date={day}" / f"{table}.jsonl", columns, rows, append=day < first_kept)
            if count is not None and table == EVENT_ROWS:
                written[day] = count
            if day < first_kept:
                online.delete_rows(table, [_key(row, columns) for row in rows])
        day += dt.timedelta(days=1)
    return written


def _land(file: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]], *, append: bool) -> int | None:
    """Write the rows of a day, sorted by key columns; returns their number, or None if the file did not change."""
    old = file.read_text(encoding="utf-8") if file.exists() else ""
    lines = {_key(json.loads(line), columns): line for line in old.splitlines()} if append else {}
    for row in rows:
        time = dt.datetime.fromtimestamp(row["time"], dt.timezone.utc).isoformat()
        values = {name: value for name, value in row.items() if name != "sender" or value}
        lines[_key(row, columns)] = json.dumps({**values, "time": time})
    text = "".join(f"{lines[each]}\n" for each in sorted(lines))
    if text == old:
        return None
    write_atomically(file, text, private=True)
    return len(lines)


def _key(row: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row.get(each) or "" for each in columns)


def forget_landed(folder: Path, forgotten: Forgotten) -> int:
    """Delete forgotten customers, and their sessions before sign-in, from landed files; returns how many changed."""
    landed = {
        file: [(line, json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in sorted(folder.glob("date=*/*.jsonl"))
    }
    days = {file: dt.date.fromisoformat(file.parent.name.removeprefix("date=")) for file in landed}
    ids = {row["customer_id"] for rows in landed.values() for _, row in rows if row["customer_id"] is not None}
    until = {each: forgotten[digest] for each in ids if (digest := customer_digest(each)) in forgotten}
    sessions: dict[str, dt.date] = {}
    for _, row in itertools.chain(*landed.values()):
        customer, session = row["customer_id"], row["session_id"]
        if customer in until and session is not None:
            sessions[session] = max(until[customer], sessions.get(session, dt.date.min))

    def is_forgotten(row: Mapping[str, Any], day: dt.date) -> bool:
        customer, session = row["customer_id"], row["session_id"]
        return day <= (sessions.get(session, dt.date.min) if customer is None else until.get(customer, dt.date.min))

    changed = 0
    for file, rows in landed.items():
        kept = [line for line, row in rows if not is_forgotten(row, days[file])]
        if len(kept) < len(rows):
            write_atomically(file, "".join(f"{line}\n" for line in kept), private=True)
            changed += 1
    return changed
