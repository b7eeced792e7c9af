"""Read a source's files into raw lines and raw catalog rows: typed, with file and row, nothing dropped.

What a whole file gets wrong (unreadable, a column missing, a column of another type) is a `SourceError`; what
a single line gets wrong is kept for cleaning to refuse.
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from upath import UPath

from rec_assets.recsys.events import LONGEST_ID, LONGEST_NAME, LONGEST_TEXT
from rec_assets.recsys.retrieval.text import join_columns
from rec_assets.sources.errors import SourceError
from rec_assets.sources.formats import LISTS, POSITION, SECOND, read_text
from rec_assets.sources.paths import is_uri
from rec_assets.sources.spec import CatalogColumns, FileFormat, PurchaseColumns, Source
from rec_assets.sources.times import NO_VALUE, local_days
from rec_assets.sources.values import as_dates, as_numbers, as_times, is_one_of, stripped

_LONGEST_HEADER = 100_000
_JSON_ROWS = 50_000
"""Lines that are held as Python's text at a time."""

RAW_SCHEMA = pa.schema(
    [
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
        ("order_id", pa.string()),
        ("customer_id", pa.string()),
        ("product_id", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("quantity", pa.float64()),
        ("unit_price", pa.float64()),
        ("rating", pa.float64()),
        ("is_return", pa.bool_()),
        ("was_returned", pa.bool_()),
        ("excluded_by", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("text", pa.string()),
        ("line", pa.string()),
    ]
)
"""`raw_purchase_logs`. Null = no readable value; `line` is the whole line as JSON, each value as text.

`is_return`: the line stands for a return. `was_returned`: it is a purchase, and its status says that it came back.
"""

CATALOG_SCHEMA = pa.schema(
    [
        ("product_id", pa.string()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("text", pa.string()),
        ("price", pa.float64()),
        ("available_from", pa.date32()),
        ("excluded", pa.bool_()),
        ("source_file", pa.string()),
        ("source_row", pa.int64()),
    ]
)
"""`raw_product_catalog`."""


def read_day(source: Source, day: dt.date, newest: dt.date | None = None) -> pa.Table:
    """Raw lines of one day of a daily source, RAW_SCHEMA.

    A day without files is a day on which the shop was closed, if a later one has landed.

    Args:
        source: The source.
        day: The day.
        newest: Newest landed day; looked up where not given.

    Raises:
        SourceError: see the module; or nothing has landed for the day or later.
    """
    files = source.files(day)
    if not files:
        newest = newest or max(source.landed_days(), default=None)
        if newest is None or day > newest:
            raise SourceError(
                f"nothing has landed for {day} (newest: {newest or 'none'}): no file matches "
                f"{source.expand(source.purchases.path)}"
            )
    return _concat(_read_purchases(source, path, day) for path in files)


def read_export(source: Source) -> dict[dt.date, pa.Table]:
    """Raw lines of an export by local day.

    Lines without a readable time count on its newest day (not after `last_day`), where cleaning refuses them.

    Raises:
        SourceError: see the module; or no file is there.
    """
    files = source.files()
    if not files:
        raise SourceError(f"no file matches {source.expand(source.purchases.path)}: put one there, or fix `path`")
    table = _concat(_read_purchases(source, path) for path in files)
    days = local_days(table["event_time"].to_pandas(), source.time_zone)
    newest = days.max()
    if not len(table):
        raise SourceError(f"{files[0]}: the file has no line: land it again")
    if pd.isna(newest):
        raise SourceError(f"{files[0]}: column {source.purchases.columns.time!r}: no line has a readable time")
    if source.last_day and newest.date() > source.last_day:
        newest = pd.Timestamp(source.last_day)
    days = days.fillna(newest)
    table = table.take(np.argsort(days.to_numpy(), kind="stable"))
    lines = days.value_counts().sort_index()
    first = lines.cumsum() - lines
    found = pd.DatetimeIndex(lines.index)
    return {day.date(): table.slice(first[day], lines[day]) for day in found}


def read_catalog(source: Source) -> pa.Table:
    """The newest catalog file, CATALOG_SCHEMA; empty where the source has none.

    Rows without a product id, or with one longer than LONGEST_ID, are left out, and of rows that are the same in every
    column all but the first.

    Raises:
        SourceError: see the module; or a product stands in the file twice, with different values.
    """
    spec, path = source.catalog, source.catalog_file()
    if spec is None or path is None:
        return CATALOG_SCHEMA.empty_table()
    columns = spec.columns
    frame = read_text(spec, path)
    named = (columns.category, columns.brand, columns.price, columns.available_from)
    listed = [columns.product_id, *columns.title, *columns.text, *spec.only, *spec.exclude, *filter(None, named)]
    _require(spec, frame, listed, path)
    listed_id = frame[columns.product_id].fillna("").str.strip()
    frame = frame[(listed_id != "") & (listed_id.str.len() <= LONGEST_ID)]
    frame = frame.drop(columns=f"{spec.lines}.{POSITION}", errors="ignore").drop_duplicates()
    ids = frame[columns.product_id]
    twice = ids[ids.duplicated()]
    if len(twice):
        rows = ", ".join(str(row + 1) for row in ids.index[ids == twice.iloc[0]][:3])
        raise SourceError(
            f"{path}: column {columns.product_id!r}: product {twice.iloc[0]!r} stands in rows {rows} with "
            f"different values ({twice.nunique()} such products): keep one row a product"
        )
    out = pd.DataFrame({"product_id": ids})
    _describe(out, frame, columns)
    price = as_numbers(frame, columns.price, spec, path)
    out["price"] = price.where((price > 0) & np.isfinite(price))
    out["available_from"] = as_dates(frame, columns.available_from, path)
    out["excluded"] = _excluded_by(frame, spec) != ""
    out["source_file"] = source.label(path)
    out["source_row"] = frame.index + 1
    return pa.Table.from_pandas(out, schema=CATALOG_SCHEMA, preserve_index=False)


def file_fingerprint(paths: Sequence[UPath]) -> str:
    """SHA-256 over the bytes of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _read_purchases(source: Source, path: UPath, day: dt.date | None = None) -> pa.Table:
    spec, columns, returns = source.purchases, source.purchases.columns, source.returns
    frame = read_text(spec, path)
    _require(spec, frame, used_columns(source), path)
    line = _as_json(frame)
    if columns.order_id:
        # An order id counts per customer, unless the customer stands on the first line only, too.
        customer = [] if columns.customer_id in spec.order_columns else [columns.customer_id]
        _fill_orders(frame, [columns.order_id, *customer], spec.order_columns)

    # Column by column into Arrow: as Python's objects, all of them together would take several times the memory.
    out = _ArrowColumns()
    out["source_file"] = pa.repeat(source.label(path), len(frame))
    out["source_row"] = np.arange(1, len(frame) + 1)
    for name in ("order_id", "customer_id", "product_id"):
        column = getattr(columns, name)
        out[name] = frame[column] if column else pa.nulls(len(frame))
    out["event_time"] = as_times(frame[columns.time], source, path, day)
    quantity = as_numbers(frame, columns.quantity, spec, path)
    if not columns.quantity:
        quantity = pd.Series(1.0, frame.index)
    out["quantity"] = quantity
    unit_price = as_numbers(frame, columns.unit_price, spec, path)
    if columns.amount:
        unit_price = as_numbers(frame, columns.amount, spec, path) / quantity.where(quantity != 0)
    out["unit_price"] = unit_price
    out["rating"] = as_numbers(frame, columns.rating, spec, path)
    is_return = pd.Series(False, frame.index)
    if returns.negative_quantity:
        is_return |= quantity < 0
    if returns.order_id_prefix and columns.order_id:
        is_return |= stripped(frame[columns.order_id]).str.startswith(returns.order_id_prefix)
    has_status = pd.Series(False, frame.index)
    if returns.status:
        has_status = is_one_of(frame[returns.status.column], returns.status.values)
        is_return |= has_status & ((returns.status.line_is == "return") | (quantity < 0))
    out["is_return"] = is_return
    out["was_returned"] = has_status & ~is_return
    out["excluded_by"] = _excluded_by(frame, spec)
    _describe(out, frame, columns)
    out["line"] = line
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


def _fill_orders(frame: pd.DataFrame, order: Sequence[str], columns: Sequence[str]) -> None:
    """Give the lines of an order on which these columns are empty the first value that the order has in them."""
    keys = [stripped(frame[key]) for key in order]
    for column in columns:
        filled = frame[column].where(~stripped(frame[column]).isin(NO_VALUE))
        of_order = filled.groupby(keys).transform("first")
        frame[column] = filled.where(filled.notna() | (keys[0] == ""), of_order)


def used_columns(source: Source) -> list[str]:
    """Columns of the log that the source's description names."""
    spec, columns, status = source.purchases, source.purchases.columns, source.returns.status
    named = [
        columns.customer_id, columns.product_id, columns.time, columns.order_id, columns.quantity,
        columns.unit_price, columns.amount, columns.rating, columns.category, columns.brand,
        status and status.column, *columns.title, *columns.text, *spec.only, *spec.exclude, *spec.order_columns,
    ]  # fmt: skip
    return list(dict.fromkeys(name for name in named if name))


def _concat(tables: Iterator[pa.Table]) -> pa.Table:
    return pa.concat_tables([RAW_SCHEMA.empty_table(), *tables])


def _describe(
    out: pd.DataFrame | _ArrowColumns, frame: pd.DataFrame, columns: PurchaseColumns | CatalogColumns
) -> None:
    """Fill title, category, brand and text (null where the source has none), none of them longer than allowed."""
    described = {
        "title": columns.title,
        "category": [columns.category] if columns.category else [],
        "brand": [columns.brand] if columns.brand else [],
    }
    for name, parts in described.items():
        out[name] = join_columns(frame, parts, " ").str.slice(0, LONGEST_NAME)
    all_of_it = [column for parts in described.values() for column in parts]
    out["text"] = join_columns(frame, columns.text or all_of_it, ", ").str.slice(0, LONGEST_TEXT).str.lower()


def _require(spec: FileFormat, frame: pd.DataFrame, columns: Sequence[str], path: UPath) -> None:
    for each in frame.attrs.get(LISTS, []):
        if any(name == each or name.startswith(f"{each}.") for name in columns):
            raise SourceError(
                f"{path}: column {each!r} holds a list, and lines must be flat, one a purchase: set `lines: {each}` "
                f"beside `path`, and name the fields of its entries as {each}.sku"
            )
    for name in columns:
        if name + SECOND in frame.columns:
            raise SourceError(f"{path}: two columns are named {name!r}: name them apart")
        if name not in frame.columns:
            hint = _another_name(name, frame, columns)
            # A field without a value is often left out; a file without most fields is something else.
            is_ours = frame.empty or 2 * sum(each in frame for each in columns) >= len(columns)
            if spec.format == "jsonl" and not hint and is_ours:
                frame[name] = None
                continue
            has = ", ".join(map(repr, frame.columns))
            delimiter = " (is `delimiter` right?)" if frame.shape[1] == 1 and len(columns) > 1 else ""
            hint = hint or _another_file(name, frame, path)
            raise SourceError(f"{path}: column {name!r} is missing; the file has {has}{delimiter}. {hint}")


def _another_name(name: str, frame: pd.DataFrame, columns: Sequence[str]) -> str:
    """How the file may call a missing column: no column that has a meaning already."""
    free = [column for column in frame.columns if column not in columns]
    within = [column for column in free if column.startswith(f"{name}.") or column.endswith(f".{name}")]
    near = within or difflib.get_close_matches(name, free, n=1, cutoff=0.75)
    return f"did you mean {near[0]!r}? Fix the file or the source's `columns`" if near else ""


def _another_file(name: str, frame: pd.DataFrame, path: UPath) -> str:
    """What to do about a missing column; which file beside this one has it, where one does."""
    fix = "Fix the file or the source's `columns`"
    if is_uri(str(path)):
        return fix
    for other in sorted(path.parent.iterdir()):
        if other != path and other.suffix == path.suffix == ".csv" and other.is_file():
            with other.open("r", encoding="utf-8", errors="replace") as file:
                header = [column.strip().strip('"') for column in re.split(r"[,;\t|]", file.readline(_LONGEST_HEADER))]
            if name in header and (shared := [column for column in frame.columns if column in header]):
                return (
                    f"{other.name} beside it has {name!r}, and both have {shared[0]!r}: a source is one table, so join "
                    "the two files first (docs/exports.md shows how)"
                )
    return fix


def _excluded_by(frame: pd.DataFrame, spec: FileFormat) -> pd.Series:
    """The first column whose value excludes the row, "" where none does."""
    reason = pd.Series("", frame.index)
    for column, values in spec.only.items():
        reason[(reason == "") & ~is_one_of(frame[column], values)] = column
    for column, values in spec.exclude.items():
        reason[(reason == "") & is_one_of(frame[column], values)] = column
    return reason


def _as_json(frame: pd.DataFrame) -> pa.ChunkedArray:
    # Not with pandas' own writer: it ends the process on some malformed text.
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def lines(part: pd.DataFrame) -> pa.Array:
        columns = (part[name].to_list() for name in part.columns)
        values = zip(*columns, strict=True)
        return pa.array([encode(dict(zip(part.columns, each, strict=True))) for each in values], pa.string())

    parts = [lines(frame.iloc[start : start + _JSON_ROWS]) for start in range(0, len(frame), _JSON_ROWS)]
    return pa.chunked_array(parts, pa.string())
