"""Effects: what a compiled rule does to the ranked candidates of one customer, one class for each re-ranking stage.

A rule kind compiles to one of these effects. `rerank` applies the effects and does not know the rule kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask

BLOCK_SIZE = 10
"""Caps and boosts count positions in blocks of ten: ranks 1 to 10, 11 to 20, and so on."""

_MAX_RETURN_RATE = 0.95


class ScoredCandidates(NamedTuple):
    """The n products that one customer can be shown, by falling score.

    Attributes:
        product: (n,) positions in the product snapshot.
        score: (n,) from `Ranker.score`; grows with the probability that the customer buys and keeps the product.
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


@dataclass(frozen=True, eq=False)
class Hide(Effect):
    """Never show these products: `products` is a (P,) mask."""

    products: Mask


@dataclass(frozen=True)
class FrequencyCap(Effect):
    """Hide a product from a customer who saw it `max_impressions` times in `days` days without another event."""

    max_impressions: int
    days: int


@dataclass(frozen=True, eq=False)
class ScoreFactor(Effect):
    """Multiply scores by `factor` (P,), and by 1 − return_cost · r / (1 − r), at least 0, for return rate r."""

    factor: Floats
    return_cost: float = 0.0

    def of_rows(self, scored: ScoredCandidates, rows: Longs) -> Floats:
        """(len(rows),) factors of these rows of `scored`."""
        rate = np.minimum(scored.return_rate[rows], _MAX_RETURN_RATE)
        # The score stands for purchases that are kept. For each kept one, r / (1 − r) are returned.
        kept = np.maximum(1 - self.return_cost * rate / (1 - rate), 0) if self.return_cost else 1
        return np.asarray(self.factor[scored.product[rows]] * kept)


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


@dataclass(frozen=True)
class Pin(Effect):
    """Show a product at a fixed position, counted from 0."""

    product: int
    position: int
