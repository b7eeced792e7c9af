"""Sums whose result does not depend on the order of rows.

The order in which Spark adds rows varies, and so do the last bits of a sum of floats. Equal data would then give
different tables, and everything made from them would be stale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

_EXACT = "decimal(38,12)"
"""Money and quantities up to 10^26. A larger value is an error and is not counted."""

_UNIT, _FAST_LIMIT, _SUM_LIMIT = 1e9, 9e9, 1e16
"""Smaller values are summed as whole billionths, because Spark sums decimals slowly."""

_HALF = 32
"""Bits of the lower half of a number of billionths. The sums of both halves are exact for two billion values."""


def exact_sum(value: Column) -> Column:
    """Sum of money or quantities, computed with 9 or more decimal places; null without a value."""
    is_fast = F.abs(value) < _FAST_LIMIT
    billionths = F.when(is_fast, F.floor(value * _UNIT + 0.5))
    high, low = F.shiftright(billionths, _HALF), billionths.bitwiseAND(F.lit(2**_HALF - 1))
    fast = (F.sum(high).cast("double") * 2.0**_HALF + F.sum(low).cast("double")) / _UNIT
    others = F.try_sum(F.when(~is_fast, value.try_cast(_EXACT))).cast("double")
    return F.when(others.isNull(), fast).when(fast.isNull(), others).otherwise(fast + others)


def exact_mean(value: Column) -> Column:
    """Mean of money or quantities, computed with 12 decimal places."""
    return F.try_avg(value.try_cast(_EXACT)).cast("double")


def ordered_sum(value: Column) -> Column:
    """Sum of floats of any magnitude, smallest first. It holds all values of a group, so use it for small groups."""
    return F.aggregate(F.array_sort(F.collect_list(value)), F.lit(0.0), lambda total, number: total + number)


def halves(name: str, values: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Money or quantities as two columns of whole numbers, `…_high` and `…_low`, which are added exactly.

    Like `exact_sum`, with 9 decimal places. The halves are floats, so sums are exact for two million values, and for
    many more of whole cents. Sums are exact up to 10^16. Values above that, and NaN, give NaN.
    """
    counted = np.where(np.abs(values) < _SUM_LIMIT, values, np.nan)
    billionths = np.floor(counted * _UNIT + 0.5)
    high = np.floor(billionths / 2.0**_HALF)
    return dict(zip(halves_of(name), (high, billionths - high * 2.0**_HALF), strict=True))


def halves_of(*names: str) -> list[str]:
    """The columns of `halves`."""
    return [f"{name}_{half}" for name in names for half in ("high", "low")]


def sum_of_halves(sums: pd.DataFrame, name: str) -> pd.Series:
    """Sums of values, from the sums of their halves."""
    high, low = (sums[column] for column in halves_of(name))
    return (high * 2.0**_HALF + low) / _UNIT
