"""Orders in which chance has a say: how it draws them, and how likely what it drew was."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_LEAST_SCORE = 1e-9


def plackett_luce_weights(score: npt.ArrayLike, exploration: float) -> Array:
    """(n,) weights of products in a draw without replacement: score ** (1 / exploration), the greatest 1.

    The less exploration, the nearer is the draw to the order of the scores (Plackett 1975; Luce 1959).
    """
    logs = np.log(np.maximum(np.asarray(score, np.float64), _LEAST_SCORE)) / exploration
    return np.maximum(np.exp(logs - logs.max(initial=-np.inf)), np.finfo(np.float64).tiny)


def conditional_propensities(weight: Array) -> Array:
    """(n,) chance of each product to be drawn at its place, given those before it, of weights in the order drawn."""
    left = np.cumsum(weight[::-1])[::-1]
    return np.asarray(weight / left)
