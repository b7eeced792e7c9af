"""ALS: products whose factors match those of the customer.

`retrieval/als_model.py` trains the factors of products. `fold_in` computes those of a customer, so scoring uses new
histories without training, and the API uses the last click of a visitor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.recipe import AlsRecipe
from rec_assets.recsys.retrieval.sources.base import Baseline, CandidateSource, CustomerBlock, FeatureValues, Pairs
from rec_assets.recsys.retrieval.sources.helpers import ProductScores, best_unbought, top_columns

MAX_DENSE_PRODUCTS = 200_000
"""Products with factors that are all scored for every customer. Beyond, only those that may be among the best are."""

_SCORED_AT_ONCE = 1 << 15


class Als(CandidateSource["ProductScores | BestScores"]):
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

    def score(self, block: CustomerBlock) -> ProductScores | BestScores:
        """Scores of the products with factors: (n, U + 1) of all, or of the best alone if there are many products."""
        vectors = fold_in(block.histories, block.snapshot, block.recipe.als)
        if len(block.snapshot.als_coverage.products) > MAX_DENSE_PRODUCTS:
            histories = block.histories
            bought = np.bincount(histories.customer[histories.is_bought], minlength=len(block))
            return best_scores(vectors, block.snapshot, self.size(block.recipe) + bought)
        return ProductScores(vectors @ block.snapshot.covered_factors, block.snapshot.als_coverage.column)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The products with the highest positive scores."""
        known, size = block.scores(self), self.size(block.recipe)
        if isinstance(known, BestScores):
            is_new = (known.values > 0) & ~block.bought[np.arange(len(block))[:, None], known.products]
            customer, place = np.nonzero(is_new & (np.cumsum(is_new, axis=1) <= size))
            return customer, known.products[customer, place]
        return best_unbought(block, block.snapshot.als_coverage.products, known.values, size)

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """`als_relative` is relative to the customer's highest score."""
        scores = block.scores(self)
        score = scores.at(customer, product)
        return {"als_score": score, "als_relative": score / scores.highest[customer]}


@dataclass(frozen=True, eq=False)
class BestScores:
    """Scores of n customers without an array of all products.

    Attributes:
        vectors: (n, k) factors of the customers.
        factors: (P, k) factors of the products.
        products: (n, m) positions of the products with the highest scores, descending.
        values: (n, m) their scores; -inf where there is none.
    """

    vectors: Floats
    factors: Floats
    products: Longs
    values: Floats

    def at(self, customer: Longs, product: Longs) -> Floats:
        """(pairs,) scores of pairs."""
        return np.einsum("ij,ij->i", self.vectors[customer], self.factors[product])

    @property
    def highest(self) -> Floats:
        """(n,) highest score of each customer, at least 1e-9."""
        return np.maximum(self.at(np.arange(len(self.vectors)), self.products[:, 0]), 1e-9)


def best_scores(vectors: Floats, snapshot: ProductSnapshot, sizes: Longs) -> BestScores:
    """The `sizes`[i] products with the highest positive scores of each customer, exactly.

    Products are scored by falling length of their factors. No score exceeds the product of both lengths, so a customer
    is done when the scores found are at least that for the next product. Source: LEMP, Teflioudi, Gemulla, Mykytiuk
    2015. An approximate index, such as an inverted file, was not faster at the same recall.

    Args:
        vectors: (n, k) factors of the customers. Zeros have no products.
        snapshot: See `ProductSnapshot.factors_by_norm`.
        sizes: (n,) numbers of products.
    """
    positions, norms, factors = snapshot.factors_by_norm
    most, lengths = int(sizes.max(initial=1)), np.linalg.norm(vectors, axis=1)
    places, values = np.zeros((len(vectors), most), np.int64), np.full((len(vectors), most), -np.inf, np.float32)
    for first in range(0, len(positions), _SCORED_AT_ONCE):
        lowest = np.maximum(values[np.arange(len(vectors)), sizes - 1], 0)
        rows = np.flatnonzero(lengths * norms[first] > lowest)
        if not len(rows):
            break
        scores = vectors[rows] @ factors[first : first + _SCORED_AT_ONCE].T
        best = top_columns(scores, most)
        found = np.hstack([values[rows], np.take_along_axis(scores, best, axis=1)])
        order = np.argsort(-found, axis=1, kind="stable")[:, :most]
        values[rows] = np.take_along_axis(found, order, axis=1)
        places[rows] = np.take_along_axis(np.hstack([places[rows], best + first]), order, axis=1)
    return BestScores(vectors, snapshot.factors, positions[places], values)


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
