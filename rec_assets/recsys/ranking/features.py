"""Features: what the ranker sees of a (customer, product) pair on the as-of day. All float32, NaN = unknown.

A feature added here reaches training, batch scoring and the released model at once. Features are grouped by the
source whose voice they are, so that a score can be explained by the group that contributed most.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.data.product_snapshot import Floats, Ints, Longs, ProductSnapshot
from rec_assets.recsys.retrieval.source_scores import Scores, SourceScores, sums

FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "own": (
        "own_score", "own_share", "own_decayed_30", "own_decayed_240", "own_orders", "own_days", "own_last_age",
        "own_first_age", "own_interval", "own_due", "own_orders_since",
    ),
    "als": ("als_score", "als_relative"),
    "co_purchase": ("same_basket", "next_basket", "co_purchase_relative", "same_basket_newest", "next_basket_newest"),
    "same_customer": ("same_customer", "same_customer_relative", "same_customer_newest"),
    "content": ("content", "content_relative", "content_newest", "text_orders_since"),
    "category": ("category_taste", "category_score", "category_orders_since"),
    "brand": ("brand_taste", "brand_orders_since"),
    "popular": ("popularity", "recent_popularity", "trend", "buyers", "new_buyers", "repeat_share",
                "product_interval"),
    "product": ("price", "price_relative", "product_age"),
    "customer": ("customer_orders", "customer_days", "customer_last_age", "customer_lines_per_order",
                 "customer_repeat"),
}  # fmt: skip
"""Feature names by group. "product" and "customer" describe one side of the pair; they are nobody's reason."""

FEATURES: tuple[str, ...] = tuple(name for names in FEATURE_GROUPS.values() for name in names)


def feature_matrix(candidates: pd.DataFrame, needed: Collection[str] = FEATURES) -> Floats:
    """(rows, len(FEATURES)) of a frame that has them as columns; NaN for one that is neither there nor needed.

    Raises:
        ValueError: the frame lacks a feature that is needed: an earlier version of the code made it.
    """
    if missing := missing_features(candidates.columns, needed):
        raise ValueError(missing)
    return candidates.reindex(columns=list(FEATURES)).to_numpy(np.float32)


def missing_features(columns: Collection[str], needed: Collection[str] = FEATURES) -> str:
    """What candidates with these columns lack of the features that are needed and this code computes; "" for nothing.

    In words, with what to do.
    """
    missing = [name for name in FEATURES if name in needed and name not in columns]
    if not missing:
        return ""
    return (
        f"these candidates were made by an earlier version, without {', '.join(missing)}: make the candidates of that "
        "day anew with the job `find`"
    )


def pair_features(
    customer: Longs,
    product: Longs,
    *,
    histories: Histories,
    scores: SourceScores,
    state: ProductSnapshot,
) -> Floats:
    """Features of the pairs (customer[i], product[i]).

    Args:
        customer, product: Positions.
        histories: Of the block's n customers.
        scores: What the sources think of them.
        state: What is known of the products.

    Returns:
        (pairs, len(FEATURES)), columns in the order of FEATURES. `…_orders_since`: orders since the customer last
        bought the product, or one of its text, category or brand; NaN where never.
    """
    n, whole, newest = len(histories.customer_ids), scores.whole, scores.newest
    own = _own_history(customer, product, histories, scores.own, len(state))
    own_total = np.bincount(histories.customer, weights=scores.own, minlength=n)
    als, shared, content = (each.of(customer, product) for each in (scores.als, whole.same_customer, whole.content))
    same, following = whole.same_basket.of(customer, product), whole.next_basket.of(customer, product)
    share_in_category = state.share_in_category[product]
    taste = np.where(share_in_category > 0, scores.category_taste[customer, state.category[product]], 0)
    brand_taste = sums(histories.customer, state.brand[histories.product], histories.orders, (n, len(state.brands)))
    brand_taste /= np.maximum(brand_taste.sum(axis=1, keepdims=True), 1)
    per_customer = np.bincount(histories.customer, weights=histories.orders, minlength=n)
    distinct = np.maximum(np.bincount(histories.customer, weights=histories.is_bought, minlength=n), 1)

    values = {
        **own,
        "own_share": own["own_score"] / np.maximum(own_total, 1e-12)[customer],
        "als_score": als,
        "als_relative": als / _highest(scores.als)[customer],
        "same_basket": same,
        "next_basket": following,
        "co_purchase_relative": (same + following) / _highest(whole.co_purchase)[customer],
        "same_basket_newest": newest.same_basket.of(customer, product),
        "next_basket_newest": newest.next_basket.of(customer, product),
        "same_customer": shared,
        "same_customer_relative": shared / _highest(whole.same_customer)[customer],
        "same_customer_newest": newest.same_customer.of(customer, product),
        "content": content,
        "content_relative": content / _highest(whole.content)[customer],
        "content_newest": newest.content.of(customer, product),
        "text_orders_since": _orders_since(histories, state.text, customer, product),
        "category_taste": taste,
        "category_score": taste * share_in_category,
        "category_orders_since": _orders_since(histories, state.known_category, customer, product),
        "brand_taste": np.where(state.known_brand[product] >= 0, brand_taste[customer, state.brand[product]], 0),
        "brand_orders_since": _orders_since(histories, state.known_brand, customer, product),
        "popularity": np.log1p(state.orders[product]),
        "recent_popularity": np.log1p(state.recent_orders[product]),
        "trend": state.trend[product],
        "buyers": np.log1p(state.buyers[product]),
        "new_buyers": np.log1p(state.new_buyers[product]),
        "repeat_share": state.repeat_share[product],
        "product_interval": state.interval_days[product],
        "price": state.price[product],
        "price_relative": _price_relative(histories, state, customer, product),
        "product_age": state.age_days[product],
        "customer_orders": histories.customer_orders[customer],
        "customer_days": histories.customer_days[customer],
        "customer_last_age": histories.customer_last_age[customer],
        "customer_lines_per_order": (per_customer / np.maximum(histories.customer_orders, 1))[customer],
        "customer_repeat": (per_customer / distinct)[customer],
    }
    return np.stack([np.asarray(values[name], np.float32) for name in FEATURES], axis=1)


def _own_history(
    customer: Longs, product: Longs, histories: Histories, score: Floats, products: int
) -> dict[str, Floats]:
    """What the customer did with the product before; counts are 0 and ages NaN where nothing."""
    key = histories.customer * products + histories.product
    wanted = customer * products + product
    where = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    bought = (key[where] == wanted) & histories.is_bought[where] if len(key) else np.zeros(len(wanted), bool)

    def take(values: Floats, otherwise: float) -> Floats:
        return np.where(bought, values[where], np.float32(otherwise)).astype(np.float32)

    span = histories.first_age - histories.last_age
    interval = np.where(histories.days > 1, span / np.maximum(histories.days - 1, 1), np.nan).astype(np.float32)
    return {
        "own_score": take(score, 0),
        "own_decayed_30": take(histories.decayed(30), 0),
        "own_decayed_240": take(histories.decayed(240), 0),
        "own_orders": take(histories.orders, 0),
        "own_days": take(histories.days, 0),
        "own_last_age": take(histories.last_age, np.nan),
        "own_first_age": take(histories.first_age, np.nan),
        "own_interval": take(interval, np.nan),
        "own_due": take((histories.last_age / np.maximum(interval, 1)).astype(np.float32), np.nan),
        "own_orders_since": take(histories.last_place, np.nan),
    }


def _orders_since(histories: Histories, groups: Ints, customer: Longs, product: Longs) -> Floats:
    """(pairs,) orders since the customer's last one from the product's group; NaN where none, or no group (-1)."""
    count = len(groups)  # there are no more groups than products
    grouped = histories.is_bought & (groups[histories.product] >= 0)
    key = histories.customer[grouped] * count + groups[histories.product[grouped]]
    place = histories.last_place[grouped]
    order = np.lexsort((place, key))
    known, first = np.unique(key[order], return_index=True)
    wanted = np.where(groups[product] >= 0, customer * count + groups[product], -1)
    where = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    found = known[where] == wanted if len(known) else np.zeros(len(wanted), bool)
    return np.where(found, place[order][first][where] if len(known) else 0, np.nan).astype(np.float32)


def _price_relative(histories: Histories, state: ProductSnapshot, customer: Longs, product: Longs) -> Floats:
    """(pairs,) log of the product's price over the geometric mean of what the customer buys; NaN where unknown."""
    of_pair = state.log_price[histories.product]
    priced = np.isfinite(of_pair)
    n = len(histories.customer_ids)
    weight = np.bincount(histories.customer[priced], weights=histories.orders[priced], minlength=n)
    total = np.bincount(histories.customer[priced], weights=(histories.orders * of_pair)[priced], minlength=n)
    usual = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
    return np.asarray(state.log_price[product] - usual[customer], np.float32)


def _highest(scores: Scores) -> Floats:
    return np.maximum(scores.highest, 1e-9)
