"""Sums over the units of a variant, and metrics with standard errors computed from them.

Sums can be added: Spark tasks compute them in parallel, and their size does not depend on the number of customers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

Terms = list[tuple[str, float]]
"""A weighted sum of a unit's measurements: names and weights."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the units (customers or sessions) of one variant.

    Attributes:
        names: The p measurements of each unit.
        gram: (p + 1, p + 1) Gram matrix: sums of the products of two measurements. The first one is a constant 1.
    """

    names: tuple[str, ...]
    gram: npt.NDArray[np.float64]

    @classmethod
    def from_units(cls, units: pd.DataFrame) -> Moments:
        """Of a frame with one row for each unit and one column for each measurement."""
        values = np.column_stack([np.ones(len(units)), units.to_numpy(float)])
        return cls(tuple(str(name) for name in units.columns), values.T @ values)

    def __add__(self, other: Moments) -> Moments:
        if self.names != other.names:
            raise ValueError(f"{', '.join(self.names)} and {', '.join(other.names)} can't be added")
        return Moments(self.names, self.gram + other.gram)

    @property
    def units(self) -> int:
        """Number of units."""
        return round(float(self.gram[0, 0]))

    def total(self, name: str) -> float:
        """Sum of a measurement."""
        return float(self.gram[0, self._column[name]])

    def mean(self, name: str) -> float:
        """Mean of a measurement over units."""
        return self.total(name) / self.units if self.units else math.nan

    def covariance(self, one: str, other: str) -> float:
        """Sample covariance of two measurements over units; NaN with fewer than two units."""
        n = self.units
        if n < 2:
            return math.nan
        i, j = self._column[one], self._column[other]
        return float(self.gram[i, j] - self.gram[0, i] * self.gram[0, j] / n) / (n - 1)

    def variance(self, terms: Terms) -> float:
        """Sample variance of a weighted sum over units."""
        return sum(a * b * self.covariance(i, j) for i, a in terms for j, b in terms)

    @cached_property
    def _column(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names, start=1)}


@dataclass(frozen=True)
class Metric:
    """A mean over units, or a ratio of two sums over units.

    Attributes:
        title: Name for readers.
        numerator, denominator: Measurements; without a denominator, the sum is divided by the number of units.
    """

    title: str
    numerator: str
    denominator: str | None = None
    more_is_better: bool = True


@dataclass(frozen=True)
class MetricValue:
    """A metric of one variant and its standard error; NaN if it can't be computed."""

    value: float
    error: float


def metric_value(metric: Metric, moments: Moments) -> MetricValue:
    """The metric of one variant. The error of a ratio is from the delta method (Deng et al. 2018, arXiv:1803.06336)."""
    value, terms = linearize(metric, moments)
    variance = moments.variance(terms)
    return MetricValue(value, math.sqrt(variance / moments.units) if variance >= 0 else math.nan)


def linearize(metric: Metric, moments: Moments) -> tuple[float, Terms]:
    """A metric's value, and a unit's contribution to it: (numerator − value · denominator) / mean(denominator)."""
    if metric.denominator is None:
        return moments.mean(metric.numerator), [(metric.numerator, 1.0)]
    mean = moments.mean(metric.denominator)
    if not mean > 0:
        return math.nan, [(metric.numerator, math.nan)]
    value = moments.mean(metric.numerator) / mean
    return value, [(metric.numerator, 1 / mean), (metric.denominator, -value / mean)]
