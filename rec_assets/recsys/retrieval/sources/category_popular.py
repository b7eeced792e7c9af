"""Category popularity: recent best sellers of the categories and attribute values that the customer buys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.retrieval.sources.base import CandidateSource, CustomerBlock, FeatureValues, ListItems, Pairs
from rec_assets.recsys.retrieval.sources.helpers import best_unbought, group_sums, orders_since, row_sums, take


@dataclass(frozen=True, eq=False)
class Affinities:
    """Shares of a customer's decayed history. C categories, T attribute values (`Tastes`).

    Attributes:
        category: (n, C).
        taste: (n, T).
    """

    category: Floats
    taste: Floats


class CategoryPopular(CandidateSource[Affinities]):
    """Scores a product by its affinity × its share of the category's recent orders.

    The affinity is the share of its category in the history. With attributes of taste, it is the mean of this and of
    the shares of its attribute values.
    """

    name = "category_popular"
    features = (
        "category_affinity", "category_score", "category_orders_since", "category_lines", "category_products",
        "category_expected",
    )  # fmt: skip
    blend_weights = (("category_affinity", 1.0),)

    def score(self, block: CustomerBlock) -> Affinities:
        """The shares of each category and attribute value in the decayed history."""
        histories, snapshot = block.histories, block.snapshot
        interest = histories.decayed_lines(block.recipe.candidates.repeat_half_life_days)
        shape = (len(block), len(snapshot.categories))
        affinity = row_sums(histories.customer, snapshot.category[histories.product], interest, shape)
        total = np.maximum(affinity.sum(axis=1, keepdims=True), 1e-12)
        tastes = np.zeros((len(block), 0), np.float32)
        if snapshot.tastes.attributes:
            pairs = interest, histories.product, np.searchsorted(histories.customer, np.arange(len(block) + 1))
            history = sp.csr_matrix(pairs, shape=(len(block), len(snapshot)))
            tastes = np.asarray((history @ snapshot.tastes.has).toarray(), np.float32) / total
        return Affinities(affinity / total, tastes)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The recently sold products with the highest scores."""
        (products, category, share), tastes = block.snapshot.recently_sold, block.snapshot.tastes
        affinities = block.scores(self)
        affinity = np.take(affinities.category, category, axis=1)
        if tastes.attributes:
            liked = np.asarray((tastes.share[products] @ affinities.taste.T).T, np.float32)
            affinity = (affinity + liked) / np.float32(1 + tastes.attributes)
        return best_unbought(block, products, affinity * share, self.size(block.recipe))

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """The affinity and the score are 0 for products without recent order lines.

        `category_expected` is the customer's lines in the category × the product's share in its recent order lines.
        """
        histories, snapshot = block.histories, block.snapshot
        share = snapshot.share_in_category[product]
        affinities, tastes = block.scores(self), snapshot.tastes
        affinity = take(affinities.category, customer, snapshot.category, product)
        if tastes.attributes:
            of_product = tastes.share[product]
            pair = np.repeat(np.arange(len(product)), np.diff(of_product.indptr))
            values = of_product.data * affinities.taste[customer[pair], of_product.indices]
            liked = np.bincount(pair, values, len(product)).astype(np.float32)
            affinity = (affinity + liked) / np.float32(1 + tastes.attributes)
        affinity = np.where(share > 0, affinity, 0)
        of_category = snapshot.known_category, customer, product
        interest = histories.decayed_lines(block.recipe.candidates.repeat_half_life_days)
        lines = group_sums(histories, interest, *of_category)
        return {
            "category_affinity": affinity,
            "category_score": affinity * share,
            "category_orders_since": orders_since(histories, *of_category),
            "category_lines": lines,
            "category_products": group_sums(histories, np.ones_like(histories.order_lines), *of_category),
            "category_expected": lines * share,
        }

    def explains(self, items: ListItems) -> Mask:
        """The product sells in a category of the customer."""
        return np.asarray(items.features["category_score"] > 0, bool)

    def reason(self, items: ListItems, row: int) -> str:
        """The category, if it has a name."""
        category = items.category(row)
        return f"popular in {category}" if category else "popular among what you buy"
