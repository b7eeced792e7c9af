"""Popularity: best sellers, recently and over the whole window. They fill lists that no other source can fill."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Longs, Mask
from rec_assets.recsys.compiled import compiled
from rec_assets.recsys.retrieval.sources.base import (
    Baseline,
    CandidateSource,
    CustomerBlock,
    FeatureValues,
    ListItems,
    Pairs,
)


class Popular(CandidateSource[None]):
    """Proposes the same best sellers to all customers."""

    name = "popular"
    features = ("popularity", "recent_popularity", "trend", "buyers", "new_buyers", "repeat_share", "product_interval")
    blend_weights = (("recent_popularity", 0.3), ("popularity", 0.1))
    baselines = (
        Baseline(
            "popularity", "The best sellers of the lookback, the same for everybody.", ("popularity",), "order_lines"
        ),
        Baseline(
            "recent popularity",
            "The best sellers of the recent days, the same for everybody.",
            ("recent_popularity",),
            "recent_order_lines",
        ),
    )

    def score(self, block: CustomerBlock) -> None:
        """Nothing to compute: the snapshot has the ranked best sellers."""

    def propose(self, block: CustomerBlock) -> Pairs:
        """The `size` recent best sellers and the `size` best sellers. Ties go to the lower id."""
        size, (recent, all_days) = self.size(block.recipe), block.snapshot.by_order_lines
        customer, product = _first_unbought(recent, all_days, block.bought, size)
        return customer, product

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """Counts as log(1 + x)."""
        return dict(zip(self.features, block.snapshot.popularity[product].T, strict=True))

    def explains(self, items: ListItems) -> Mask:
        """Always: every item needs a reason."""
        return np.full(len(items.product_ids), True)

    def reason(self, items: ListItems, row: int) -> str:
        """The category, if it has a name."""
        category = items.category(row)
        return f"popular in {category}" if category else "popular right now"


@compiled
def _first_unbought(recent: Longs, all_days: Longs, bought: Mask, size: int) -> tuple[Longs, Longs]:
    customer, product = np.empty(2 * size * len(bought), np.int64), np.empty(2 * size * len(bought), np.int64)
    count = 0
    for row in range(len(bought)):
        for ranked in (recent, all_days):
            place, end = 0, count + size
            while place < len(ranked) and count < end:
                customer[count], product[count] = row, ranked[place]
                count += not bought[row, ranked[place]]
                place += 1
    return customer[:count], product[:count]
