"""Co-purchase: products bought on the same day as, or in the order after, the profile items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rec_assets.recsys.arrays import Longs
from rec_assets.recsys.data.snapshot_arrays import NEXT_BASKET, SAME_BASKET
from rec_assets.recsys.retrieval.sources.base import Baseline, CandidateSource, CustomerBlock, FeatureValues, Pairs
from rec_assets.recsys.retrieval.sources.helpers import (
    NeighborScores,
    ProductScores,
    best_unbought,
    heaviest_items,
    neighbor_scores,
)

if TYPE_CHECKING:
    from rec_assets.recsys.retrieval.candidates import Candidates


@dataclass(frozen=True, eq=False)
class CoPurchaseScores:
    """Scores by each of the two graphs."""

    same_basket: NeighborScores
    next_basket: NeighborScores

    @cached_property
    def both(self) -> ProductScores:
        """Sum of the two, from the whole profile."""
        same, following = self.same_basket.profile, self.next_basket.profile
        return ProductScores(same.values + following.values, same.column)


class CoPurchase(CandidateSource[CoPurchaseScores]):
    """Scores a product by its edges from the profile items. `retrieval/co_purchase_graph.py` computes the edges."""

    name = "co_purchase"
    features = ("same_basket", "next_basket", "co_purchase_relative", "same_basket_last_visit",
                "next_basket_last_visit")  # fmt: skip
    sentence = "bought together with {anchor}"
    blend_weights = (("co_purchase_relative", 1.0),)
    baselines = (
        Baseline(
            "co-purchase alone",
            "Products bought on one day with, or in the next order after, the customer's products.",
            ("same_basket", "next_basket"),
        ),
    )
    has_anchor = True

    def score(self, block: CustomerBlock) -> CoPurchaseScores:
        """Scores of the products in the graphs."""
        column = block.snapshot.co_purchase_coverage.column
        return CoPurchaseScores(*(
            neighbor_scores(block, block.snapshot.edges[kind], column)
            for kind in (SAME_BASKET, NEXT_BASKET)
        ))  # fmt: skip

    def propose(self, block: CustomerBlock) -> Pairs:
        """The products with the highest sum of both scores."""
        scores, products = block.scores(self).both.values, block.snapshot.co_purchase_coverage.products
        return best_unbought(block, products, scores, self.size(block.recipe))

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """The two scores from the whole profile and from the last visit alone."""
        scores = block.scores(self)
        same, following = (one.profile.at(customer, product) for one in (scores.same_basket, scores.next_basket))
        return {
            "same_basket": same,
            "next_basket": following,
            "co_purchase_relative": (same + following) / scores.both.highest[customer],
            "same_basket_last_visit": scores.same_basket.last_visit.at(customer, product),
            "next_basket_last_visit": scores.next_basket.last_visit.at(customer, product),
        }

    def anchors(self, candidates: Candidates, rows: Longs) -> Longs:
        """The profile item with the largest profile weight × edge weight to the candidate."""
        customer, product = candidates.customer[rows], candidates.product[rows]
        return heaviest_items(candidates.profile, candidates.snapshot.co_purchase, customer, product)
