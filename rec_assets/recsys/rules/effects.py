"""Effects: what a compiled rule does to the ranked candidates of one customer, one class for each re-ranking stage.

A rule kind compiles to one of these effects. `rerank` applies the effects and does not know the rule kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rec_assets.recsys.arrays import Floats, Ints, Longs

Mask = npt.NDArray[np.bool_]

BLOCK_SIZE = 10
"""Caps and boosts count positions in blocks of ten: ranks 1 to 10, 11 to 20, and so on."""

_MAX_RETURN_RATE = 0.95

TRADE_OFF_SLOTS = (1, 2, 3, 5)
TRADE_OFF_LOSSES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
"""Values of `slots` and `max_dcg_loss` on the trade-off curve of a boost."""


class ScoredCandidates(NamedTuple):
    """The n products that one customer can be shown, by falling score.

    Attributes:
        product: (n,) positions in the product snapshot.
        score: (n,) estimated probability that the customer buys and keeps the product.
        return_rate: (n,) expected share of purchases that the customer returns.
        complement: (n,) strength of the co-purchase with the customer's last order (`Candidates.complement`).
        days_since_order: Days since that order; NaN without one.
    """

    product: Longs
    score: Floats
    return_rate: Floats
    complement: Floats
    days_since_order: float


class Effect:
    """Base class of all effects."""

    def trade_off(self) -> Mapping[tuple[int, float], Effect]:
        """Variants of the effect for its trade-off curve, by (slots, max_dcg_loss); empty without a curve."""
        return {}


@dataclass(frozen=True, eq=False)
class Hide(Effect):
    """Never show these products: `products` is a (P,) mask."""

    products: Mask


@dataclass(frozen=True)
class FrequencyCap(Effect):
    """Hide a product from a customer who saw it `max_impressions` times in `days` days without a click or cart."""

    max_impressions: int
    days: int


@dataclass(frozen=True, eq=False)
class ScoreFactor(Effect):
    """Multiply scores by `factor` (P,), and by 1 − return_cost · r / (1 − r), at least 0, for return rate r."""

    factor: Floats
    return_cost: float = 0.0

    def of_rows(self, scored: ScoredCandidates, rows: Longs) -> Floats:
        """(len(rows),) factors of these rows of `scored`."""
        factor = self.factor[scored.product[rows]]
        if not self.return_cost:
            return factor
        rate = np.minimum(scored.return_rate[rows], _MAX_RETURN_RATE)
        # The score is the probability of a purchase that is kept. For each kept one, r / (1 − r) are returned.
        return np.asarray(factor * np.maximum(1 - self.return_cost * rate / (1 - rate), 0))


@dataclass(frozen=True)
class Complements(Effect):
    """Put up to `slots` complements of an order of the last `days` days first."""

    days: int
    slots: int

    def select(self, scored: ScoredCandidates, rows: list[int]) -> list[int]:
        """The rows of `scored` that go to the top, best first, out of `rows`."""
        if not scored.days_since_order <= self.days:  # NaN without an order
            return []
        complements = [row for row in rows if scored.complement[row] > 0]
        return sorted(complements, key=lambda row: -scored.complement[row])[: self.slots]


@dataclass(frozen=True, eq=False)
class Cap(Effect):
    """Show at most `max_items` products of one group in each block; `group` is (P,), −1 for products without one."""

    group: Ints
    max_items: int


@dataclass(frozen=True, eq=False)
class Boost(Effect):
    """Give boosted products `slots` positions of each block, at a limited cost.

    Attributes:
        weight: (P,) 0 for products without a boost. Boosted products enter in the order of score · weight.
        slots: Positions in each block.
        max_dcg_loss: Share of the block's expected DCG that the boost can cost.
    """

    weight: Floats
    slots: int
    max_dcg_loss: float

    def trade_off(self) -> Mapping[tuple[int, float], Effect]:
        """The same boost with other slots and losses."""
        return {
            (slots, loss): replace(self, slots=slots, max_dcg_loss=loss)
            for slots in TRADE_OFF_SLOTS
            for loss in TRADE_OFF_LOSSES
        }


@dataclass(frozen=True)
class Pin(Effect):
    """Show a product at a fixed position, counted from 0."""

    product: int
    position: int
