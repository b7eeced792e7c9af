"""A product snapshot as a table, one row per product, as the lake stores it.

A list of neighbors is two columns: the rows of the neighbors in this table, from 0, and their weights.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from rec_assets.recsys.arrays import Ints, Longs
from rec_assets.recsys.data.list_columns import (
    list_lengths,
    matrix_of_lists,
    neighbor_lists,
    rows_of_lists,
    vector_lists,
)
from rec_assets.recsys.data.product_snapshot import UNKNOWN, ProductSnapshot
from rec_assets.recsys.data.snapshot_arrays import KINDS, SHOWN_TEXTS

_NUMBERS = (
    "price", "list_price", "age_days", "order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers",
    "returns", "repeat_share", "interval_days",
)  # fmt: skip
_NAMES = {"category": "categories", "brand": "brands"}

SNAPSHOT_COLUMNS = (
    "product_id", "title", *_NAMES, *SHOWN_TEXTS, "in_stock", *_NUMBERS, "factors",
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
    for name, texts in SHOWN_TEXTS.items():
        values = getattr(snapshot, texts)
        columns[name] = pa.array(np.where(values == "", None, values), pa.string())
    columns["in_stock"] = pa.array(snapshot.in_stock)
    columns |= {name: pa.array(getattr(snapshot, name), from_pandas=True) for name in _NUMBERS}
    columns["factors"] = vector_lists(snapshot.factors[snapshot.has_factors], snapshot.has_factors)
    for kind in KINDS:
        columns |= neighbor_lists(kind, getattr(snapshot, kind), np.ones(len(snapshot), bool))
    columns["text_row"] = pa.array(snapshot.text, mask=snapshot.text < 0)
    first = _first_of_each(snapshot.text)
    is_first = np.isin(np.arange(len(snapshot)), first)
    in_order = snapshot.text[is_first]
    columns["embedding"] = vector_lists(snapshot.embeddings[in_order], is_first)
    columns |= neighbor_lists("similar_texts", snapshot.text_neighbors[in_order], is_first)
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
    factors = rows_of_lists(table["factors"])
    lengths = list_lengths(table["factors"])
    all_factors = np.zeros((len(table), factors.shape[1]), np.float32)
    all_factors[lengths > 0] = factors
    text = table["text_row"].fill_null(-1).to_numpy().astype(np.int32)
    first = _first_of_each(text)
    # The embeddings are in the order of the products.
    row = np.searchsorted(np.sort(first), first)
    similar = matrix_of_lists(table, "similar_texts", len(first))[first]
    return ProductSnapshot(
        as_of=as_of,
        product_ids=table["product_id"].to_numpy(),
        titles=table["title"].to_numpy(),
        **names,
        **{texts: table[name].fill_null("").to_pandas().to_numpy(object) for name, texts in SHOWN_TEXTS.items()},
        in_stock=table["in_stock"].to_numpy(),
        **numbers,
        factors=all_factors,
        **{kind: matrix_of_lists(table, kind, len(table)) for kind in KINDS},
        text=text,
        embeddings=rows_of_lists(table["embedding"])[row],
        text_neighbors=sp.csr_matrix(similar),
    )


def _first_of_each(text: Ints) -> Longs:
    """(T,) the first product of each text, from the text of each product (-1 for none)."""
    found, first = np.unique(text, return_index=True)
    return np.asarray(first[found >= 0], np.int64)
