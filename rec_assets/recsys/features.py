"""Features: what the ranker sees of a (customer, product) pair on the as-of day. All float32, NaN = unknown.

A feature added here reaches training, batch scoring and the released model at once. Features are grouped by the
source whose voice they are, so that a score can be explained by the group that contributed most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from rec_assets.recsys.histories import Histories
from rec_assets.recsys.product_state import UNKNOWN, Floats, Ints, ProductState

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


def feature_matrix(candidates: pd.DataFrame) -> Floats:
    """(rows, len(FEATURES)) of a frame that has them as columns."""
    return candidates[list(FEATURES)].to_numpy(np.float32)


@dataclass(frozen=True)
class SourceScores:
    """What each source thinks of every product, for a block of n customers; all (n, P), 0 = nothing to say."""

    own: Floats
    als: Floats
    same_basket: Floats
    next_basket: Floats
    same_customer: Floats
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
    newest: sp.csr_matrix,
    state: ProductState,
) -> Floats:
    """Features of the pairs (customer[i], product[i]).

    Args:
        customer, product: Positions.
        histories: Of the block's n customers.
        scores: What the sources think of them, by their whole histories.
        newest: (n, P) their newest orders or sessions, weights summing to 1: `…_newest` says what the sources think of
            those alone.
        state: What is known of the products.

    Returns:
        (pairs, len(FEATURES)), columns in the order of FEATURES. `…_orders_since`: orders since the customer last
        bought the product, or one of its text, category or brand; NaN where never.
    """
    n, products = len(histories.customer_ids), len(state)
    own = _own_history(customer, product, histories, products)
    own_score = scores.own[customer, product]
    als = scores.als[customer, product]
    same, following = scores.same_basket[customer, product], scores.next_basket[customer, product]
    shared = scores.same_customer[customer, product]
    content = scores.content[customer, product]
    category_score = scores.category[customer, product]
    share_in_category = state.share_in_category[product]
    with np.errstate(divide="ignore", invalid="ignore"):
        taste = np.where(share_in_category > 0, category_score / share_in_category, 0)
    brand_taste = _taste(histories, state.brand, len(state.brands))
    brand_taste[:, state.brands == UNKNOWN] = 0
    content_newest = np.zeros(len(product), np.float32)
    has_text = state.text[product] >= 0
    text = state.text[product].astype(np.int64)
    content_newest[has_text] = _at(state.texts_of(newest) @ state.alike, customer[has_text], text[has_text])
    per_customer = np.bincount(histories.customer, weights=histories.orders, minlength=n)
    distinct = np.maximum(np.bincount(histories.customer, weights=histories.is_bought, minlength=n), 1)

    values = {
        "own_score": own_score,
        "own_share": own_score / np.maximum(scores.own.sum(axis=1), 1e-12)[customer],
        **own,
        "als_score": als,
        "als_relative": als / _row_max(scores.als)[customer],
        "same_basket": same,
        "next_basket": following,
        "co_purchase_relative": (same + following) / _row_max(scores.co_purchase)[customer],
        "same_basket_newest": _at(newest @ state.same_basket, customer, product),
        "next_basket_newest": _at(newest @ state.next_basket, customer, product),
        "same_customer": shared,
        "same_customer_relative": shared / _row_max(scores.same_customer)[customer],
        "same_customer_newest": _at(newest @ state.same_customer, customer, product),
        "content": content,
        "content_relative": content / _row_max(scores.content)[customer],
        "content_newest": content_newest,
        "text_orders_since": _orders_since(histories, state.text, customer, product),
        "category_taste": taste,
        "category_score": category_score,
        "category_orders_since": _orders_since(histories, state.known_category, customer, product),
        "brand_taste": brand_taste[customer, state.brand[product]],
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
    customer: npt.NDArray[np.int64], product: npt.NDArray[np.int64], histories: Histories, products: int
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


def _taste(histories: Histories, groups: Ints, count: int) -> Floats:
    """(n, count) the share of each customer's order lines that fall to each group of products."""
    taste = np.zeros((len(histories.customer_ids), count), np.float32)
    np.add.at(taste, (histories.customer, groups[histories.product]), histories.orders)
    return taste / np.maximum(taste.sum(axis=1, keepdims=True), 1)


def _orders_since(
    histories: Histories, groups: Ints, customer: npt.NDArray[np.int64], product: npt.NDArray[np.int64]
) -> Floats:
    """(pairs,) orders since the customer's last one from the product's group; NaN where none, or no group (-1)."""
    count = int(groups.max(initial=0)) + 1
    grouped = histories.is_bought & (groups[histories.product] >= 0)
    key = histories.customer[grouped] * count + groups[histories.product[grouped]]
    place = histories.last_place[grouped]
    order = np.lexsort((place, key))
    known, first = np.unique(key[order], return_index=True)
    wanted = np.where(groups[product] >= 0, customer * count + groups[product], -1)
    where = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    found = known[where] == wanted if len(known) else np.zeros(len(wanted), bool)
    return np.where(found, place[order][first][where] if len(known) else 0, np.nan).astype(np.float32)


def _price_relative(
    histories: Histories, state: ProductState, customer: npt.NDArray[np.int64], product: npt.NDArray[np.int64]
) -> Floats:
    """(pairs,) log of the product's price over the geometric mean of what the customer buys; NaN where unknown."""
    of_pair = state.log_price[histories.product]
    priced = np.isfinite(of_pair)
    n = len(histories.customer_ids)
    weight = np.bincount(histories.customer[priced], weights=histories.orders[priced], minlength=n)
    total = np.bincount(histories.customer[priced], weights=(histories.orders * of_pair)[priced], minlength=n)
    usual = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
    return np.asarray(state.log_price[product] - usual[customer], np.float32)


def _at(matrix: sp.csr_matrix, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Floats:
    """(pairs,) single entries of a sparse matrix."""
    if not len(rows):  # scipy would give a matrix
        return np.zeros(0, np.float32)
    return np.asarray(sp.csr_matrix(matrix)[rows, columns], np.float32).ravel()


def _row_max(scores: Floats) -> Floats:
    return np.maximum(scores.max(axis=1, initial=0), 1e-9)
