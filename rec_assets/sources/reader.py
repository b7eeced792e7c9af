"""Read files of the purchase log into raw lines: typed, with file and row, none dropped.

An unusable file (unreadable, a missing column, a column of the wrong type) is a `SourceError`. An unusable line stays,
and cleaning rejects it.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from upath import UPath

from rec_assets.recsys.data.distinct import distinct_values, map_distinct, strip_text
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.events import MAX_NAME_LENGTH, MAX_TEXT_LENGTH
from rec_assets.recsys.retrieval.product_texts import join_columns
from rec_assets.sources.batches import (
    BATCH_BYTES,
    DUPLICATE_SUFFIX,
    LIST_COLUMNS,
    WHOLE,
    Conventions,
    Split,
)
from rec_assets.sources.errors import SourceError
from rec_assets.sources.formats import read_batches, splits
from rec_assets.sources.paths import is_uri
from rec_assets.sources.spec import DataSource
from rec_assets.sources.spec_fields import CatalogColumns, FileFormat, PurchaseColumns
from rec_assets.sources.times import NO_VALUE, local_days
from rec_assets.sources.values import as_numbers, as_times, is_one_of

_MAX_HEADER_CHARACTERS = 100_000
_JSON_ROWS = 50_000
"""Lines to convert to JSON at a time."""


def read_day(source: DataSource, day: dt.date, newest: dt.date | None = None) -> pa.Table:
    """Raw lines of one day of a daily data source, RAW_SCHEMA.

    If a day has no files and a later day has, the shop was closed and the result is empty. `newest` is the newest
    landed day. Default: look it up.

    Raises:
        SourceError: see the module; or no files have landed for this or a later day.
    """
    files = files_of_day(source, day, newest or max(source.landed_days(), default=None))
    return _concat(table for path in files for table in read_file(source, path, day))


def files_of_day(source: DataSource, day: dt.date, newest: dt.date | None) -> list[UPath]:
    """The files of a day of a daily data source; none if the shop was closed. `newest` is the newest landed day.

    Raises:
        SourceError: no files have landed for this or a later day.
    """
    files = source.files(day)
    if not files and (newest is None or day > newest):
        raise SourceError(
            f"no files for {day} (newest day: {newest or 'none'}): no file matches "
            f"{source.expand(source.purchases.path)}: land the day's file, or fix `path`"
        )
    return files


def read_export(source: DataSource) -> dict[dt.date, pa.Table]:
    """Local day → raw lines of an export.

    Lines without a readable time are in the newest day (not after `last_day`), where cleaning rejects them.

    Raises:
        SourceError: see the module; or there is no file.
    """
    files = files_of_export(source)
    table = _concat(table for path in files for table in read_file(source, path))
    days = local_days(table["event_time"].to_pandas(), source.time_zone)
    found = [None if pd.isna(day) else day.date() for day in days.unique()]
    days = days.fillna(pd.Timestamp(newest_day_of_export(source, files, found)))
    table = table.take(np.argsort(days.to_numpy(), kind="stable"))
    lines = days.value_counts().sort_index()
    first = lines.cumsum() - lines
    return {day.date(): table.slice(first[day], lines[day]) for day in pd.DatetimeIndex(lines.index)}


def files_of_export(source: DataSource) -> list[UPath]:
    """The files of an export. Raises SourceError if there is none."""
    if files := source.files():
        return files
    raise SourceError(f"no file matches {source.expand(source.purchases.path)}: land one, or fix `path`")


def newest_day_of_export(source: DataSource, files: Sequence[UPath], days: Collection[dt.date | None]) -> dt.date:
    """The day of the lines without a readable time: the newest of the `days` of all lines, not after `last_day`.

    Raises:
        SourceError: there is no line, or none with a time. None in `days` is the day of those without.
    """
    if not days:
        raise SourceError(f"{files[0]}: the file has no lines: land it again")
    known = [day for day in days if day is not None]
    if not known:
        raise SourceError(f"{files[0]}: column {source.purchases.columns.time!r}: no line has a readable time")
    return min(max(known), source.last_day or dt.date.max)


def read_file(source: DataSource, path: UPath, day: dt.date | None = None, split: Split = WHOLE) -> Iterator[pa.Table]:
    """Raw lines of a file of the purchase log, or of a part of it, in batches of bounded size: RAW_SCHEMA.

    A file with `order_columns` is one batch, because an order can be anywhere in it.

    Args:
        source: The data source.
        path: The file.
        day: The day in its name; None for an export.
        split: The part to read (`purchase_splits`).

    Raises:
        SourceError: see the module.
    """
    spec, row = source.purchases, split.first_row
    batch_bytes = None if spec.order_columns else BATCH_BYTES
    conventions = Conventions()
    if split.start:  # the file's first batch decides
        first = next(read_batches(spec, path, conventions))
        _as_raw_lines(source, path, first, 0, conventions, day)
    for frame in read_batches(spec, path, conventions, split, batch_bytes):
        yield _as_raw_lines(source, path, frame, row, conventions, day)
        row += len(frame)


def purchase_splits(source: DataSource, path: UPath) -> list[Split]:
    """The parts of a file of the purchase log that tasks can read independently."""
    return [WHOLE] if source.purchases.order_columns else splits(source.purchases, path)


def _as_raw_lines(
    source: DataSource, path: UPath, frame: pd.DataFrame, first_row: int, conventions: Conventions, day: dt.date | None
) -> pa.Table:
    spec, columns, returns = source.purchases, source.purchases.columns, source.returns
    if list(frame) != conventions.columns:  # JSON often omits fields without a value
        lists = frame.attrs.get(LIST_COLUMNS, [])
        frame = frame.reindex(columns=conventions.columns)
        frame.attrs[LIST_COLUMNS] = lists
    check_columns(spec, frame, used_columns(source), path)
    line = _as_json(frame)
    if columns.order_id:
        # Customers may share order ids. But if only the first line of an order has the customer, ids must be unique.
        customer = [] if columns.customer_id in spec.order_columns else [columns.customer_id]
        _fill_orders(frame, [columns.order_id, *customer], spec.order_columns)

    # Convert to Arrow column by column: all columns as Python objects take several times the memory.
    out = _ArrowColumns()
    out["source_file"] = pa.repeat(source.label(path), len(frame))
    out["source_row"] = np.arange(first_row + 1, first_row + len(frame) + 1)
    for name in ("order_id", "customer_id", "product_id"):
        column = getattr(columns, name)
        out[name] = frame[column] if column else pa.nulls(len(frame))
    out["event_time"] = as_times(frame[columns.time], source, path, conventions, day)
    one = pd.Series(1.0, frame.index)
    quantity = as_numbers(frame, columns.quantity, spec, path, conventions) if columns.quantity else one
    out["quantity"] = quantity
    price = as_numbers(frame, columns.unit_price or columns.amount, spec, path, conventions)
    out["unit_price"] = price / quantity.where(quantity != 0) if columns.amount else price
    out["rating"] = as_numbers(frame, columns.rating, spec, path, conventions)
    is_return = pd.Series(False, frame.index)
    if returns.negative_quantity:
        is_return |= quantity < 0
    if returns.order_id_prefix and columns.order_id:
        is_return |= strip_text(frame[columns.order_id]).str.startswith(returns.order_id_prefix)
    has_status = pd.Series(False, frame.index)
    if returns.status:
        has_status = is_one_of(frame[returns.status.column], returns.status.values)
        is_return |= has_status & ((returns.status.line_type == "return") | (quantity < 0))
    out["is_return"] = is_return
    out["was_returned"] = has_status & ~is_return
    of_size = pd.Series(True, frame.index)
    if returns.wrong_size:
        reason = frame[returns.wrong_size.column]
        of_size = strip_text(reason).isin(NO_VALUE) | is_one_of(reason, returns.wrong_size.values)
    out["wrong_size"] = (is_return | has_status) & of_size
    out["excluded_by"] = excluded_by(frame, spec)
    add_product_texts(out, frame, columns)
    out["variant_of"] = frame[columns.variant_of] if columns.variant_of else pa.nulls(len(frame))
    out["line"] = line
    conventions.is_first_batch = False
    return pa.table([out.columns[name] for name in RAW_SCHEMA.names], RAW_SCHEMA)


class _ArrowColumns:
    """Columns of RAW_SCHEMA."""

    def __init__(self) -> None:
        self.columns: dict[str, pa.Array | pa.ChunkedArray] = {}

    def __setitem__(self, name: str, values: pd.Series | np.ndarray | pa.Array | pa.ChunkedArray) -> None:
        kind = RAW_SCHEMA.field(name).type
        if isinstance(values, pd.Series | np.ndarray):
            self.columns[name] = pa.array(values, kind, from_pandas=True)
        else:
            self.columns[name] = values.cast(kind)


def _fill_orders(frame: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> None:
    """Fill empty values of these columns with the first value of the order, which the key columns identify."""
    order = [strip_text(frame[key]) for key in keys]
    for column in columns:
        filled = frame[column].where(~strip_text(frame[column]).isin(NO_VALUE))
        first = filled.groupby(order).transform("first")
        frame[column] = filled.where(filled.notna() | (order[0] == ""), first)


def used_columns(source: DataSource) -> list[str]:
    """Columns of the purchase log that the YAML file uses."""
    spec, columns, status, reason = (
        source.purchases, source.purchases.columns, source.returns.status, source.returns.wrong_size
    )  # fmt: skip
    named = [
        columns.customer_id, columns.product_id, columns.time, columns.order_id, columns.quantity,
        columns.unit_price, columns.amount, columns.rating, columns.category, columns.brand,
        columns.variant_of, status and status.column, reason and reason.column, *columns.title, *columns.text,
        *spec.include, *spec.exclude, *spec.order_columns,
    ]  # fmt: skip
    return list(dict.fromkeys(name for name in named if name))


def _concat(tables: Iterator[pa.Table]) -> pa.Table:
    return pa.concat_tables([RAW_SCHEMA.empty_table(), *tables])


def add_product_texts(
    out: pd.DataFrame | _ArrowColumns, frame: pd.DataFrame, columns: PurchaseColumns | CatalogColumns
) -> None:
    """Add title, category, brand and text (null if the data source has none), cut to their maximum lengths."""
    category, brand = ([column] if column else [] for column in (columns.category, columns.brand))
    for name, parts in {"title": columns.title, "category": category, "brand": brand}.items():
        out[name] = map_distinct(join_columns(frame, parts, " "), lambda texts: texts.str.slice(0, MAX_NAME_LENGTH))
    texts = columns.text or [*columns.title, *category, *brand]
    joined = join_columns(frame, texts, ", ")
    out["text"] = map_distinct(joined, lambda texts: texts.str.slice(0, MAX_TEXT_LENGTH).str.lower())


def check_columns(spec: FileFormat, frame: pd.DataFrame, columns: Sequence[str], path: UPath) -> None:
    """Raise a `SourceError` if a column is missing, is there twice, or is a list that `explode` doesn't name."""
    for column in frame.attrs.get(LIST_COLUMNS, []):
        if any(name == column or name.startswith(f"{column}.") for name in columns):
            raise SourceError(
                f"{path}: column {column!r} has lists: to get one line per entry, set `explode: {column}` next to "
                f"`path`, and write the fields of its entries as {column}.sku"
            )
    for name in columns:
        if name + DUPLICATE_SUFFIX in frame.columns:
            raise SourceError(f"{path}: two columns have the name {name!r}: rename one")
        if name not in frame.columns:
            hint = _similar_column_hint(name, frame, columns)
            # JSON often omits fields without a value. But a file without most fields is a different file.
            has_most = frame.empty or 2 * sum(column in frame for column in columns) >= len(columns)
            if spec.format == "jsonl" and not hint and has_most:
                frame[name] = None
                continue
            has = ", ".join(map(repr, frame.columns))
            delimiter = " (check `delimiter`)" if frame.shape[1] == 1 and len(columns) > 1 else ""
            hint = hint or _other_file_hint(name, frame, path)
            raise SourceError(f"{path}: column {name!r} is missing; the file has {has}{delimiter}. {hint}")


def _similar_column_hint(name: str, frame: pd.DataFrame, columns: Sequence[str]) -> str:
    """The unused column that is probably the missing one, in words; "" if there is none."""
    free = [column for column in frame.columns if column not in columns]
    nested = [column for column in free if column.startswith(f"{name}.") or column.endswith(f".{name}")]
    near = nested or difflib.get_close_matches(name, free, n=1, cutoff=0.75)
    return f"did you mean {near[0]!r}? Fix the file or `columns` in the YAML file" if near else ""


def _other_file_hint(name: str, frame: pd.DataFrame, path: UPath) -> str:
    """What to fix, in words: another file in the folder has the missing column, or the name is wrong."""
    fix = "Fix the file or `columns` in the YAML file"
    if is_uri(str(path)):
        return fix
    for other in sorted(path.parent.iterdir()):
        if other != path and other.suffix == path.suffix == ".csv" and other.is_file():
            with other.open("r", encoding="utf-8", errors="replace") as file:
                header = [
                    column.strip().strip('"') for column in re.split(r"[,;\t|]", file.readline(_MAX_HEADER_CHARACTERS))
                ]
            if name in header and (shared := [column for column in frame.columns if column in header]):
                return (
                    f"{other.name} in the same folder has {name!r}, and both have {shared[0]!r}: join the two files "
                    "first (see docs/exports.md)"
                )
    return fix


def excluded_by(frame: pd.DataFrame, spec: FileFormat) -> pd.Series:
    """The first column whose value excludes the row; "" if none does."""
    reason = pd.Series("", frame.index)
    for column, values in spec.include.items():
        reason[(reason == "") & ~is_one_of(frame[column], values)] = column
    for column, values in spec.exclude.items():
        reason[(reason == "") & is_one_of(frame[column], values)] = column
    return reason


def _as_json(frame: pd.DataFrame) -> pa.ChunkedArray:
    # pandas' JSON writer crashes the process on some malformed text.
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def lines(part: pd.DataFrame) -> pa.Array:
        pieces: list[pa.Array | str] = []
        for name in part.columns:
            positions, distinct = distinct_values(part[name])
            encoded = [encode(value if isinstance(value, str) else None) for value in distinct]
            pieces += ["," if pieces else "{", f"{encode(name)}:", pa.array(encoded, pa.string()).take(positions)]
        return pc.binary_join_element_wise(*pieces, "}", "")

    parts = [lines(frame.iloc[start : start + _JSON_ROWS]) for start in range(0, len(frame), _JSON_ROWS)]
    return pa.chunked_array(parts, pa.string())
