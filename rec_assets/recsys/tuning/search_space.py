"""The search space: which hyper-parameters tuning may change, and between which bounds.

Here belongs what is worth searching, as data. How it is searched, and what a recipe is judged by, stands in `study`
and `walk_forward`.
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
    """Values of one hyper-parameter, both ends included; integers where both ends are.

    Attributes:
        low, high: The ends.
        log: Whether a step is a ratio and not a difference.
    """

    low: float
    high: float
    log: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether only whole numbers are meant."""
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
    "candidates.history_half_life_days": Range(10.0, 365.0, log=True),
    "candidates.history_order_decay": Range(0.5, 1.0),
    "ranker.learning_rate": Range(0.02, 0.2, log=True),
    "ranker.rounds": Range(100, 600, log=True),
    "ranker.max_depth": Range(3, 9),
    "ranker.min_child_weight": Range(1.0, 100.0, log=True),
    "ranker.l2": Range(0.5, 50.0, log=True),
    "ranker.subsample": Range(0.5, 1.0),
    "ranker.column_sample": Range(0.3, 1.0),
}
"""By the dotted names of the recipe's fields."""

IDLE = {"spark": "als.implicit_regularization", "implicit": "als.regularization"}
"""By ALS solver, the λ that it doesn't look at."""

PARTS = tuple(dict.fromkeys(name.split(".")[0] for name in SPACE))


def space_around(
    base: Recipe, *, parts: Iterable[str] = PARTS, fixed: Iterable[str] = (), space: Mapping[str, Range] = SPACE
) -> dict[str, Range]:
    """What of the space to search, in its order, widened where the base lies outside: it is judged like any other.

    Of the two λ of ALS only that of the solver in use is searched.

    Args:
        base: The recipe in use.
        parts: The recipe's parts to search: "als", "co_purchase", "candidates", "ranker".
        fixed: Dotted names that stay as they are in the base.
        space: To take from.

    Raises:
        ValueError: a part is unknown, or nothing is left to search.
    """
    wanted, kept = set(parts), {*fixed, IDLE[base.als.solver]}
    if unknown := wanted - {name.split(".")[0] for name in space}:
        raise ValueError(f"nothing can be tuned in {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    values = base.fields()
    around = {
        name: _widened(bounds, values[name])
        for name, bounds in space.items()
        if name.split(".")[0] in wanted and name not in kept
    }
    if not around:
        raise ValueError("nothing is left to tune: all of it is fixed by settings")
    return around


def _widened(bounds: Range, value: float) -> Range:
    low, high = min(bounds.low, value), max(bounds.high, value)
    return replace(bounds, low=low, high=high, log=bounds.log and low > 0)


def suggest(trial: optuna.trial.BaseTrial, base: Recipe, space: Mapping[str, Range] = SPACE) -> Recipe:
    """The base with what the trial proposes for each hyper-parameter of the space."""
    values: dict[str, float] = {}
    for name, bounds in space.items():
        if bounds.is_integer:
            values[name] = trial.suggest_int(name, int(bounds.low), int(bounds.high), log=bounds.log)
        else:
            values[name] = trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
    return base.with_fields(values)
