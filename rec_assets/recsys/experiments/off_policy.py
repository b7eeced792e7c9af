"""Off-policy evaluation: estimate a target model's reward from the logged randomized rankings of the logged model.

A response is a ranked list. The model assumes a cascade: what a shopper does at a rank depends on the items at this
rank and above, not below (McInerney et al. 2020, arXiv:2007.12986). So the weight of a rank is the product, over the
ranks up to it, of the target model's propensity of the item divided by the logged model's propensity.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.experiments.moments import Metric, Moments, metric_value

Array = npt.NDArray[np.float64]

MIN_EFFECTIVE_RESPONSES = 200.0
"""Effective sample size from which estimates are made."""

MIN_SUPPORT = 0.8
"""Share of the target model's choices that the logged model could have made, from which estimates are made."""

_Z_95 = 1.959963984540054

_PRIOR_RESPONSES = 20.0
"""Weight of a rank's mean reward in the mean of a product group, in responses."""


class InsufficientData(ValueError):
    """The log is not enough to evaluate the target model; the message says what is missing."""


@dataclass(frozen=True)
class LoggedResponse:
    """The first K ranks of a response and their rewards.

    Attributes:
        propensity: (K,) probability with which the logged model chose the item, given the items above.
        target_propensity: (K,) the same for the target model.
        reward: (K,) reward of each rank: 1 for a click.
        expected: (K,) reward of the item that the reward model predicts.
        target_expected: (K,) predicted reward of the target model's choice, given the items above: a mean over its
            propensities.
        support: Probability that the target model's first item is one that the logged model could have chosen.
    """

    unit: str
    propensity: Array
    target_propensity: Array
    reward: Array
    expected: Array
    target_expected: Array
    support: float


@dataclass(frozen=True)
class Estimate:
    """Mean reward of a response, with the 95% interval over units."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicyResult:
    """The target model's estimated reward by three estimators.

    Attributes:
        effective_responses: Effective sample size for the target model: (Σw)² / Σw² at the last rank (Kish 1965).
        support: Share of the target model's choices that the logged model could have made.
        logged: Reward of the logged responses.
        estimates: "IPS", "SNIPS" and "doubly robust" → estimate.
    """

    responses: int
    effective_responses: float
    support: float
    logged: Estimate
    estimates: Mapping[str, Estimate]


def estimate_off_policy(responses: Sequence[LoggedResponse]) -> OffPolicyResult:
    """Estimate the target model's mean reward of a response.

    IPS weights the reward of each rank (Horvitz & Thompson 1952). SNIPS divides by the sum of the weights instead of
    the number of responses (Swaminathan & Joachims 2015). Doubly robust uses the reward model for the target model's
    choices, and weights only the errors of this model (Dudík et al. 2011).

    Raises:
        InsufficientData: There are too few responses that the target model could have given.
    """
    if not responses:
        raise InsufficientData("no response has a known propensity: set `exploration` of a variant above 0")
    if any((response.propensity <= 0).any() for response in responses):
        raise InsufficientData("a response was logged with a propensity of 0, which is impossible")
    units = np.array([response.unit for response in responses], object)
    reward, expected, target_expected = (
        np.stack([getattr(response, name) for response in responses])
        for name in ("reward", "expected", "target_expected")
    )
    weight = np.stack([np.cumprod(response.target_propensity / response.propensity) for response in responses])
    ones = np.ones(len(responses))
    above = np.column_stack([ones, weight[:, :-1]])
    squares = float((weight[:, -1] ** 2).sum())
    effective = float(weight[:, -1].sum()) ** 2 / squares if squares else 0.0
    support = float(np.mean([response.support for response in responses]))
    if support < MIN_SUPPORT:
        raise InsufficientData(
            f"the logged model could not have shown {1 - support:.0%} of what the other model would show, so the log "
            "can't evaluate it. Compare the models in an experiment, or set a higher exploration"
        )
    if effective < MIN_EFFECTIVE_RESPONSES:
        raise InsufficientData(
            f"{len(responses):,} responses have an effective sample size of {effective:,.0f} for the other model; at "
            f"least {MIN_EFFECTIVE_RESPONSES:,.0f} are needed: log more, use fewer ranks, or set a higher exploration"
        )
    robust = (above * target_expected + weight * (reward - expected)).sum(axis=1)
    return OffPolicyResult(
        responses=len(responses),
        effective_responses=effective,
        support=support,
        logged=_ratio(units, reward.sum(axis=1), ones),
        estimates={
            "IPS": _ratio(units, (weight * reward).sum(axis=1), ones),
            "SNIPS": _self_normalized(units, weight, reward),
            "doubly robust": _ratio(units, robust, ones),
        },
    )


def _ratio(units: npt.NDArray[np.object_], numerator: Array, denominator: Array) -> Estimate:
    """Σ numerator / Σ denominator, with a delta-method interval over units: responses of a unit are not independent."""
    sums = pd.DataFrame({"numerator": numerator, "denominator": denominator}).groupby(units).sum()
    mean = metric_value(Metric("", "numerator", "denominator"), Moments.from_units(sums))
    radius = _Z_95 * mean.error
    return Estimate(mean.value, mean.value - radius, mean.value + radius)


def _self_normalized(units: npt.NDArray[np.object_], weight: Array, reward: Array) -> Estimate:
    """Sum over ranks of weighted means; the interval comes from each unit's linear contribution to this sum."""
    total = weight.sum(axis=0)
    means = (weight * reward).sum(axis=0) / total
    parts = (weight * (reward - means) / total).sum(axis=1)
    spread = pd.Series(parts).groupby(units).sum()
    n, value = len(spread), float(means.sum())
    error = math.sqrt(float((spread**2).sum()) * n / max(n - 1, 1))
    return Estimate(value, value - _Z_95 * error, value + _Z_95 * error)


def fit_reward_model(
    reward: Array, group: npt.NDArray[np.int64], units: npt.NDArray[np.object_], groups: int
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """A reward model: the mean reward of each rank and product group, learned from the other half of the units.

    Cross-fitting (Chernozhukov et al. 2018): no response is predicted from itself.

    Args:
        reward, group: (n, K) reward and product group (from 0) of each item.
        units: (n,) the unit of each response.
        groups: Number of groups.

    Returns:
        (2, K, groups) expected rewards for responses of each half, and (n,) the half of each response.
    """
    half = np.array([hashlib.sha256(unit.encode()).digest()[0] % 2 for unit in units], bool)
    expected = np.zeros((2, reward.shape[1], groups))
    for which in (0, 1):
        others = half != bool(which)
        for rank in range(reward.shape[1]):
            rewards, members = reward[others, rank], group[others, rank]
            mean = float(rewards.mean()) if len(rewards) else 0.0
            sums, counts = np.bincount(members, rewards, groups), np.bincount(members, minlength=groups)
            expected[which, rank] = (sums + _PRIOR_RESPONSES * mean) / (counts + _PRIOR_RESPONSES)
    return expected, half
