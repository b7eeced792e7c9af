"""Small sparse matrices: what several counters of products have in common."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp


def incidence(sets: pd.Series, products: int) -> sp.csr_matrix:
    """(sets, products) 1 where a set, an array of positions, holds a product."""
    lengths = sets.str.len().to_numpy(np.int64)
    columns = np.concatenate(sets.to_list())
    bounds = np.concatenate(([0], np.cumsum(lengths)))
    return sp.csr_matrix((np.ones(len(columns), np.float32), columns, bounds), shape=(len(sets), products))
