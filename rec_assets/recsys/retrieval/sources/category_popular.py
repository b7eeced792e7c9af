"""Category popularity: recent best sellers of the categories that the customer buys from."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.retrieval.sources.base import CandidateSource, CustomerBlock, FeatureValues, ListItems, Pairs
from rec_assets.recsys.retrieval.sources.helpers import best_unbought, orders_since, row_sums, take


class CategoryPopular(CandidateSource[Floats]):
    """Scores a product by the category's share of the history × the product's share of the category's recent orders."""

    name = "category_popular"
    features = ("category_affinity", "category_score", "category_orders_since")
    blend_weights = (("category_affinity", 1.0),)

    def score(self, block: CustomerBlock) -> Floats:
        """(n, C) share of each category in the decayed history."""
        histories, snapshot = block.histories, block.snapshot
        interest = histories.decayed_lines(block.recipe.candidates.repeat_half_life_days)
        shape = (len(block), len(snapshot.categories))
        affinity = row_sums(histories.customer, snapshot.category[histories.product], interest, shape)
        return affinity / np.maximum(affinity.sum(axis=1, keepdims=True), 1e-12)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The recently sold products with the highest scores."""
        products, category, share = block.snapshot.recently_sold
        return best_unbought(
            block, products, np.take(block.scores(self), category, axis=1) * share, self.size(block.recipe)
        )

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """0 for products without recent order lines."""
        snapshot = block.snapshot
        share = snapshot.share_in_category[product]
        affinity = np.where(share > 0, take(block.scores(self), customer, snapshot.category, product), 0)
        return {
            "category_affinity": affinity,
            "category_score": affinity * share,
            "category_orders_since": orders_since(block.histories, snapshot.known_category, customer, product),
        }

    def explains(self, items: ListItems) -> Mask:
        """The product sells in a category of the customer."""
        return np.asarray(items.features["category_score"] > 0, bool)

    def reason(self, items: ListItems, row: int) -> str:
        """The category, if it has a name."""
        category = items.category(row)
        return f"popular in {category}" if category else "popular among what you buy"
