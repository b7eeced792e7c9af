"""Randomized rankings: the sampling weights of products, and the propensities of a sampled order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_MIN_SCORE = 1e-9


def plackett_luce_weights(score: npt.ArrayLike, exploration: float) -> Array:
    """(n,) weights for sampling without replacement: score ** (1 / exploration), scaled to a maximum of 1.

    The lower the exploration, the closer the sampled order is to the order of the scores (Plackett 1975; Luce 1959).
    """
    logs = np.log(np.maximum(np.asarray(score, np.float64), _MIN_SCORE)) / exploration
    return np.maximum(np.exp(logs - logs.max(initial=-np.inf)), np.finfo(np.float64).tiny)


def conditional_propensities(weight: Array) -> Array:
    """(n,) probability of each product at its rank, given the products above it; `weight` is in the sampled order."""
    left = np.cumsum(weight[::-1])[::-1]
    return np.asarray(weight / left)
