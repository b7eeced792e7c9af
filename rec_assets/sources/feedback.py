"""Feedback: the events that the API landed, and the answers it gave under experiments; a file of each a day."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

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
        ("received", pa.float64()),
        ("sender", pa.string()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
    ]
)
"""`raw_feedback_events`: one row an event, each event_id of a sender once; `received` is in seconds since 1970.

`sender` is null where one of the shop's own keys told it, and else says by which visitor a public key did, as
`serving.online.sender_of` does. Days of earlier versions lack the column: all of theirs counts as the shop's own.
"""


EXPOSURE_SCHEMA = pa.schema(
    [
        ("recommendation_id", pa.string()),
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("customer_id", pa.string()),
        ("session_id", pa.string()),
        ("model_version", pa.int64()),
        ("mode", pa.string()),
        ("exploration", pa.float64()),
        ("filtered", pa.bool_()),
        ("answered_by", pa.string()),
        ("products", pa.list_(pa.string())),
        ("propensities", pa.list_(pa.float64())),
        ("teams", pa.list_(pa.string())),
        ("simulated", pa.bool_()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
    ]
)
"""`experiment_exposures`: one row an answer and experiment that it was part of; lists are of its places, best first.

`propensities` are chances given what stands above, null where nobody can tell; `teams` are variants, of interleaved
answers only.
"""


def landed_file(folder: Path, table: str, day: dt.date) -> Path:
    """Where the API's rows of a table land on a day; of `raw_feedback_events` or `experiment_exposures`."""
    return folder / f"date={day}" / LANDED[table]


LANDED = {"raw_feedback_events": "events.jsonl", "experiment_exposures": "exposures.jsonl"}
"""Table → name of a day's file."""


def landed_fingerprints(folder: Path, table: str, day: dt.date) -> dict[str, str]:
    """SHA-256 of the day's file, by its name; empty where nothing landed."""
    file = landed_file(folder, table, day)
    return {f"{file.parent.name}/{file.name}": file_fingerprint([UPath(file)])} if file.exists() else {}


def read_feedback(folder: Path, day: dt.date) -> pa.Table:
    """The events of a day, FEEDBACK_SCHEMA; none where nothing landed.

    Raises:
        SourceError: a line is no event.
    """
    rows = _rows(landed_file(folder, "raw_feedback_events", day), ("event_id", "sender"), "event")
    own = {"sender": None}
    return pa.Table.from_pylist([row if row.get("sender") else {**row, **own} for row in rows], schema=FEEDBACK_SCHEMA)


def read_exposures(folder: Path, day: dt.date) -> pa.Table:
    """The answers of a day that were part of experiments, EXPOSURE_SCHEMA; none where nothing landed.

    Raises:
        SourceError: a line is no exposure.
    """
    file, found = landed_file(folder, "experiment_exposures", day), []
    for row in _rows(file, ("recommendation_id",), "exposure"):
        try:
            lists = {
                "products": [item["product_id"] for item in row["items"]],
                "propensities": [item["propensity"] for item in row["items"]],
                "teams": [item["team"] for item in row["items"] if "team" in item],
            }
            variants = sorted(row["variants"].items())
        except (KeyError, TypeError, AttributeError) as error:
            raise SourceError(
                f"{file}, line {row['source_row']}: no exposure ({error}): fix the line, or take it away"
            ) from None
        found += [{**row, **lists, "experiment": name, "variant": variant} for name, variant in variants]
    return pa.Table.from_pylist(found, schema=EXPOSURE_SCHEMA)


def _rows(file: Path, key: tuple[str, ...], what: str) -> list[dict[str, Any]]:
    """The lines of a file, each key once, sorted by it; only its first column must be there."""
    if not file.exists():
        return []
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            about = {"time": pd.Timestamp(row["time"]), "source_file": file.name, "source_row": number}
            rows.setdefault((row[key[0]], *(row.get(each) or "" for each in key[1:])), {**row, **about})
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{file}, line {number}: no {what} ({error}): fix the line, or take it away") from None
    return [rows[each] for each in sorted(rows)]
