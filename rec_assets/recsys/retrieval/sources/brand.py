"""Brand: whether the customer buys the product's brand. It ranks and explains, and proposes no candidates."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.retrieval.sources.base import CandidateSource, CustomerBlock, FeatureValues
from rec_assets.recsys.retrieval.sources.helpers import orders_since, row_sums, take


class Brand(CandidateSource[Floats]):
    """Scores a product by its brand's share of the customer's order lines."""

    name = "brand"
    features = ("brand_affinity", "brand_orders_since")
    sentence = "from a brand you buy"
    blend_weights = (("brand_affinity", 0.5),)

    def score(self, block: CustomerBlock) -> Floats:
        """(n, B) share of each brand in the customer's order lines."""
        histories, snapshot = block.histories, block.snapshot
        shape = (len(block), len(snapshot.brands))
        affinity = row_sums(histories.customer, snapshot.brand[histories.product], histories.order_lines, shape)
        return affinity / np.maximum(affinity.sum(axis=1, keepdims=True), 1)

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """0 and NaN for products without a brand."""
        brand, known_brand = block.snapshot.brand, block.snapshot.known_brand
        return {
            "brand_affinity": np.where(
                known_brand[product] >= 0, take(block.scores(self), customer, brand, product), 0
            ),
            "brand_orders_since": orders_since(block.histories, known_brand, customer, product),
        }
