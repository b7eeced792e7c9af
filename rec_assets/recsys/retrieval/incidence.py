"""Sparse incidence matrices, for counting products that occur together."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp


def incidence(sets: pa.ChunkedArray, products: int) -> sp.csr_matrix:
    """(sets, products) 1 if a set, which is a list of positions, contains the product."""
    lengths = np.concatenate([[0], *(pc.list_value_length(chunk).to_numpy() for chunk in sets.chunks)])
    columns = np.concatenate([np.zeros(0, np.int32), *(chunk.flatten().to_numpy() for chunk in sets.chunks)])
    return sp.csr_matrix((np.ones(len(columns), np.float32), columns, np.cumsum(lengths)), (len(sets), products))
