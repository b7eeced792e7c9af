"""Columns of lists in Arrow tables: vectors, and neighbors with their weights.

Arrow lays out such lists as a sparse matrix, so neither direction copies them row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask

_MAX_VALUES = 2**31 - 1


def vector_lists(rows: Floats, has_row: Mask) -> pa.Array:
    """One list per product: the next row if it has one, else an empty list."""
    offsets = _offsets(has_row * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, rows.astype(np.float32).ravel())


def rows_of_lists(lists: pa.ChunkedArray) -> Floats:
    """(n, d) the lists that are not empty; (0, 1) if all are."""
    lengths = list_lengths(lists)
    n, d = int((lengths > 0).sum()), max(int(lengths.max(initial=0)), 1)
    return np.asarray(_values(lists).reshape(n, d), np.float32)


def neighbor_lists(name: str, rows: sp.csr_matrix, has_row: Mask) -> dict[str, pa.Array]:
    """`name` and `name_weight`: the next row of the matrix for each product that has one, else empty lists."""
    length = np.zeros(len(has_row), np.int64)
    length[has_row] = np.diff(rows.indptr)
    offsets = _offsets(length)
    return {
        name: pa.ListArray.from_arrays(offsets, rows.indices.astype(np.int32)),
        f"{name}_weight": pa.ListArray.from_arrays(offsets, rows.data.astype(np.float32)),
    }


def matrix_of_lists(table: pa.Table, name: str, columns: int) -> sp.csr_matrix:
    """(rows of the table, columns) weights."""
    indptr = _offsets(list_lengths(table[name]))
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


def list_lengths(lists: pa.ChunkedArray) -> Longs:
    """(n,) the number of values of each list."""
    return np.asarray(pc.list_value_length(lists).to_numpy(), np.int64)


def _values(lists: pa.ChunkedArray) -> Any:
    return pc.list_flatten(lists).to_numpy()
