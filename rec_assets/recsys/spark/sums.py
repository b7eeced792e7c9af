"""Sums in Spark whose result does not depend on the order of rows.

The order in which Spark adds rows varies, and so do the last bits of a sum of floats. Equal data would then give
different tables, and everything made from them would be stale.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

_EXACT = "decimal(38,12)"
"""Money and quantities up to 10^26. A larger value is an error and is not counted."""

_UNIT, _FAST_LIMIT = 1e9, 9e9
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
