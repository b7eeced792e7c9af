"""The highest scores of each row."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs

_GROUPS = 1024


def top_columns(scores: Floats, size: int) -> Longs:
    """(n, size) columns of the highest scores of each row, descending; ties go to the lower column.

    The columns are divided into groups. The `size` highest group maxima are `size` different scores, so the lowest of
    them is a bound that the wanted scores reach and few others do. Only these are sorted. Finding maxima is much faster
    than partitioning whole rows.

    Args:
        scores: (n, columns), finite or -inf.
        size: Number of columns; all of them if there are fewer.
    """
    n, columns = scores.shape
    size, groups = min(size, columns), max(_GROUPS, 4 * size)
    if not size:
        return np.empty((n, 0), np.int64)
    if columns > 4 * groups:
        maxima = scores[:, : columns // groups * groups].reshape(n, -1, groups).max(axis=1)
    else:
        maxima = scores
    bound = np.partition(maxima, maxima.shape[1] - size, axis=1)[:, maxima.shape[1] - size]
    top = np.empty((n, size), np.int64)
    for row, (values, lowest) in enumerate(zip(scores, bound, strict=True)):
        candidates = np.flatnonzero(values >= lowest)
        top[row] = candidates[np.argsort(-values[candidates], kind="stable")[:size]]
    return top
