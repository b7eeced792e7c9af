"""Sample ratio mismatch: a test whether the variants have as many units as their shares imply."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import gammaln

_PRIOR_UNITS = 100.0
"""Weight of the prior in units. The test is most sensitive to shares that are off by about 5%."""


@dataclass(frozen=True)
class SampleRatio:
    """Units of each variant compared with the shares.

    Attributes:
        units, expected: Units by variant: counted, and as the shares imply.
        p_value: Of the χ² test, for one look at a fixed end.
        always_p_value: Always valid: holds for any number of looks.
    """

    units: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float
    always_p_value: float


def sample_ratio(units: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    """Compare the units of each variant with the shares.

    The always-valid p-value is the inverse of a Bayes factor: a Dirichlet prior around the shares against the shares
    themselves (Lindon & Malek 2022, arXiv:2011.03567). It is valid after each unit. Shares can sum to less than 1.
    """
    counted = {name: units.get(name, 0) for name in shares}
    counts, share = np.array([*counted.values()], float), np.array([*shares.values()], float)
    share = share / share.sum()
    total = counts.sum()
    expected = dict(zip(shares, (share * total).tolist(), strict=True))
    if not total:
        return SampleRatio(counted, expected, 1.0, 1.0)
    prior = _PRIOR_UNITS * share
    log_bayes_factor = (
        gammaln(prior.sum()) - gammaln(prior.sum() + total) + (gammaln(prior + counts) - gammaln(prior)).sum()
        - (counts * np.log(share)).sum()
    )  # fmt: skip
    p_value = float(stats.chisquare(counts, share * total).pvalue)
    return SampleRatio(counted, expected, p_value, float(min(1.0, math.exp(-min(log_bayes_factor, 700.0)))))
