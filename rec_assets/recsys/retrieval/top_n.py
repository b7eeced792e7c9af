"""The highest of many scores, row by row."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.data.product_snapshot import Floats, Longs

_GROUPS = 1024


def top_columns(scores: Floats, size: int) -> Longs:
    """(n, size) columns of the highest scores of each row, falling; of equal ones the lowest columns, in their order.

    Columns are dealt out to groups. The `size` highest maxima of groups are `size` different scores, so that the
    least of them is a floor that the wanted ones reach and few others do; only these are then sorted. Finding maxima
    is far less work than partitioning whole rows.

    Args:
        scores: (n, columns), finite or -inf.
        size: How many; all columns where there are fewer.
    """
    n, columns = scores.shape
    size, groups = min(size, columns), max(_GROUPS, 4 * size)
    if not size:
        return np.empty((n, 0), np.int64)
    if columns > 4 * groups:
        among = scores[:, : columns // groups * groups].reshape(n, -1, groups).max(axis=1)
    else:
        among = scores
    floor = np.partition(among, among.shape[1] - size, axis=1)[:, among.shape[1] - size]
    top = np.empty((n, size), np.int64)
    for row, (own, least) in enumerate(zip(scores, floor, strict=True)):
        reach = np.flatnonzero(own >= least)
        top[row] = reach[np.argsort(-own[reach], kind="stable")[:size]]
    return top
