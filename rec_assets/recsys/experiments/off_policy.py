"""What a challenger would have got, worked out from answers that the champion gave with chance.

An answer is a sequence of places. What a shopper does at a place is taken to depend on what stands there and above, not
below (the cascade of McInerney et al. 2020, arXiv:2007.12986). So the weight of a place is the product, over the places
up to it, of how likely the challenger would have been to put in what stands there, over how likely the champion was.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.experiments.statistics import Metric, Moments, value_of

Array = npt.NDArray[np.float64]

LEAST_EFFECTIVE = 200.0
"""Effective answers under which nothing is estimated."""

LEAST_SUPPORT = 0.8
"""Share of the challenger's choices that the champion could have made, under which nothing is estimated."""

Z95 = 1.959963984540054


class InsufficientData(ValueError):
    """The log doesn't say enough of the challenger; the message says what is missing."""


@dataclass(frozen=True)
class LoggedAnswer:
    """An answer and what came of it, of its first K places.

    Attributes:
        unit: Whose.
        propensity: (K,) chance with which the champion put in what stands there, given what stands above.
        challenger: (K,) the same of the challenger.
        reward: (K,) what came of each place: 1 for a click.
        expected: (K,) reward that the model of rewards expects of what stands there.
        hoped: (K,) the same of what the challenger would put there, given what stands above: a mean by its chances.
        support: Chance that the challenger's first place is one that the champion could have chosen.
    """

    unit: str
    propensity: Array
    challenger: Array
    reward: Array
    expected: Array
    hoped: Array
    support: float


@dataclass(frozen=True)
class Estimate:
    """What the challenger's answers are worth, with the 95 % interval over units.

    Attributes:
        value, low, high: Reward an answer.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OffPolicy:
    """Estimates by three ways, and how much they rest on.

    Attributes:
        answers: That were looked at.
        effective: What they are worth for the challenger: (Σw)² / Σw² at the last place (Kish 1965).
        support: Share of the challenger's choices that the champion could have made.
        champion: What the answers got.
        estimates: "IPS", "SNIPS" and "doubly robust" → estimate.
    """

    answers: int
    effective: float
    support: float
    champion: Estimate
    estimates: Mapping[str, Estimate]


def off_policy(answers: Sequence[LoggedAnswer]) -> OffPolicy:
    """Estimate the challenger's reward an answer.

    IPS weighs what came of each place (Horvitz & Thompson 1952); SNIPS divides by the sum of the weights instead of
    the number of answers (Swaminathan & Joachims 2015); doubly robust takes the model's word for what the challenger
    would get, and weighs only what the model missed (Dudík et al. 2011).

    Raises:
        NotEnough: there are too few answers that the challenger might have given.
    """
    if not answers:
        raise InsufficientData("no answer was given with a known chance: let a variant's `exploration` be above 0")
    if any((each.propensity <= 0).any() for each in answers):
        raise InsufficientData("an answer was logged with a chance of 0: it can't have been given")
    units = np.array([each.unit for each in answers], object)
    reward, expected, hoped = (np.stack([getattr(each, name) for each in answers]) for name in _OF_PLACES)
    weight = np.stack([np.cumprod(each.challenger / each.propensity) for each in answers])
    before = np.column_stack([np.ones(len(answers)), weight[:, :-1]])
    effective = _effective(weight[:, -1])
    support = float(np.mean([each.support for each in answers]))
    if support < LEAST_SUPPORT:
        raise InsufficientData(
            f"{1 - support:.0%} of what the other model would show could not have been logged: the answers say nothing "
            "of that. Compare them online, or explore more"
        )
    if effective < LEAST_EFFECTIVE:
        raise InsufficientData(
            f"{len(answers):,} answers are worth {effective:,.0f} of the other model's, and {LEAST_EFFECTIVE:,.0f} are "
            "the least: log more, look at fewer places, or explore more"
        )
    return OffPolicy(
        answers=len(answers),
        effective=effective,
        support=support,
        champion=_ratio(units, reward.sum(axis=1), np.ones(len(answers))),
        estimates={
            "IPS": _ratio(units, (weight * reward).sum(axis=1), np.ones(len(answers))),
            "SNIPS": _self_normalized(units, weight, reward),
            "doubly robust": _ratio(
                units, (before * hoped + weight * (reward - expected)).sum(axis=1), np.ones(len(answers))
            ),
        },
    )


_OF_PLACES = ("reward", "expected", "hoped")


def _effective(weight: Array) -> float:
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def _ratio(units: npt.NDArray[np.object_], of: Array, over: Array) -> Estimate:
    """Σ of / Σ over, with an interval by the delta method over units: a unit's answers are not independent."""
    sums = pd.DataFrame({"of": of, "over": over}).groupby(units).sum()
    found = value_of(Metric("", "of", "over"), Moments.of(sums))
    reach = Z95 * found.error
    return Estimate(found.value, found.value - reach, found.value + reach)


def _self_normalized(units: npt.NDArray[np.object_], weight: Array, reward: Array) -> Estimate:
    """The sum over places of weighted means; the interval by what each unit adds to their sum, near it."""
    total = weight.sum(axis=0)
    means = (weight * reward).sum(axis=0) / total
    parts = (weight * (reward - means) / total).sum(axis=1)
    spread = pd.Series(parts).groupby(units).sum()
    n = len(spread)
    error = math.sqrt(float((spread**2).sum()) * n / max(n - 1, 1))
    return Estimate(float(means.sum()), float(means.sum()) - Z95 * error, float(means.sum()) + Z95 * error)


def rewards_expected(
    reward: Array, kind: npt.NDArray[np.int64], units: npt.NDArray[np.object_], kinds: int
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """A model of rewards: the mean of each place and kind of product, learned from the other half of the units.

    So that no answer is foretold by itself (cross-fitting: Chernozhukov et al. 2018).

    Args:
        reward: (n, K).
        kind: (n, K) of what stands there, from 0.
        units: (n,) whose answer it is.
        kinds: How many kinds there are.

    Returns:
        (2, K, kinds): the expected reward, for answers of the first half and of the second; and (n,) in which an
        answer is.
    """
    half = np.array([hashlib.sha256(unit.encode()).digest()[0] % 2 for unit in units], bool)
    places = reward.shape[1]
    found = np.zeros((2, places, kinds))
    for which in (0, 1):
        others = half != bool(which)
        for place in range(places):
            rewards, of = reward[others, place], kind[others, place]
            mean = float(rewards.mean()) if len(rewards) else 0.0
            sums, counts = np.bincount(of, rewards, kinds), np.bincount(of, minlength=kinds)
            found[which, place] = (sums + _PRIOR_ANSWERS * mean) / (counts + _PRIOR_ANSWERS)
    return found, half


_PRIOR_ANSWERS = 20.0
"""Answers that the mean of a place counts for beside those of a kind."""
