"""Sums in Spark whose result doesn't depend on the order of rows.

Spark adds up rows in an order of its own, and a sum of floats depends on the order in its last bits: equal data would
give tables that differ, and everything made from them would count as changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column

_EXACT = "decimal(38,12)"
"""Holds money and quantities up to 10^26; a value beyond that is a mistake and isn't counted."""


def exact_sum(value: Column) -> Column:
    """The sum of money or quantities, added up as decimals of 12 places: any number of rows; null without a value."""
    from pyspark.sql import functions as F

    return F.try_sum(value.try_cast(_EXACT)).cast("double")


def exact_mean(value: Column) -> Column:
    """The mean, added up as in `exact_sum`."""
    from pyspark.sql import functions as F

    return F.try_avg(value.try_cast(_EXACT)).cast("double")


def ordered_sum(value: Column) -> Column:
    """The sum of floats of any magnitude, the smallest first; it holds a group's values, so for small groups only."""
    from pyspark.sql import functions as F

    return F.aggregate(F.array_sort(F.collect_list(value)), F.lit(0.0), lambda total, each: total + each)
