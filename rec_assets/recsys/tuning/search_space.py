"""The search space of tuning: hyper-parameters and their bounds.

`study` searches it; `evaluation.backtest` evaluates each recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rec_assets.recsys.recipe import Recipe

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Range:
    """Range of one hyper-parameter, including both ends; integers only if both are integers."""

    low: float
    high: float
    log: bool = False
    """Whether to sample on a logarithmic scale."""

    @property
    def is_integer(self) -> bool:
        """Whether the hyper-parameter is an integer."""
        return isinstance(self.low, int) and isinstance(self.high, int)


SPACE: Mapping[str, Range] = {
    "als.rank": Range(16, 96, log=True),
    "als.alpha": Range(0.5, 40.0, log=True),
    "als.regularization": Range(0.002, 0.5, log=True),
    "als.implicit_regularization": Range(2.0, 50.0, log=True),
    "als.half_life_days": Range(5.0, 365.0, log=True),
    "co_purchase.half_life_days": Range(30.0, 365.0, log=True),
    "co_purchase.popularity_damping": Range(0.0, 1.0),
    "co_purchase.anchor_damping": Range(0.0, 1.0),
    "co_purchase.next_orders": Range(1, 5),
    "co_purchase.ease_regularization": Range(30.0, 3000.0, log=True),
    "candidates.profile_half_life_days": Range(10.0, 365.0, log=True),
    "candidates.profile_order_decay": Range(0.5, 1.0),
    "ranker.learning_rate": Range(0.02, 0.2, log=True),
    "ranker.rounds": Range(100, 600, log=True),
    "ranker.max_depth": Range(3, 9),
    "ranker.min_child_weight": Range(1.0, 100.0, log=True),
    "ranker.l2": Range(0.5, 50.0, log=True),
    "ranker.subsample": Range(0.5, 1.0),
    "ranker.column_sample": Range(0.3, 1.0),
}
"""Dotted name of a recipe field → range."""

UNUSED = {"spark": "als.implicit_regularization", "implicit": "als.regularization"}
"""ALS solver → the regularization that it does not use."""

PARTS = tuple(dict.fromkeys(name.split(".")[0] for name in SPACE))


def space_around(
    base: Recipe, *, parts: Iterable[str] = PARTS, fixed: Iterable[str] = (), space: Mapping[str, Range] = SPACE
) -> dict[str, Range]:
    """The part of the space to search, with ranges extended to include the values of the active recipe.

    Only the regularization of the active ALS solver is searched.

    Args:
        parts: The PARTS of the recipe to search.
        fixed: Dotted names that keep their value.

    Raises:
        ValueError: A part is unknown, or nothing is left to search.
    """
    searched, constant = set(parts), {*fixed, UNUSED[base.als.solver]}
    if unknown := searched - {name.split(".")[0] for name in space}:
        raise ValueError(f"unknown parts {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    values = base.fields()
    around = {
        name: _extended(bounds, values[name])
        for name, bounds in space.items()
        if name.split(".")[0] in searched and name not in constant
    }
    if not around:
        raise ValueError("nothing is left to tune: remove a setting REC_RECIPE__…, or choose other parts")
    return around


def _extended(bounds: Range, value: float) -> Range:
    low, high = min(bounds.low, value), max(bounds.high, value)
    return replace(bounds, low=low, high=high, log=bounds.log and low > 0)


def suggest(trial: optuna.trial.BaseTrial, base: Recipe, space: Mapping[str, Range] = SPACE) -> Recipe:
    """The active recipe with the values that the trial suggests."""
    suggested = {
        name: trial.suggest_int(name, int(bounds.low), int(bounds.high), log=bounds.log)
        if bounds.is_integer
        else trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
        for name, bounds in space.items()
    }
    return base.with_fields(suggested)
