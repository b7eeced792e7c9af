"""Sums in Spark whose result does not depend on the order of rows.

The order in which Spark adds rows varies, and so do the last bits of a sum of floats. Equal data would then give
different tables, and everything made from them would be stale.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

_EXACT = "decimal(38,12)"
"""Money and quantities up to 10^26. A larger value is an error and is not counted."""


def exact_sum(value: Column) -> Column:
    """Sum of money or quantities, computed with 12 decimal places; null without a value."""
    return F.try_sum(value.try_cast(_EXACT)).cast("double")


def exact_mean(value: Column) -> Column:
    """Mean of money or quantities, computed like `exact_sum`."""
    return F.try_avg(value.try_cast(_EXACT)).cast("double")


def ordered_sum(value: Column) -> Column:
    """Sum of floats of any magnitude, smallest first. It holds all values of a group, so use it for small groups."""
    return F.aggregate(F.array_sort(F.collect_list(value)), F.lit(0.0), lambda total, number: total + number)
