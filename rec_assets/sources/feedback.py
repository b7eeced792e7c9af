"""Read what the API lands: feedback events and experiment exposures, one file of each per day.

A `SourceError` names a line that is not an event or exposure.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from upath import UPath

from rec_assets.sources.errors import SourceError

API_FILES = {"raw_feedback_events": "events.jsonl", "experiment_exposures": "exposures.jsonl"}
"""Table → name of the file that the API lands in the folder of a day."""

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
"""`raw_feedback_events`: one row per event, unique by sender and event_id; `received` is Unix time in seconds.

`sender` is null for an event that one of the shop's own API keys sent, and the shopper for an event of a public key.
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
"""`experiment_exposures`: one row per response and experiment. The lists have one value per item, in rank order.

`propensities`: probability of the item given the items above it; null if unknown. `teams`: variant that each item comes
from, in interleaved responses only.
"""


def landed_file(folder: Path, table: str, day: dt.date) -> Path:
    """Path of the API's file for a day and a table of API_FILES."""
    return folder / f"date={day}" / API_FILES[table]


def landed_files(folder: Path, table: str, day: dt.date) -> dict[str, UPath]:
    """Name → path of the day's file; empty if there is no file."""
    file = landed_file(folder, table, day)
    return {f"{file.parent.name}/{file.name}": UPath(file)} if file.exists() else {}


def read_feedback(folder: Path, day: dt.date) -> pa.Table:
    """Events of a day, FEEDBACK_SCHEMA; empty if there is no file."""
    rows = _rows(landed_file(folder, "raw_feedback_events", day), ("event_id", "sender"), "event")
    rows = [{**row, "sender": row.get("sender") or None} for row in rows]
    return pa.Table.from_pylist(rows, schema=FEEDBACK_SCHEMA)


def read_exposures(folder: Path, day: dt.date) -> pa.Table:
    """Experiment exposures of a day, EXPOSURE_SCHEMA; empty if there is no file."""
    file, exposures = landed_file(folder, "experiment_exposures", day), []
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
                f"{file}, line {row['source_row']}: not an exposure ({error}): fix the line, or remove it"
            ) from None
        exposures += [{**row, **lists, "experiment": name, "variant": variant} for name, variant in variants]
    return pa.Table.from_pylist(exposures, schema=EXPOSURE_SCHEMA)


def _rows(file: Path, key: tuple[str, ...], kind: str) -> list[dict[str, Any]]:
    """Rows of a file, sorted by key, the first of each key. Only the first field of the key is required."""
    if not file.exists():
        return []
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            row |= {"time": pd.Timestamp(row["time"]), "source_file": file.name, "source_row": number}
            rows.setdefault((row[key[0]], *(row.get(name) or "" for name in key[1:])), row)
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{file}, line {number}: not an {kind} ({error}): fix the line, or remove it") from None
    return [rows[values] for values in sorted(rows)]
