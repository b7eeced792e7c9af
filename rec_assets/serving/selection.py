"""Which products and variants a response may show: what is available, less what the request filters out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rec_assets.recsys.arrays import Mask
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.serving.recommendation import RecommendationRequest


@dataclass(frozen=True, eq=False)
class Selection:
    """Products and variants.

    Attributes:
        products: (P,) whether each product is selected. One with variants is, if one of them is.
        variants: (V,) whether each variant is selected.
    """

    products: Mask
    variants: Mask

    @classmethod
    def available(cls, snapshot: ProductSnapshot, products: Iterable[int], variants: Iterable[int]) -> Selection:
        """What is in stock by the catalog, without these positions of unavailable products and variants."""
        in_stock, of_variants = snapshot.in_stock.copy(), snapshot.variants.in_stock.copy()
        in_stock[list(products)] = False
        of_variants[list(variants)] = False
        return cls(in_stock, np.full(len(of_variants), True)).restrict(snapshot, in_stock, of_variants)

    def restrict(self, snapshot: ProductSnapshot, products: Mask, variants: Mask | None = None) -> Selection:
        """Those of the selected that are also in `products` (P,), and in `variants` (V,): by default, all of these."""
        known = snapshot.variants
        if not len(known):
            return Selection(self.products & products, self.variants)
        of_variants = self.variants & products[known.product] & (True if variants is None else variants)
        has_none = self.products & products & ~known.has_variants
        return Selection(has_none | known.products_with(of_variants), of_variants)

    def filter(self, request: RecommendationRequest, snapshot: ProductSnapshot) -> Selection:
        """Those of the selected that pass the request's filters on attributes and prices."""
        found, variants = self, snapshot.variants
        if request.attributes:
            products, of_variants = snapshot.attributes.mask(request.attributes), np.full(len(variants), True)
            for name, condition in request.attributes if len(variants) else ():
                # What a variant says comes first, because its product has the values of all variants.
                of_product = snapshot.attributes.mask([(name, condition)])[variants.product]
                of_variant = variants.attributes.mask([(name, condition)])
                of_variants &= np.where(variants.attributes.has(name), of_variant, of_product)
            is_met = np.where(variants.has_variants, variants.products_with(of_variants), products)
            found = found.restrict(snapshot, is_met, of_variants)
        if request.price_min is not None or request.price_max is not None:
            low = -np.inf if request.price_min is None else request.price_min
            high = np.inf if request.price_max is None else request.price_max
            products = (snapshot.list_price >= low) & (snapshot.list_price <= high)
            price = np.where(np.isnan(variants.price), snapshot.list_price[variants.product], variants.price)
            of_variants = (price >= low) & (price <= high)
            is_met = np.where(variants.has_variants, variants.products_with(of_variants), products)
            found = found.restrict(snapshot, is_met, of_variants)
        return found
