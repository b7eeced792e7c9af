"""A rule set as arrays over the catalog: compiled once for a product snapshot, then applied to each customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rec_assets.recsys.arrays import Mask
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.effects import Effect, FrequencyCap, Hide
from rec_assets.recsys.rules.rule import MerchandisingRule
from rec_assets.recsys.rules.rules_file import RuleSets

E = TypeVar("E", bound=Effect)


@dataclass(frozen=True, eq=False)
class CompiledRules:
    """A rule set over P products.

    Attributes:
        version: Hash of the rules and their product files; "" without rules.
        product_ids: (P,) sorted.
        messages: For each rule, the message of an item that the rule raised or pinned: "boosted by rule summer".
        visible: (P,) whether each product can be shown.
        effects: What the rules do, each with the number of its rule.
    """

    version: str
    product_ids: npt.NDArray[np.object_]
    messages: tuple[str, ...]
    visible: Mask
    effects: tuple[tuple[int, Effect], ...]

    def of_type(self, effect_type: type[E]) -> list[tuple[int, E]]:
        """The effects of one type, each with the number of its rule."""
        return [(number, effect) for number, effect in self.effects if isinstance(effect, effect_type)]

    @property
    def frequency_cap(self) -> tuple[int, int] | None:
        """Impressions from which a product is hidden, and days in which they count."""
        return next(((cap.max_impressions, cap.days) for _, cap in self.of_type(FrequencyCap)), None)

    @property
    def frequency_cap_column(self) -> str:
        """Boolean column of the candidates that the frequency cap hides; "" without a cap."""
        return "capped_{}_{}".format(*self.frequency_cap) if self.frequency_cap else ""

    def __bool__(self) -> bool:
        return bool(self.version)  # whether the set has rules


def compile_rules(
    rule_sets: RuleSets, name: str, snapshot: ProductSnapshot, *, only: str | None = None
) -> CompiledRules:
    """Compile a rule set, or `only` one of its rules. Products that the snapshot does not know are ignored."""
    rules = [rule for rule in rule_sets.sets[name] if only is None or rule.name == only]
    compiled = [(number, rule.compile(snapshot, rule_sets.product_files)) for number, rule in enumerate(rules)]
    effects = tuple((number, effect) for number, effect in compiled if effect is not None)
    visible = np.full(len(snapshot), True)
    for _, effect in effects:
        if isinstance(effect, Hide):
            visible &= ~effect.products
    return CompiledRules(
        version=f"{rule_sets.version(name)}{f'/{only}' if only else ''}",
        product_ids=snapshot.product_ids,
        messages=tuple(f"{rule.action} by rule {rule.name}" for rule in rules),
        visible=visible,
        effects=effects,
    )


def unknown_products(rule: MerchandisingRule, rule_sets: RuleSets, snapshot: ProductSnapshot) -> list[str]:
    """Products, categories and brands that a rule names and the snapshot does not know, most likely misspelled."""
    references = rule.references(snapshot)
    if rule.file is not None:
        references["listed product"] = list(map(str, rule_sets.product_files[rule.file].index)), snapshot.product_ids
    return [f"{what} {name}" for what, (named, known) in references.items() for name in sorted(set(named) - set(known))]
