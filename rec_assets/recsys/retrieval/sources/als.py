"""ALS: products whose factors match those of the customer.

`retrieval/als_model.py` trains the factors of products. `fold_in` computes those of a customer, so scoring uses new
histories without training, and the API uses the last click of a visitor.
"""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.recipe import AlsRecipe
from rec_assets.recsys.retrieval.sources.base import Baseline, CandidateSource, CustomerBlock, FeatureValues, Pairs
from rec_assets.recsys.retrieval.sources.helpers import ProductScores, best_unbought


class Als(CandidateSource[ProductScores]):
    """Scores a product by the dot product of its factors with the customer's factors, which are folded in."""

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
        return ProductScores(vectors @ block.snapshot.covered_factors, block.snapshot.als_coverage.column)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The products with the highest positive scores."""
        products = block.snapshot.als_coverage.products
        return best_unbought(block, products, block.scores(self).values, self.size(block.recipe))

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """`als_relative` is relative to the customer's highest score."""
        scores = block.scores(self)
        score = scores.at(customer, product)
        return {"als_score": score, "als_relative": score / scores.highest[customer]}


def fold_in(histories: Histories, snapshot: ProductSnapshot, recipe: AlsRecipe) -> Floats:
    """(n, k) factors of the customers: the least-squares solution of ALS for these histories, half a step of ALS.

    If the histories have ratings r, the explicit problem min Σ (r − x·y)² + ρ·|x|² is solved. Otherwise it is the
    implicit one, min Σ c (p − x·y)² + ρ·|x|², with confidence c = 1 + α·r of decayed lines r. ρ is
    `AlsRecipe.ridge` of the number of the customer's products with factors. Sources: Hu, Koren, Volinsky 2008; Zhou et
    al. 2008 for λ times that number.

    Customers without such products get zeros.
    """
    factors = snapshot.factors
    n, k = len(histories.customer_ids), factors.shape[1]
    vectors = np.zeros((n, k), np.float32)
    explicit = bool(np.isfinite(histories.rating).any())
    strength = histories.rating if explicit else histories.decayed_lines(recipe.half_life_days)
    usable = np.isfinite(strength) & snapshot.has_factors[histories.product]
    customer, product, strength = histories.customer[usable], histories.product[usable], strength[usable]
    gram = np.zeros((k, k)) if explicit else snapshot.gram
    bounds = np.searchsorted(customer, np.arange(n + 1))
    for row in np.flatnonzero(np.diff(bounds)):
        pairs = slice(bounds[row], bounds[row + 1])
        y, r = factors[product[pairs]].astype(np.float64), strength[pairs].astype(np.float64)
        extra, target = (np.ones_like(r), r) if explicit else (recipe.alpha * r, 1 + recipe.alpha * r)
        weighted = y * np.sqrt(extra)[:, None]
        system = gram + weighted.T @ weighted  # of one matrix with itself, BLAS computes half of the product
        system.flat[:: k + 1] += recipe.ridge(len(r))
        vectors[row] = np.linalg.solve(system, y.T @ target)
    return vectors
