"""Rules of thumb: hyper-parameters that follow from how the customers of a shop buy.

The defaults of a recipe are those of a grocer (the Complete Journey). Each rule replaces one of them. What the settings
or tuning set comes first. docs/quality.md has what the rules bring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.tuning.shop_profile import ShopProfile

MIN_CUSTOMERS = 50
"""With fewer customers, nothing follows from their purchases."""


@dataclass(frozen=True)
class RuleOfThumb:
    """One hyper-parameter.

    Attributes:
        name: Its dotted name.
        value: Its value for a shop.
        why: A sentence for the page of the asset `recipe`.
    """

    name: str
    value: Callable[[ShopProfile], float]
    why: str


GROCER_INTERVAL_DAYS = 6.5
"""Mean days between two purchases of a customer of the Complete Journey, on which the defaults were chosen."""

MAX_HALF_LIFE_DAYS = 3650.0

SMALL_BASKET, MEDIUM_BASKET = 2.0, 4.0
"""Products of a basket, below which pairs of products are rare."""


def _stretched(name: str) -> RuleOfThumb:
    """A half-life covers as many purchases as at a grocer, and is never shorter than the default."""
    default = float(Recipe().fields()[name])

    def value(profile: ShopProfile) -> float:
        # In halves, so that the recipe does not change with every day.
        stretch = np.floor(2 * profile.interval_days / GROCER_INTERVAL_DAYS) / 2
        return float(min(MAX_HALF_LIFE_DAYS, default * np.fmax(1.0, stretch)))  # fmax: 1 if the interval is NaN

    return RuleOfThumb(
        name,
        value,
        "The longer customers wait between purchases, the longer a purchase tells what they like. At a grocer, they "
        f"wait {GROCER_INTERVAL_DAYS} days.",
    )


RULES = (
    _stretched("als.half_life_days"),
    _stretched("co_purchase.half_life_days"),
    _stretched("candidates.repeat_half_life_days"),
    _stretched("candidates.profile_half_life_days"),
    RuleOfThumb(
        "co_purchase.min_support",
        lambda profile: 1 if profile.basket < SMALL_BASKET else 2 if profile.basket < MEDIUM_BASKET else 3,
        "Large baskets have many pairs by chance, so a pair must be seen several times. Small baskets have few pairs, "
        "and each of them counts.",
    ),
    RuleOfThumb(
        "co_purchase.next_orders",
        lambda profile: 5 if profile.basket < SMALL_BASKET else 2 if profile.basket < MEDIUM_BASKET else 1,
        "If orders are small, what goes together is in several orders, one after another.",
    ),
)


def choose(profile: ShopProfile) -> pd.DataFrame:
    """The hyper-parameters for a shop that differ from the defaults: name, value, default, why."""
    defaults = Recipe().fields()
    rows = [
        {"name": rule.name, "value": float(value), "default": float(defaults[rule.name]), "why": rule.why}
        for rule in RULES
        if profile.customers >= MIN_CUSTOMERS and (value := rule.value(profile)) != defaults[rule.name]
    ]
    types = {"name": str, "value": float, "default": float, "why": str}
    return pd.DataFrame(rows, columns=[*types]).astype(types)
