"""Functions of the distinct values of a column: most columns of text repeat few values."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from rec_assets.recsys.arrays import Longs


def distinct_values(values: pd.Series) -> tuple[Longs, pd.Series]:
    """(n,) the position of each value in a series of the distinct ones, and this series. Nulls are one value, NaN."""
    positions, distinct = pd.factorize(values.to_numpy(object), use_na_sentinel=False)
    return positions, pd.Series(distinct, dtype=object)


def map_distinct(values: pd.Series, function: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """`function` of a column, called with its distinct values. It must treat each value alone."""
    positions, distinct = distinct_values(values)
    return function(distinct).take(positions).set_axis(values.index)


def strip_text(values: pd.Series) -> pd.Series:
    """Text without spaces at its ends; "" for null."""
    return map_distinct(values, lambda distinct: distinct.fillna("").astype(str).str.strip())
