"""Related and trending products, from the product snapshot alone (no shopper)."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.data.product_snapshot import UNKNOWN, ProductSnapshot
from rec_assets.recsys.retrieval.similar import similarity

UPSELL_PRICE = 1.05, 2.0
"""Minimum and maximum price of an upsell, relative to the product's price."""

Products = tuple[Longs, Floats]
"""Positions in the snapshot, best first, and scores."""


def similar(snapshot: ProductSnapshot, product: int) -> Products:
    """Substitutes: products of the same category with similar text and buyers, as in `similar_products`."""
    members = np.flatnonzero(snapshot.category == snapshot.category[product])
    members = members[members != product]
    score = similarity(snapshot, np.array([product]), members)[0]
    order = np.lexsort((-snapshot.order_lines[members], -score))
    order = order[score[order] > 0]
    return members[order], score[order]


def upsell(snapshot: ProductSnapshot, product: int) -> Products:
    """More expensive substitutes; empty if prices are unknown."""
    found, score = similar(snapshot, product)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = snapshot.list_price[found] / snapshot.list_price[product]
        is_upsell = (ratio >= UPSELL_PRICE[0]) & (ratio <= UPSELL_PRICE[1])
    return found[is_upsell], score[is_upsell]


def complements(snapshot: ProductSnapshot, product: int) -> Products:
    """Products of other categories that customers buy together with this one, as in `similar_products`."""
    row = slice(snapshot.same_basket.indptr[product], snapshot.same_basket.indptr[product + 1])
    found, weight = snapshot.same_basket.indices[row].astype(np.int64), snapshot.same_basket.data[row]
    category = snapshot.category[product]
    is_other = (snapshot.category[found] != category) | (snapshot.categories[category] == UNKNOWN)
    found, weight = found[is_other], weight[is_other]
    order = np.lexsort((found, -weight))
    return found[order], np.asarray(weight[order], np.float32)


def trending(snapshot: ProductSnapshot) -> Products:
    """Products with more recent buyers than expected, by the difference in standard deviations.

    score = (recent − expected) / √(expected + 1), for Poisson counts. The product's share of all buyers gives the
    expected number. It counts customers, not order lines: forty lines of one customer are no trend.
    """
    recent, total = float(snapshot.recent_buyers.sum()), max(float(snapshot.buyers.sum()), 1.0)
    expected = snapshot.buyers * (recent / total)
    score = np.asarray((snapshot.recent_buyers - expected) / np.sqrt(expected + 1), np.float32)
    order = np.lexsort((-snapshot.recent_buyers, -score))
    order = order[score[order] > 0]
    return order, score[order]
