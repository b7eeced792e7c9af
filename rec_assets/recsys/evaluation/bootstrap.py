"""Bootstrap confidence intervals over customers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Resampling works on blocks of this many (resample × customer) cells: 32 MiB of float64.
_BLOCK_CELLS = 4_194_304


class Interval(NamedTuple):
    """A mean and its confidence interval, each a scalar or (columns,)."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bootstrap_interval(values: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int) -> Interval:
    """The mean over customers with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Customers are resampled, not purchases, because the purchases of a customer are not independent. All columns use the
    same resamples, so the intervals of several models or metrics are comparable.

    Args:
        values: (customers,) or (customers, columns).
        level: Confidence level.

    Raises:
        ValueError: There are no customers.

    >>> mean, low, high = bootstrap_interval([0, 1, 1, 0, 1, 0, 1, 0], seed=1)
    >>> f"{mean:.3f}, {low:.3f} to {high:.3f}"
    '0.500, 0.125 to 0.875'
    """
    table = np.asarray(values, dtype=np.float64)
    customers = len(table)
    if customers == 0:
        raise ValueError("a mean needs at least one customer")
    columns = table.reshape(customers, -1)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    block = max(1, _BLOCK_CELLS // customers)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(customers, size=(rows, customers)) + np.arange(rows)[:, None] * customers
        weights = np.bincount(drawn.ravel(), minlength=rows * customers).reshape(rows, customers)
        means[start : start + rows] = weights.astype(np.float64) @ columns / customers
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    shape = table.shape[1:]
    return Interval(columns.mean(axis=0).reshape(shape), low.reshape(shape), high.reshape(shape))


def paired_bootstrap_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """The mean of `a − b` over the same customers, with its percentile bootstrap interval.

    Much narrower than a comparison of two separate intervals, because the values of a customer are correlated between
    models. If the interval excludes 0, the difference is significant.

    Args:
        a: (customers,) or (customers, columns) values of one model.
        b: Values of the other model for the same customers in the same order; must broadcast to `a`.

    Raises:
        ValueError: There are no customers, or the numbers of customers differ.

    >>> mean, low, high = paired_bootstrap_difference([0.5, 0.7, 0.2], [0.4, 0.6, 0.1], seed=1)
    >>> f"{mean:.2f}, {low:.2f} to {high:.2f}"
    '0.10, 0.10 to 0.10'
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(first) != len(second):
        raise ValueError(f"the numbers of customers differ: {len(first)} and {len(second)}")
    return bootstrap_interval(first - second, resamples=resamples, level=level, seed=seed)
