"""Feedback: the events that the API landed, one file a day, read as they lie there."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
from upath import UPath

from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import file_fingerprint

FEEDBACK_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("type", pa.string()),
        ("customer_id", pa.string()),
        ("session_id", pa.string()),
        ("product_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("order_id", pa.string()),
        ("quantity", pa.float64()),
        ("unit_price", pa.float64()),
        ("recommendation_id", pa.string()),
        ("position", pa.int64()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
    ]
)
"""`raw_feedback_events`: one row an event, each event_id once."""


def feedback_file(folder: Path, day: dt.date) -> Path:
    """Where the API's events of a day land."""
    return folder / f"date={day}" / "events.jsonl"


def feedback_fingerprints(folder: Path, day: dt.date) -> dict[str, str]:
    """SHA-256 of the day's file, by its name; empty where nothing landed."""
    file = feedback_file(folder, day)
    return {f"{file.parent.name}/{file.name}": file_fingerprint([UPath(file)])} if file.exists() else {}


def read_feedback(folder: Path, day: dt.date) -> pa.Table:
    """The events of a day, FEEDBACK_SCHEMA; none where nothing landed.

    Raises:
        SourceError: a line is no event.
    """
    file, rows = feedback_file(folder, day), []
    if not file.exists():
        return FEEDBACK_SCHEMA.empty_table()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append({**row, "time": pd.Timestamp(row["time"]), "source_file": file.name, "source_row": number})
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{file}, line {number}: no event ({error}): mend the line, or take it away") from None
    seen = {row["event_id"]: row for row in reversed(rows)}
    return pa.Table.from_pylist([seen[event] for event in sorted(seen)], schema=FEEDBACK_SCHEMA)
