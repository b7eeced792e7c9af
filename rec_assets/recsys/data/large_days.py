"""Clean a day that does not fit into memory: in parts, with the facts about the whole day that its lines depend on.

A few numbers per line of the day are in memory, and all lines of a customer and product with a return.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rec_assets.recsys.data.cleaning import (
    CLEANED_SCHEMA,
    CleanedDay,
    bulk_limit,
    log_quantities,
    split_lines,
    to_interactions,
)
from rec_assets.recsys.data.cleaning_rules import CleaningSettings, broken_rules
from rec_assets.recsys.data.returns import net_returns

DUPLICATE = "duplicate_line"
"""The cleaning rule that compares all lines of a day."""

_PAIR = ["customer_id", "product_id"]
_NETTED = [*_PAIR, "variant_id", "event", "event_time", "line_id", "net_quantity"]

Hashes = npt.NDArray[np.uint64]


def clean_large_day(parts: Iterable[pa.Table], day: dt.date, settings: CleaningSettings) -> Iterator[CleanedDay]:
    """`clean_day` for raw lines in parts. Apart from the order of the lines, the results together are the same.

    Lines of different parts count as equal if their hashes of 64 bits are: among 20 million lines of a day, two
    different ones have equal hashes with a probability of 1 in 100,000. Other rules see the lines of a part only.

    Args:
        parts: Raw lines (RAW_SCHEMA) of the day, in order.
        day, settings: See `clean_day`.
    """
    valid, rejected, variants = Spool(), Spool(), settings.product_of_variant
    hashes, logs, returned = [], [], []
    for part in parts:
        raw = part.to_pandas()
        broken = broken_rules(raw, day, settings)
        lines, faulty = split_lines(raw, broken)
        is_rejected = pa.array(broken.any(axis=1).to_numpy(bool))
        valid.add(part.filter(pc.invert(is_rejected)))
        rejected.add(part.filter(is_rejected).append_column("reasons", pa.array(faulty["reasons"], pa.string())))
        hashes.append(_hash(lines["line"]))
        logs.append(log_quantities(lines).to_numpy(float))
        is_returned = lines["is_return"].astype(bool) | lines["was_returned"].astype(bool)
        returned.append(_hash_pairs(to_interactions(lines[is_returned], day, np.inf, variants)))
    is_repetition = pd.Series(np.concatenate(hashes)).duplicated().to_numpy()
    repeated = np.unique(np.concatenate(hashes)[is_repetition])
    limit = bulk_limit(pd.Series(np.concatenate(logs)[~is_repetition]), settings)
    del hashes, logs, is_repetition
    pairs = np.unique(np.concatenate(returned))

    def interactions() -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """Interactions of each part, and the lines that an earlier part has, too."""
        earlier = np.array([], np.uint64)
        for part in valid:
            lines = part.to_pandas()
            of_line = _hash(lines["line"])
            is_repeated = np.isin(of_line, repeated)
            is_duplicate = is_repeated & np.isin(of_line, earlier)
            earlier = np.union1d(earlier, of_line[is_repeated])
            kept = lines[~is_duplicate].reset_index(drop=True)
            yield to_interactions(kept, day, limit, variants), lines[is_duplicate].assign(reasons=DUPLICATE)

    net = pd.Series(dtype=float)
    if len(pairs):
        touched = [lines.loc[np.isin(_hash_pairs(lines), pairs), _NETTED] for lines, _ in interactions()]
        net = net_returns(pd.concat(touched, ignore_index=True)).set_index("line_id")["net_quantity"]
    for lines, duplicates in interactions():
        kept_quantity = lines["line_id"].map(net).fillna(lines["net_quantity"])
        yield CleanedDay(lines.assign(net_quantity=kept_quantity), duplicates)
    nothing = CLEANED_SCHEMA.empty_table().to_pandas()
    yield from (CleanedDay(nothing, part.to_pandas()) for part in rejected)


def _hash(values: pd.Series) -> Hashes:
    return pd.util.hash_array(values.to_numpy(object), categorize=False)


def _hash_pairs(lines: pd.DataFrame) -> Hashes:
    return _hash(lines["customer_id"] + "\0" + lines["product_id"])


class Spool:
    """Tables with equal columns that can be read several times: from a temporary file if there is more than one."""

    def __init__(self, tables: Iterable[pa.Table] = ()) -> None:
        self.count, self._first = 0, pa.table({})
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is deleted with this object
        self._writer: pa.RecordBatchStreamWriter | None = None
        for table in tables:
            self.add(table)

    def add(self, table: pa.Table) -> None:
        """Add a table. Without rows, it is kept only if it is the first one."""
        if self.count and not len(table):
            return
        self.count += 1
        if self.count == 1:
            self._first = table
            return
        if self._writer is None:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writer = pa.ipc.new_stream(self._file, table.schema, options=options)
            self._writer.write_table(self._first.combine_chunks())
            self._first = pa.table({})
        self._writer.write_table(table.combine_chunks())

    def __iter__(self) -> Iterator[pa.Table]:
        if self._writer is None:
            yield from [self._first] * self.count
            return
        self._file.flush()
        self._file.seek(0)
        for batch in pa.ipc.open_stream(self._file):
            yield pa.Table.from_batches([batch])
