"""EASE: products that the customers of the profile items buy too. `retrieval/ease_weights.py` computes the weights."""

from __future__ import annotations

from rec_assets.recsys.arrays import Longs
from rec_assets.recsys.data.snapshot_arrays import EASE
from rec_assets.recsys.retrieval.sources.base import Baseline, CandidateSource, CustomerBlock, FeatureValues, Pairs
from rec_assets.recsys.retrieval.sources.helpers import NeighborScores, best_unbought, neighbor_scores


class Ease(CandidateSource[NeighborScores]):
    """Scores a product by its EASE weights from the profile items."""

    name = "ease"
    features = ("ease_score", "ease_relative", "ease_last_visit")
    sentence = "customers with your favorites buy this too"
    blend_weights = (("ease_relative", 1.0),)
    baselines = (
        Baseline(
            "EASE alone",
            "Products that the customers of the customer's products buy too, of those with most buyers.",
            ("ease_score",),
        ),
    )

    def score(self, block: CustomerBlock) -> NeighborScores:
        """Scores of the products that EASE covers."""
        column = block.snapshot.ease_coverage.column
        return neighbor_scores(block, block.snapshot.edges[EASE], column)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The products with the highest scores."""
        scores, products = block.scores(self).profile.values, block.snapshot.ease_coverage.products
        return best_unbought(block, products, scores, self.size(block.recipe))

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """Scores from the whole profile and from the last visit alone."""
        return block.scores(self).features(self.name, customer, product)
