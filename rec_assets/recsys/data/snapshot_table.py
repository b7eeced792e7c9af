"""A product snapshot as a table, one row per product, as the lake stores it.

A list of neighbors is two columns: the rows of the neighbors in this table, from 0, and their weights. Arrow lays out
such lists as a sparse matrix, so neither direction copies them row by row.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask
from rec_assets.recsys.data.product_snapshot import UNKNOWN, ProductSnapshot
from rec_assets.recsys.data.snapshot_arrays import KINDS

_NUMBERS = (
    "price", "list_price", "age_days", "order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers",
    "returns", "repeat_share", "interval_days",
)  # fmt: skip
_NAMES = {"category": "categories", "brand": "brands"}

_MAX_VALUES = 2**31 - 1

SNAPSHOT_COLUMNS = (
    "product_id", "title", *_NAMES, *_NUMBERS, "factors",
    *(f"{kind}{end}" for kind in KINDS for end in ("", "_weight")),
    "text_row", "embedding", "similar_texts", "similar_texts_weight",
)  # fmt: skip
"""Columns of the table, in order."""


def to_table(snapshot: ProductSnapshot) -> pa.Table:
    """SNAPSHOT_COLUMNS, sorted by product. `text_row` is the number of the product's text.

    The first product of each text has the `embedding` of the text, and its similar texts by their `text_row`.
    """
    columns: dict[str, pa.Array] = {"product_id": pa.array(snapshot.product_ids, pa.string())}
    columns["title"] = pa.array(snapshot.titles, pa.string())
    for name, texts in _NAMES.items():
        values = getattr(snapshot, texts)[getattr(snapshot, name)]
        columns[name] = pa.array(np.where(values == UNKNOWN, None, values), pa.string())
    columns |= {name: pa.array(getattr(snapshot, name), from_pandas=True) for name in _NUMBERS}
    columns["factors"] = _vectors(snapshot.factors[snapshot.has_factors], snapshot.has_factors)
    for kind in KINDS:
        columns |= _neighbors(kind, getattr(snapshot, kind), np.ones(len(snapshot), bool))
    columns["text_row"] = pa.array(snapshot.text, mask=snapshot.text < 0)
    first = _first_of_each(snapshot.text)
    is_first = np.isin(np.arange(len(snapshot)), first)
    in_order = snapshot.text[is_first]
    columns["embedding"] = _vectors(snapshot.embeddings[in_order], is_first)
    columns |= _neighbors("similar_texts", snapshot.text_neighbors[in_order], is_first)
    return pa.table({name: columns[name] for name in SNAPSHOT_COLUMNS})


def from_table(table: pa.Table, as_of: dt.date) -> ProductSnapshot:
    """The snapshot of a day from what `to_table` has made."""
    table = table.sort_by("product_id").combine_chunks()  # Spark may read files in another order
    numbers = {name: table[name].to_pandas().to_numpy(np.float32) for name in _NUMBERS}
    names: dict[str, Any] = {}
    for name, texts in _NAMES.items():
        values = table[name].to_pandas().fillna(UNKNOWN).to_numpy(object)
        code, names[texts] = pd.factorize(values, sort=True)
        names[name] = code.astype(np.int32)
    factors = _to_rows(table["factors"])
    lengths = _lengths(table["factors"])
    all_factors = np.zeros((len(table), factors.shape[1]), np.float32)
    all_factors[lengths > 0] = factors
    text = table["text_row"].fill_null(-1).to_numpy().astype(np.int32)
    first = _first_of_each(text)
    # The embeddings are in the order of the products.
    row = np.searchsorted(np.sort(first), first)
    similar = _to_matrix(table, "similar_texts", len(first))[first]
    return ProductSnapshot(
        as_of=as_of,
        product_ids=table["product_id"].to_numpy(),
        titles=table["title"].to_numpy(),
        **names,
        **numbers,
        factors=all_factors,
        **{kind: _to_matrix(table, kind, len(table)) for kind in KINDS},
        text=text,
        embeddings=_to_rows(table["embedding"])[row],
        text_neighbors=sp.csr_matrix(similar),
    )


def _first_of_each(text: Ints) -> Longs:
    """(T,) the first product of each text, from the text of each product (-1 for none)."""
    found, first = np.unique(text, return_index=True)
    return np.asarray(first[found >= 0], np.int64)


def _vectors(rows: Floats, has_row: Mask) -> pa.Array:
    """One list per product: the next row if it has one, else an empty list."""
    offsets = _offsets(has_row * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, rows.astype(np.float32).ravel())


def _to_rows(lists: pa.ChunkedArray) -> Floats:
    """(n, d) the lists that are not empty; (0, 1) if all are."""
    lengths = _lengths(lists)
    n, d = int((lengths > 0).sum()), max(int(lengths.max(initial=0)), 1)
    return np.asarray(_values(lists).reshape(n, d), np.float32)


def _neighbors(name: str, rows: sp.csr_matrix, has_row: Mask) -> dict[str, pa.Array]:
    """Two columns of lists: the next row of the matrix for each product that has one, else empty lists."""
    length = np.zeros(len(has_row), np.int64)
    length[has_row] = np.diff(rows.indptr)
    offsets = _offsets(length)
    return {
        name: pa.ListArray.from_arrays(offsets, rows.indices.astype(np.int32)),
        f"{name}_weight": pa.ListArray.from_arrays(offsets, rows.data.astype(np.float32)),
    }


def _to_matrix(table: pa.Table, name: str, columns: int) -> sp.csr_matrix:
    """(rows of the table, columns) weights."""
    indptr = _offsets(_lengths(table[name]))
    weights, neighbors = _values(table[f"{name}_weight"]), _values(table[name])
    return sp.csr_matrix((weights, neighbors, indptr), shape=(len(table), columns))


def _offsets(lengths: Longs) -> Ints:
    """(n + 1,) the start of each list. Raises ValueError if they don't fit into one Arrow array."""
    offsets = np.append(0, np.cumsum(lengths, dtype=np.int64))
    if offsets[-1] > _MAX_VALUES:
        raise ValueError(
            f"the lists of {len(lengths):,} products have {offsets[-1]:,} values, more than {_MAX_VALUES:,}: split the "
            "catalog into several data sources (docs/scaling.md)"
        )
    return offsets.astype(np.int32)


def _lengths(lists: pa.ChunkedArray) -> Longs:
    return np.asarray(pc.list_value_length(lists).to_numpy(), np.int64)


def _values(lists: pa.ChunkedArray) -> Any:
    return pc.list_flatten(lists).to_numpy()
