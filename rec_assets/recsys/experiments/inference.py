"""Effects of a variant compared with the control: intervals, always-valid tests, guardrails and power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats
from scipy.optimize import brentq

from rec_assets.recsys.experiments.moments import Metric, MetricValue, Moments, Terms, linearize, metric_value

POWER = 0.8
"""Probability of detecting the minimum detectable effect."""


@dataclass(frozen=True)
class Effect:
    """A variant compared with the control, in one metric.

    Attributes:
        control, treatment: The metric of each.
        difference: Treatment − control and its standard error, adjusted by CUPED if there is a covariate.
        low, high: Interval for one look at a fixed end.
        always_low, always_high: Always-valid interval: holds for all looks together.
        p_value: Of no difference, two-sided, for one look at a fixed end.
        always_p_value: The same, always valid.
        variance_reduction: Share of the difference's variance that the covariate removed.
    """

    control: MetricValue
    treatment: MetricValue
    difference: MetricValue
    low: float
    high: float
    always_low: float
    always_high: float
    p_value: float
    always_p_value: float
    variance_reduction: float

    @classmethod
    def from_difference(
        cls, control: MetricValue, treatment: MetricValue, difference: MetricValue, *, planned: float, level: float,
        variance_reduction: float = 0,
    ) -> Effect:  # fmt: skip
        """Add intervals and p-values to a difference; see `always_valid_radius` for `planned` and `level`."""
        value, error = difference.value, difference.error
        radius, always = float(stats.norm.isf(level / 2)) * error, always_valid_radius(error, planned, level)
        p_value = float(2 * stats.norm.sf(abs(value) / error)) if error > 0 else math.nan
        return cls(
            control, treatment, difference, low=value - radius, high=value + radius, always_low=value - always,
            always_high=value + always, p_value=p_value, always_p_value=always_valid_p_value(value, error, planned),
            variance_reduction=variance_reduction,
        )  # fmt: skip

    def relative(self, value: float) -> float:
        """A difference as a share of the control's value."""
        return value / abs(self.control.value) if self.control.value else math.nan


def estimate_effect(
    metric: Metric,
    control: Moments,
    treatment: Moments,
    *,
    covariate: str | None = None,
    minimum_detectable_effect: float = 0.05,
    level: float = 0.05,
) -> Effect:
    r"""Estimate the difference between a variant and the control.

    With a covariate x from before the experiment, CUPED (Deng et al. 2013) removes from each unit's contribution the
    part that x predicts. The difference becomes Δ − θ (x̄₁ − x̄₀) with θ = cov(contribution, x) / var(x) over both
    variants.

    The always-valid interval is that of a mixture sequential probability ratio test (Robbins 1970; Johari et al. 2017,
    arXiv:1512.04922). With V the variance of the difference and τ² the variance of a normal mixture, its radius is
    √(2 V (V + τ²) / τ² · (ln 1/α + ½ ln((V + τ²) / V))). It is narrowest when √V is about a third of τ. At that point
    a difference of τ can be detected with the usual power, so τ is the planned difference: the minimum detectable
    effect times the control's value. α is the significance level.

    Args:
        metric: The metric to compare.
        control, treatment: Sums over the units of each variant.
        covariate: A measurement of units from before the experiment.
        minimum_detectable_effect: Relative change of the control's value that the experiment is planned for.
        level: Two-sided significance level of both intervals.
    """
    both = (control, treatment)
    values, terms = zip(*(linearize(metric, moments) for moments in both), strict=True)
    difference, theta = values[1] - values[0], 0.0
    if covariate is not None:
        theta = _cuped_theta(terms, both, covariate)
        difference -= theta * (treatment.mean(covariate) - control.mean(covariate)) if theta else 0.0
    plain, adjusted = (
        sum(moments.variance([*term, *more]) / max(moments.units, 1) for term, moments in zip(terms, both, strict=True))
        for more in ([], [(covariate, -theta)] if covariate is not None and theta else [])
    )
    return Effect.from_difference(
        metric_value(metric, control),
        metric_value(metric, treatment),
        MetricValue(difference, math.sqrt(adjusted) if adjusted >= 0 else math.nan),
        planned=minimum_detectable_effect * abs(values[0]),
        level=level,
        variance_reduction=1 - adjusted / plain if plain > 0 else 0.0,
    )


def always_valid_radius(error: float, planned: float, level: float) -> float:
    """Half the width of the always-valid interval, see `estimate_effect`; NaN if it can't be computed.

    Args:
        error: Standard error of the difference.
        planned: The difference that the experiment is planned for (τ).
        level: Two-sided significance level (α).
    """
    if not (error > 0 and planned > 0):
        return math.nan
    v, t = error**2, planned**2
    return math.sqrt(2 * v * (v + t) / t * (math.log(1 / level) + 0.5 * math.log((v + t) / v)))


def always_valid_p_value(difference: float, error: float, planned: float) -> float:
    """The lowest level at which the current always-valid interval excludes 0; NaN if it can't be computed."""
    if not (error > 0 and planned > 0):
        return math.nan
    v, t = error**2, planned**2
    evidence = difference**2 * t / (2 * v * (v + t)) - 0.5 * math.log((v + t) / v)
    return min(1.0, math.exp(-evidence))


def detectable_effect(error: float, planned: float, level: float = 0.05) -> float:
    """The difference that the always-valid interval would detect now with the probability POWER."""
    return always_valid_radius(error, planned, level) + float(stats.norm.isf(1 - POWER)) * error


def days_needed(error: float, days: float, planned: float, level: float = 0.05) -> float:
    """Total days until the planned difference is detected, if `error` is the standard error after `days` days."""
    if not (error > 0 and planned > 0):
        return math.nan
    # With errors as shares of the planned difference, the detectable effect falls with the error, down to 0.
    enough = brentq(lambda share: detectable_effect(share, 1.0, level) - 1.0, 1e-6, 1.0)
    return days * (error / (enough * planned)) ** 2


@dataclass(frozen=True)
class GuardrailExcess:
    """By how much a variant exceeds a guardrail limit, as a share of the control's value; above 0 breaks the guardrail.

    `low` and `high` are the always-valid interval.
    """

    value: float
    low: float
    high: float


def guardrail_excess(
    metric: Metric, control: Moments, treatment: Moments, limit: float, level: float = 0.05
) -> GuardrailExcess:
    """Compare a change for the worse with `limit`, a share of the control's value.

    The control's value is uncertain too, so the statistic is ±(treatment − control) − limit · control, with its
    variance.
    """
    base, changed = metric_value(metric, control), metric_value(metric, treatment)
    sign = -1.0 if metric.more_is_better else 1.0
    allowed = (sign + limit) * base.value
    error = math.sqrt(changed.error**2 + ((sign + limit) * base.error) ** 2)
    scale = abs(base.value) or math.nan
    value, radius = sign * changed.value - allowed, always_valid_radius(error, limit * abs(base.value), level)
    return GuardrailExcess(value / scale, (value - radius) / scale, (value + radius) / scale)


def _cuped_theta(terms: Sequence[Terms], both: Sequence[Moments], covariate: str) -> float:
    """The θ that minimizes the variance of the difference, for any sizes; 0 if the covariate is constant."""
    shared = spread = 0.0
    for term, moments in zip(terms, both, strict=True):
        shared += sum(weight * moments.covariance(name, covariate) for name, weight in term) / max(moments.units, 1)
        spread += moments.covariance(covariate, covariate) / max(moments.units, 1)
    return shared / spread if spread > 0 and math.isfinite(shared) else 0.0
