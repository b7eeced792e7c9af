"""Popularity: best sellers, recently and over the whole window. They fill lists that no other source can fill."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Longs, Mask
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
        pairs, size = [], self.size(block.recipe)
        longest = size + int(block.bought.sum(axis=1).max(initial=0))  # enough for each customer after exclusion
        for ranked in block.snapshot.by_order_lines:
            best = ranked[:longest]
            unbought = ~block.bought[:, best]
            customer, place = np.nonzero(unbought & (np.cumsum(unbought, axis=1) <= size))
            pairs.append((customer, best[place]))
        (recent_customer, recent), (customer, product) = pairs
        return np.append(recent_customer, customer), np.append(recent, product)

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """Counts as log(1 + x)."""
        snapshot = block.snapshot
        return {
            "popularity": np.log1p(snapshot.order_lines[product]),
            "recent_popularity": np.log1p(snapshot.recent_order_lines[product]),
            "trend": snapshot.trend[product],
            "buyers": np.log1p(snapshot.buyers[product]),
            "new_buyers": np.log1p(snapshot.new_buyers[product]),
            "repeat_share": snapshot.repeat_share[product],
            "product_interval": snapshot.interval_days[product],
        }

    def explains(self, items: ListItems) -> Mask:
        """Always: every item needs a reason."""
        return np.full(len(items.product_ids), True)

    def reason(self, items: ListItems, row: int) -> str:
        """The category, if it has a name."""
        category = items.category(row)
        return f"popular in {category}" if category else "popular right now"
