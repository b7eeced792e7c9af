"""A rule set as arrays over the catalog: made once for a state of the products, then applied to each customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.data.product_snapshot import Floats, Ints, ProductSnapshot
from rec_assets.recsys.rules.spec import (
    BoostRule,
    CapRule,
    ComplementsRule,
    ExcludeRule,
    FrequencyCapRule,
    MinPriceRule,
    PinRule,
    Products,
    ReturnsRule,
    Rule,
    Rules,
    WeightRule,
)

Mask = npt.NDArray[np.bool_]


class CompiledPin(NamedTuple):
    """A product that stands at a place, from 0; by rule number `rule`."""

    rule: int
    product: int
    place: int


class CompiledCap(NamedTuple):
    """At most so many of one group, a (P,) number each, −1 where none; by rule number `rule`."""

    rule: int
    group: Ints
    most: int


class CompiledComplements(NamedTuple):
    """How many complements stand first, and how many days after a purchase; by rule number `rule`."""

    rule: int
    days: int
    places: int


class CompiledBoost(NamedTuple):
    """Products that get so many of ten places while that costs at most a share of DCG; by rule number `rule`.

    `weight` is (P,): 0 for all others; among these, who comes in first is decided by score · weight.
    """

    rule: int
    weight: Floats
    places: int
    most_loss: float


@dataclass(frozen=True, eq=False)
class CompiledRules:
    """A rule set over P products.

    Attributes:
        version: What the set says, as a hash; "" where it has no rules.
        product_ids: (P,) sorted.
        says: Per rule what an entry says that is where it is because of it.
        shown: (P,) which products may be shown.
        weights: Rule and (P,) what scores are multiplied by.
        returns: Rule and what a return costs, as a share of the price.
        complements, caps, favors, pins: What their kinds say.
        frequency_cap: Impressions, and days in which they count.
    """

    version: str
    product_ids: npt.NDArray[np.object_]
    says: tuple[str, ...]
    shown: Mask
    weights: tuple[tuple[int, Floats], ...]
    returns: tuple[int, float] | None
    complements: CompiledComplements | None
    caps: tuple[CompiledCap, ...]
    favors: tuple[CompiledBoost, ...]
    pins: tuple[CompiledPin, ...]
    frequency_cap: tuple[int, int] | None

    @property
    def rests(self) -> str:
        """Name of the column of candidates that says which of them rest by the frequency cap."""
        return "rests_{}_{}".format(*self.frequency_cap) if self.frequency_cap else ""

    def __bool__(self) -> bool:
        """Whether there is any rule."""
        return bool(self.version)


def compile_rules(rules: Rules, name: str, state: ProductSnapshot, *, only: str | None = None) -> CompiledRules:
    """A rule set over the products of a state; products that the state doesn't know are passed over.

    Args:
        rules: Of the shop.
        name: Of the set.
        state: Its categories, brands, prices and orders count.
        only: Name of the one rule of the set that counts; None: all.
    """
    chosen = tuple(rule for rule in rules.sets[name] if only is None or rule.name == only)
    numbered = list(enumerate(chosen))
    shown = np.full(len(state), True)
    for rule in chosen:
        if isinstance(rule, ExcludeRule):
            shown &= ~selected_products(rule.products, rules, state)
        elif isinstance(rule, MinPriceRule):
            shown &= state.price >= rule.least
    places = pd.Index(state.product_ids)
    pins = [
        CompiledPin(number, int(product), rule.place - 1)
        for number, rule in numbered
        if isinstance(rule, PinRule) and (product := places.get_indexer(pd.Index([rule.product]))[0]) >= 0
    ]
    return CompiledRules(
        version=f"{rules.version(name)}{f'/{only}' if only else ''}",
        product_ids=state.product_ids,
        says=tuple(f"{_VERBS.get(rule.kind, 'moved')} by rule {rule.name}" for rule in chosen),
        shown=shown,
        weights=tuple(
            (number, _weight(rule, rules, state)) for number, rule in numbered if isinstance(rule, WeightRule)
        ),
        returns=next(((number, rule.cost) for number, rule in numbered if isinstance(rule, ReturnsRule)), None),
        complements=next(
            (
                CompiledComplements(number, rule.days, rule.places)
                for number, rule in numbered
                if isinstance(rule, ComplementsRule)
            ),
            None,
        ),
        caps=tuple(
            CompiledCap(number, state.known_brand if rule.per == "brand" else state.known_category, rule.most)
            for number, rule in numbered
            if isinstance(rule, CapRule)
        ),
        favors=tuple(
            CompiledBoost(number, _favor_weight(rule, rules, state), rule.places, rule.most_loss)
            for number, rule in numbered
            if isinstance(rule, BoostRule)
        ),
        pins=tuple(sorted(pins, key=lambda pin: pin.place)),
        frequency_cap=next(((rule.most, rule.days) for rule in chosen if isinstance(rule, FrequencyCapRule)), None),
    )


_VERBS = {
    "weigh": "raised",
    "returns": "raised",
    "complements_first": "put first",
    "favor": "boosted",
    "pin": "pinned",
}


def selected_products(chosen: Products, rules: Rules, state: ProductSnapshot) -> Mask:
    """(P,) the products that a rule names."""
    found = pd.Index(state.product_ids).isin(chosen.ids) if chosen.ids else np.full(len(state), False)
    if chosen.file is not None:
        found |= pd.Index(state.product_ids).isin(rules.lists[chosen.file].index)
    if chosen.categories:
        found |= pd.Index(state.categories).isin(chosen.categories)[state.category]
    if chosen.brands:
        found |= pd.Index(state.brands).isin(chosen.brands)[state.brand]
    if chosen.slow_movers is not None:
        worst_first = np.argsort(state.orders, kind="stable")
        sold = np.cumsum(state.orders[worst_first], dtype=np.float64)
        found[worst_first[sold <= chosen.slow_movers * sold.max(initial=0)]] = True
    return found


def unknown_products(rule: Rule, rules: Rules, state: ProductSnapshot) -> list[str]:
    """What a rule names and the state doesn't know: products, categories or brands; most likely misspelled."""
    chosen = getattr(rule, "products", None)
    named: dict[str, tuple[list[str], npt.NDArray[np.object_]]] = {}
    if isinstance(chosen, Products):
        named["category"] = list(chosen.categories), state.categories
        named["brand"] = list(chosen.brands), state.brands
        named["product"] = list(chosen.ids), state.product_ids
    if isinstance(rule, PinRule):
        named["product"] = [rule.product], state.product_ids
    if rule.file is not None:
        named["listed product"] = [str(each) for each in rules.lists[rule.file].index], state.product_ids
    return [f"{what} {each}" for what, (given, known) in named.items() for each in sorted(set(given) - set(known))]


def _weight(rule: WeightRule, rules: Rules, state: ProductSnapshot) -> Floats:
    """(P,) (worth / median) ** strength; 1 where the worth is unknown."""
    if rule.worth is None:
        worth = np.asarray(state.price, np.float64)
    else:
        worth = rules.lists[rule.worth].reindex(state.product_ids).to_numpy(np.float64)
    known = np.isfinite(worth) & (worth > 0)
    if not known.any():
        return np.ones(len(state), np.float32)
    relative = np.where(known, worth, 1.0) / np.median(worth[known])
    return np.where(known, relative**rule.strength, 1.0).astype(np.float32)


def _favor_weight(rule: BoostRule, rules: Rules, state: ProductSnapshot) -> Floats:
    """(P,) 0 where not favored. Of slow movers 1 / √(orders + 1), so that not the same few come in for everybody."""
    chosen = selected_products(rule.products, rules, state)
    weight = 1 / np.sqrt(state.orders + 1) if rule.products.slow_movers is not None else np.ones(len(state))
    return np.where(chosen, weight, 0).astype(np.float32)
