"""Events of a shop's event logs, as `raw_feedback_events` has them. `reader.py` reads their files.

An event log is read as a purchase log (`EventLog.as_purchase_log`), and its raw lines become events here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.events import MAX_ID_LENGTH
from rec_assets.sources.batches import Split
from rec_assets.sources.feedback import FEEDBACK_SCHEMA
from rec_assets.sources.reader import read_file
from rec_assets.sources.spec import DataSource
from rec_assets.sources.spec_fields import EventLog


def read_events(source: DataSource, path: UPath, day: dt.date | None, split: Split) -> Iterator[pa.Table]:
    """Events of a file of an event log, or of a part of it, in batches: FEEDBACK_SCHEMA.

    `source` is one of `DataSource.event_sources`. Lines without a product, a shopper, a time or a declared name are
    left out.

    Raises:
        SourceError: see `reader`.
    """
    return (as_events(raw, source.events[0]) for raw in read_file(source, path, day, split))


def as_events(raw: pa.Table, log: EventLog) -> pa.Table:
    """Raw lines of an event log (RAW_SCHEMA) as FEEDBACK_SCHEMA."""
    assert raw.schema.equals(RAW_SCHEMA)
    nothing = pa.nulls(len(raw), pa.string())
    customer = _id(raw["customer_id"]) if log.columns.customer_id else nothing
    session = _id(raw["order_id"]) if log.columns.session_id else nothing
    row = raw["source_row"].cast(pa.string())
    columns = {
        "event_id": pc.binary_join_element_wise(raw["source_file"], row, "#"),
        "type": _types(raw["category"], log),
        "customer_id": customer,
        "session_id": session,
        "product_id": _id(raw["product_id"]),
        "time": raw["event_time"],
        "source_file": raw["source_file"],
        "source_row": raw["source_row"],
    }
    schema = FEEDBACK_SCHEMA
    events = pa.table([columns.get(name, pa.nulls(len(raw), schema.field(name).type)) for name in schema.names], schema)
    shopper = pc.or_(pc.is_valid(events["customer_id"]), pc.is_valid(events["session_id"]))
    is_complete = [pc.is_valid(events[name]) for name in ("type", "product_id", "time")]
    included = pc.equal(raw["excluded_by"], "")
    return events.filter(_all([shopper, included, *is_complete]))


def _types(names: pa.ChunkedArray, log: EventLog) -> pa.Array:
    """The type of each event; null for a name that the data source doesn't declare."""
    if log.type is not None:
        return pa.array([log.type] * len(names), pa.string())
    known = log.type_of_name
    distinct = pc.dictionary_encode(pc.utf8_trim_whitespace(names)).combine_chunks()
    types = pa.array([known.get(name) for name in distinct.dictionary.to_pylist()], pa.string())
    return types.take(distinct.indices)


def _id(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids; null if empty or too long."""
    length = pc.utf8_length(pc.utf8_trim_whitespace(values))
    is_id = pc.and_(pc.greater(length, 0), pc.less_equal(length, MAX_ID_LENGTH))
    return pc.if_else(is_id, values, pa.scalar(None, pa.string()))


def _all(masks: Iterable[pa.Array | pa.ChunkedArray]) -> pa.Array:
    found = [np.asarray(pc.fill_null(mask, False)) for mask in masks]
    return pa.array(np.logical_and.reduce(found))
