"""ALS: products whose factors match the customer's vector. The factors are trained in `retrieval/als.py`."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Longs
from rec_assets.recsys.retrieval.fold_in import fold_in
from rec_assets.recsys.retrieval.sources.base import Baseline, CandidateSource, CustomerBlock, FeatureValues, Pairs
from rec_assets.recsys.retrieval.sources.helpers import ProductScores
from rec_assets.recsys.retrieval.top_n import top_columns


class Als(CandidateSource[ProductScores]):
    """Scores a product by the dot product of its factors with the customer's vector, which is folded in."""

    name = "als"
    features = ("als_score", "als_relative")
    sentence = "bought by customers who buy like you"
    blend_weights = (("als_relative", 1.0),)
    baselines = (
        Baseline(
            "ALS alone", "Matrix factorization: products that customers with a similar history buy.", ("als_score",)
        ),
    )

    def score(self, block: CustomerBlock) -> ProductScores:
        """(n, U + 1) scores of the products with factors."""
        vectors = fold_in(block.histories, block.snapshot, block.recipe.als)
        return ProductScores(vectors @ block.snapshot.covered_factors.T, block.snapshot.als_coverage.column)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The products with the highest positive scores."""
        covered = block.snapshot.als_coverage.products
        scores = np.where(block.is_bought[:, covered], -np.inf, block.scores(self).values[:, :-1])
        best = top_columns(scores, self.size(block.recipe))
        customer, place = np.nonzero(np.take_along_axis(scores, best, axis=1) > 0)
        return customer, covered[best[customer, place]]

    def compute(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """`als_relative` is relative to the customer's highest score."""
        scores = block.scores(self)
        score = scores.at(customer, product)
        return {"als_score": score, "als_relative": score / scores.highest[customer]}
