"""What goes with a product, and what is on the rise: answers that need no shopper. All from the index's state."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.data.product_snapshot import UNKNOWN, Floats, Longs, ProductSnapshot
from rec_assets.recsys.retrieval.similar import likeness

DEARER = 1.05, 2.0
"""An upsell costs at least and at most so many times the product."""

Found = tuple[Longs, Floats]
"""Positions, best first, and their scores."""


def similar(state: ProductSnapshot, product: int) -> Found:
    """What could stand in for a product: of its category, alike in text and buyers, as in `similar_products`."""
    members = np.flatnonzero(state.category == state.category[product])
    members = members[members != product]
    score = likeness(state, np.array([product]), members)[0]
    order = np.lexsort((-state.orders[members], -score))
    order = order[score[order] > 0]
    return members[order], score[order]


def upsell(state: ProductSnapshot, product: int) -> Found:
    """Of what could stand in for a product, what is dearer; nothing where prices are unknown."""
    found, score = similar(state, product)
    with np.errstate(invalid="ignore", divide="ignore"):
        times = state.list_price[found] / state.list_price[product]
        dearer = (times >= DEARER[0]) & (times <= DEARER[1])
    return found[dearer], score[dearer]


def complements(state: ProductSnapshot, product: int) -> Found:
    """What is bought along with a product and serves another need (category), as in `similar_products`."""
    row = slice(state.same_basket.indptr[product], state.same_basket.indptr[product + 1])
    found, weight = state.same_basket.indices[row].astype(np.int64), state.same_basket.data[row]
    own = state.category[product]
    other = (state.category[found] != own) | (state.categories[own] == UNKNOWN)
    found, weight = found[other], weight[other]
    order = np.lexsort((found, -weight))
    return found[order], np.asarray(weight[order], np.float32)


def trending(state: ProductSnapshot) -> Found:
    """What more customers bought recently than before: recent buyers beyond those expected, in standard deviations.

    (recent − expected) / √(expected + 1), where a product's share of all buyers says what is expected; the counts are
    taken as Poisson's. Customers are counted, not lines: one customer's forty lines make no trend.
    """
    recent, total = float(state.recent_buyers.sum()), max(float(state.buyers.sum()), 1.0)
    expected = state.buyers * (recent / total)
    score = np.asarray((state.recent_buyers - expected) / np.sqrt(expected + 1), np.float32)
    order = np.lexsort((-state.recent_buyers, -score))
    order = order[score[order] > 0]
    return order, score[order]
