"""Features: what the ranker sees of a (customer, product) pair on the as-of day. All float32, NaN = unknown.

A feature added here reaches training, batch scoring and the released model at once. Features are grouped by the
source whose voice they are, so that a score can be explained by the group that contributed most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rec_assets.recsys.histories import Histories
from rec_assets.recsys.product_state import Floats, ProductState

FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "own": (
        "own_score", "own_share", "own_decayed_30", "own_orders", "own_days", "own_last_age", "own_first_age",
        "own_interval", "own_due",
    ),
    "als": ("als_score", "als_relative"),
    "co_purchase": ("same_basket", "next_basket", "co_purchase_relative"),
    "content": ("content", "content_relative"),
    "category": ("category_taste", "category_score"),
    "popular": ("popularity", "recent_popularity", "trend", "buyers", "repeat_share", "product_interval"),
    "product": ("price", "product_age"),
    "customer": ("customer_orders", "customer_days", "customer_last_age", "customer_lines_per_order",
                 "customer_repeat"),
}  # fmt: skip
"""Feature names by group. "product" and "customer" describe one side of the pair; they are nobody's reason."""

FEATURES: tuple[str, ...] = tuple(name for names in FEATURE_GROUPS.values() for name in names)


@dataclass(frozen=True)
class SourceScores:
    """What each source thinks of every product, for a block of n customers; all (n, P), 0 = nothing to say."""

    own: Floats
    als: Floats
    same_basket: Floats
    next_basket: Floats
    content: Floats
    category: Floats

    @property
    def co_purchase(self) -> Floats:
        """Same basket and next basket together."""
        return self.same_basket + self.next_basket


def pair_features(
    customer: npt.NDArray[np.int64],
    product: npt.NDArray[np.int64],
    *,
    histories: Histories,
    scores: SourceScores,
    state: ProductState,
) -> Floats:
    """(pairs, len(FEATURES)) features of the pairs (customer[i], product[i]), columns in the order of FEATURES."""
    n, products = len(histories.customer_ids), len(state)
    own = _own_history(customer, product, histories, products)
    own_score = scores.own[customer, product]
    als = scores.als[customer, product]
    same, following = scores.same_basket[customer, product], scores.next_basket[customer, product]
    content = scores.content[customer, product]
    category_score = scores.category[customer, product]
    share_in_category = state.recent_orders / np.maximum(
        np.bincount(state.category, weights=state.recent_orders, minlength=len(state.categories))[state.category],
        1,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        taste = np.where(share_in_category[product] > 0, category_score / share_in_category[product], 0)
    recent_total, total = max(float(state.recent_orders.sum()), 1.0), max(float(state.orders.sum()), 1.0)
    trend = np.log((state.recent_orders / recent_total + 1e-6) / (state.orders / total + 1e-6))
    per_customer = np.bincount(histories.customer, weights=histories.orders, minlength=n)
    distinct = np.maximum(np.bincount(histories.customer, minlength=n), 1)

    values = {
        "own_score": own_score,
        "own_share": own_score / np.maximum(scores.own.sum(axis=1), 1e-12)[customer],
        **own,
        "als_score": als,
        "als_relative": als / _row_max(scores.als)[customer],
        "same_basket": same,
        "next_basket": following,
        "co_purchase_relative": (same + following) / _row_max(scores.co_purchase)[customer],
        "content": content,
        "content_relative": content / _row_max(scores.content)[customer],
        "category_taste": taste,
        "category_score": category_score,
        "popularity": np.log1p(state.orders)[product],
        "recent_popularity": np.log1p(state.recent_orders)[product],
        "trend": trend[product],
        "buyers": np.log1p(state.buyers)[product],
        "repeat_share": state.repeat_share[product],
        "product_interval": state.interval_days[product],
        "price": state.price[product],
        "product_age": state.age_days[product],
        "customer_orders": histories.customer_orders[customer],
        "customer_days": histories.customer_days[customer],
        "customer_last_age": histories.customer_last_age[customer],
        "customer_lines_per_order": (per_customer / np.maximum(histories.customer_orders, 1))[customer],
        "customer_repeat": (per_customer / distinct)[customer],
    }
    return np.stack([np.asarray(values[name], np.float32) for name in FEATURES], axis=1)


def _own_history(
    customer: npt.NDArray[np.int64], product: npt.NDArray[np.int64], histories: Histories, products: int
) -> dict[str, Floats]:
    """What the customer did with the product before; counts are 0 and ages NaN where nothing."""
    key = histories.customer * products + histories.product
    wanted = customer * products + product
    where = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    bought = key[where] == wanted if len(key) else np.zeros(len(wanted), bool)

    def take(values: Floats, otherwise: float) -> Floats:
        return np.where(bought, values[where], np.float32(otherwise)).astype(np.float32)

    span = histories.first_age - histories.last_age
    interval = np.where(histories.days > 1, span / np.maximum(histories.days - 1, 1), np.nan).astype(np.float32)
    return {
        "own_decayed_30": take(histories.decayed(30), 0),
        "own_orders": take(histories.orders, 0),
        "own_days": take(histories.days, 0),
        "own_last_age": take(histories.last_age, np.nan),
        "own_first_age": take(histories.first_age, np.nan),
        "own_interval": take(interval, np.nan),
        "own_due": take((histories.last_age / np.maximum(interval, 1)).astype(np.float32), np.nan),
    }


def _row_max(scores: Floats) -> Floats:
    return np.maximum(scores.max(axis=1, initial=0), 1e-9)
