"""What two variants' numbers say: effects with intervals, tests that may be looked at every day, and power.

Everything here rests on `Moments`: sums over units, and sums of their products. They add up, so that they can be made
in Spark's tasks, and nothing that is compared grows with customers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import gammaln

Array = npt.NDArray[np.float64]

POWER = 0.8
"""Chance with which a minimal detectable effect would be seen."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the units (customers, sessions) of one variant.

    Attributes:
        names: Of p numbers that each unit has.
        gram: (p + 1, p + 1) sums of the products of two of them; the first row and column are of a constant 1.
    """

    names: tuple[str, ...]
    gram: Array

    @classmethod
    def of(cls, units: pd.DataFrame) -> Moments:
        """Of a frame with a row a unit and a column a number."""
        values = np.column_stack([np.ones(len(units)), units.to_numpy(float)])
        return cls(tuple(str(name) for name in units.columns), values.T @ values)

    def __add__(self, other: Moments) -> Moments:
        """Of both together: other units, the same numbers."""
        if self.names != other.names:
            raise ValueError(f"{', '.join(self.names)} and {', '.join(other.names)} can't be added")
        return Moments(self.names, self.gram + other.gram)

    @property
    def units(self) -> int:
        """How many units."""
        return round(float(self.gram[0, 0]))

    def total(self, name: str) -> float:
        """Sum of a number."""
        return float(self.gram[0, self._place[name]])

    def mean(self, name: str) -> float:
        """Mean of a number over units."""
        return self.total(name) / self.units if self.units else math.nan

    def covariance(self, one: str, other: str) -> float:
        """Sample covariance of two numbers over units; NaN with fewer than two."""
        n = self.units
        if n < 2:
            return math.nan
        i, j = self._place[one], self._place[other]
        return float(self.gram[i, j] - self.gram[0, i] * self.gram[0, j] / n) / (n - 1)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names, start=1)}


@dataclass(frozen=True)
class Metric:
    """A mean over units, or a ratio of two sums over them.

    Attributes:
        title: What it is called.
        of: The number that is summed.
        over: By what it is divided; None: by the units.
        more_is_better: Which way is up.
    """

    title: str
    of: str
    over: str | None = None
    more_is_better: bool = True


@dataclass(frozen=True)
class Value:
    """A metric of one variant and its standard error; NaN where it can't be told."""

    value: float
    error: float


@dataclass(frozen=True)
class Effect:
    """A variant beside the control, by one metric.

    Attributes:
        control, treatment: The metric of each, as it is.
        difference: Of the two, and its standard error, adjusted by CUPED where there is a covariate.
        low, high: Interval for one look, at the end.
        always_low, always_high: Interval that holds at all looks together.
        p_value: Of no difference, for one look; two-sided.
        always_p_value: The same, for any number of looks.
        variance_saved: Share of the difference's variance that the covariate took away.
    """

    control: Value
    treatment: Value
    difference: Value
    low: float
    high: float
    always_low: float
    always_high: float
    p_value: float
    always_p_value: float
    variance_saved: float

    @classmethod
    def of(
        cls,
        control: Value,
        treatment: Value,
        difference: Value,
        *,
        tau: float,
        alpha: float,
        variance_saved: float = 0.0,
    ) -> Effect:
        """With the intervals and p-values that go with a difference; `tau` and `alpha` as in `always_valid_radius`."""
        value, error = difference.value, difference.error
        reach, always = float(stats.norm.isf(alpha / 2)) * error, always_valid_radius(error, tau, alpha)
        return cls(
            control=control,
            treatment=treatment,
            difference=difference,
            low=value - reach,
            high=value + reach,
            always_low=value - always,
            always_high=value + always,
            p_value=float(2 * stats.norm.sf(abs(value) / error)) if error > 0 else math.nan,
            always_p_value=always_valid_p_value(value, error, tau),
            variance_saved=variance_saved,
        )

    def relative(self, value: float) -> float:
        """A difference as a share of the control's value."""
        return value / abs(self.control.value) if self.control.value else math.nan


def value_of(metric: Metric, moments: Moments) -> Value:
    """The metric of one variant. The error of a ratio is the delta method's (Deng et al. 2018, arXiv:1803.06336)."""
    value, parts = _linear(metric, moments)
    variance = _variance(moments, parts)
    return Value(value, math.sqrt(variance / moments.units) if variance >= 0 else math.nan)


def effect_of(
    metric: Metric,
    control: Moments,
    treatment: Moments,
    *,
    covariate: str | None = None,
    minimal_effect: float = 0.05,
    alpha: float = 0.05,
) -> Effect:
    r"""How much a variant differs from the control.

    With a covariate x that was known before the experiment, CUPED (Deng et al. 2013) takes from each unit's part in
    the metric what x foretells of it: the difference becomes Δ − θ (x̄₁ − x̄₀), θ = cov(part, x) / var(x) over both.

    The interval for all looks together is that of a mixture sequential probability ratio test (Robbins 1970; Johari et
    al. 2017, arXiv:1512.04922): with V the variance of the difference and τ² of a normal mixture,
    √(2 V (V + τ²) / τ² · (ln 1/α + ½ ln((V + τ²) / V))) to either side. It is narrowest about where √V is a third of
    τ, which is when an effect of τ can be seen with the usual power, so τ is the minimal effect.

    Args:
        metric: What is compared.
        control, treatment: Sums of each variant.
        covariate: A number of units from before the experiment.
        minimal_effect: Relative change of the control's value that the experiment is planned for.
        alpha: Level of both intervals, two-sided.
    """
    both = (control, treatment)
    values, parts = zip(*(_linear(metric, each) for each in both), strict=True)
    difference, theta = values[1] - values[0], 0.0
    if covariate is not None:
        theta = _theta(parts, both, covariate)
        difference -= theta * (treatment.mean(covariate) - control.mean(covariate)) if theta else 0.0
    plain, adjusted = (
        sum(_variance(each, [*part, *more]) / max(each.units, 1) for part, each in zip(parts, both, strict=True))
        for more in ([], [(covariate, -theta)] if covariate is not None and theta else [])
    )
    return Effect.of(
        value_of(metric, control),
        value_of(metric, treatment),
        Value(difference, math.sqrt(adjusted) if adjusted >= 0 else math.nan),
        tau=minimal_effect * abs(values[0]),
        alpha=alpha,
        variance_saved=1 - adjusted / plain if plain > 0 else 0.0,
    )


def always_valid_radius(error: float, tau: float, alpha: float) -> float:
    """Half the length of the interval that holds at all looks together; see `effect_of`. NaN where it can't be told."""
    if not (error > 0 and tau > 0):
        return math.nan
    v, t = error**2, tau**2
    return math.sqrt(2 * v * (v + t) / t * (math.log(1 / alpha) + 0.5 * math.log((v + t) / v)))


def always_valid_p_value(difference: float, error: float, tau: float) -> float:
    """The least level at which the interval for all looks, as it is now, leaves out 0; NaN where it can't be told."""
    if not (error > 0 and tau > 0):
        return math.nan
    v, t = error**2, tau**2
    evidence = difference**2 * t / (2 * v * (v + t)) - 0.5 * math.log((v + t) / v)
    return min(1.0, math.exp(-evidence))


@dataclass(frozen=True)
class SampleRatio:
    """Whether variants have as many units as they should.

    Attributes:
        found: Units by variant.
        expected: The same by their shares.
        p_value: Of the χ² test, for one look.
        always_p_value: For any number of looks.
    """

    found: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float
    always_p_value: float


def sample_ratio(found: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    """Units found beside the shares they were to have.

    For all looks together: the Bayes factor of a Dirichlet prior about the shares against the shares themselves
    (Lindon & Malek 2022, arXiv:2011.03567), whose inverse is a p-value that may be looked at after each unit.

    Args:
        found: Units by variant.
        shares: Of traffic, by variant; those of an experiment that takes part of the traffic needn't sum to 1.
    """
    names = list(shares)
    counts = np.array([found.get(name, 0) for name in names], float)
    theta = np.array([shares[name] for name in names], float)
    theta = theta / theta.sum()
    total = counts.sum()
    expected = dict(zip(names, (theta * total).tolist(), strict=True))
    if not total:
        return SampleRatio(dict.fromkeys(names, 0), expected, 1.0, 1.0)
    prior = _PRIOR_UNITS * theta
    log_factor = (
        gammaln(prior.sum()) - gammaln(prior.sum() + total) + (gammaln(prior + counts) - gammaln(prior)).sum()
        - (counts * np.log(theta)).sum()
    )  # fmt: skip
    return SampleRatio(
        {name: int(count) for name, count in zip(names, counts, strict=True)},
        expected,
        float(stats.chisquare(counts, theta * total).pvalue),
        float(min(1.0, math.exp(-min(log_factor, 700.0)))),
    )


_PRIOR_UNITS = 100.0
"""Weight of the prior of `sample_ratio` in units: it looks hardest for shares that are off by a twentieth or so."""


def detectable_effect(error: float, tau: float, alpha: float = 0.05, power: float = POWER) -> float:
    """The difference that this very look would find with this power, by the interval for all looks.

    Args:
        error: Standard error of the difference.
        tau, alpha: Of the interval, see `always_valid_radius`.
        power: Chance of finding it.
    """
    return always_valid_radius(error, tau, alpha) + float(stats.norm.isf(1 - power)) * error


def days_needed(error: float, days: float, tau: float, alpha: float = 0.05, power: float = POWER) -> float:
    """Days in all until a difference of tau would be found with this power, if units keep coming as they did.

    Args:
        error: Standard error of the difference after so many days.
        days: Days so far.
        tau, alpha, power: See `detectable_effect`.
    """
    if not (error > 0 and tau > 0):
        return math.nan
    # Of errors as shares of tau: what can be seen falls with the error, to nothing.
    enough = brentq(lambda share: detectable_effect(share, 1.0, alpha, power) - 1.0, 1e-6, 1.0)
    return days * (error / (enough * tau)) ** 2


@dataclass(frozen=True)
class Harm:
    """How much worse a variant is than a guard rail allows, as a share of the control's value: above 0 is too much.

    Attributes:
        value: As it is.
        low, high: Interval that holds at all looks together.
    """

    value: float
    low: float
    high: float


def harm_of(metric: Metric, control: Moments, treatment: Moments, limit: float, alpha: float = 0.05) -> Harm:
    """A variant beside a guard rail: a change for the worse by more than `limit` of the control's value.

    The control's value is not known for sure either: what is looked at is ±(treatment − control) − limit · control,
    with the variance of that.
    """
    one, other = value_of(metric, control), value_of(metric, treatment)
    sign = -1.0 if metric.more_is_better else 1.0
    allowed = (sign + limit) * one.value
    error = math.sqrt(other.error**2 + ((sign + limit) * one.error) ** 2)
    scale = abs(one.value) or math.nan
    value, reach = sign * other.value - allowed, always_valid_radius(error, limit * abs(one.value), alpha)
    return Harm(value / scale, (value - reach) / scale, (value + reach) / scale)


Parts = list[tuple[str, float]]
"""Numbers of a unit and their weights in a sum."""


def _linear(metric: Metric, moments: Moments) -> tuple[float, Parts]:
    """A metric's value, and what units add to it near there: (of − value · over) / mean(over)."""
    if metric.over is None:
        return moments.mean(metric.of), [(metric.of, 1.0)]
    over = moments.mean(metric.over)
    if not over > 0:
        return math.nan, [(metric.of, math.nan)]
    value = moments.mean(metric.of) / over
    return value, [(metric.of, 1 / over), (metric.over, -value / over)]


def _variance(moments: Moments, parts: Parts) -> float:
    """Of the sum, over units."""
    return sum(a * b * moments.covariance(i, j) for i, a in parts for j, b in parts)


def _theta(parts: Sequence[Parts], both: Sequence[Moments], covariate: str) -> float:
    """What a unit of the covariate foretells of a unit's part; 0 where nothing can be foretold.

    Of all, the one with which the difference's variance is least, whatever the variants' shares.
    """
    shared = spread = 0.0
    for part, each in zip(parts, both, strict=True):
        shared += sum(weight * each.covariance(name, covariate) for name, weight in part) / max(each.units, 1)
        spread += each.covariance(covariate, covariate) / max(each.units, 1)
    return shared / spread if spread > 0 and math.isfinite(shared) else 0.0
