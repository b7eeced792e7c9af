"""Repeat purchase: products that the customer bought before, by how often and how long ago."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.retrieval.sources.base import (
    Baseline,
    CandidateSource,
    CustomerBlock,
    FeatureValues,
    ListItems,
    Pairs,
)


class RepeatPurchase(CandidateSource[Floats]):
    """Scores a product by the customer's own decayed order lines of it."""

    name = "repeat_purchase"
    features = (
        "repeat_score", "repeat_score_share", "repeat_decayed_30", "repeat_decayed_240", "repeat_order_lines",
        "repeat_days", "repeat_last_age", "repeat_first_age", "repeat_interval", "repeat_due", "repeat_orders_since",
    )  # fmt: skip
    baselines = (
        Baseline(
            "own purchases", "Products that the customer bought before; older orders count less.", ("repeat_score",)
        ),
    )

    def score(self, block: CustomerBlock) -> Floats:
        """(N,) decayed order lines of each pair of the histories."""
        return block.histories.decayed_order_lines(block.recipe.candidates.repeat_half_life_days)

    def propose(self, block: CustomerBlock) -> Pairs:
        """Everything in the histories, so that the evaluation can read the histories from the candidates."""
        return block.histories.customer, block.histories.product

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """Counts are 0, and ages NaN, for products that the customer never bought."""
        histories, score, products = block.histories, block.scores(self), len(block.snapshot)
        key = histories.customer * products + histories.product
        wanted = customer * products + product
        position = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
        bought = (key[position] == wanted) & histories.is_bought[position] if len(key) else np.zeros(len(wanted), bool)
        total = np.bincount(histories.customer, weights=score, minlength=len(block))

        def take(values: Floats, otherwise: float) -> Floats:
            return np.where(bought, values[position], np.float32(otherwise)).astype(np.float32)

        span = histories.first_age - histories.last_age
        interval = np.where(histories.days > 1, span / np.maximum(histories.days - 1, 1), np.nan).astype(np.float32)
        repeat_score = take(score, 0)
        return {
            "repeat_score": repeat_score,
            "repeat_score_share": repeat_score / np.maximum(total, 1e-12)[customer],
            "repeat_decayed_30": take(histories.decayed_order_lines(30), 0),
            "repeat_decayed_240": take(histories.decayed_order_lines(240), 0),
            "repeat_order_lines": take(histories.order_lines, 0),
            "repeat_days": take(histories.days, 0),
            "repeat_last_age": take(histories.last_age, np.nan),
            "repeat_first_age": take(histories.first_age, np.nan),
            "repeat_interval": take(interval, np.nan),
            "repeat_due": take((histories.last_age / np.maximum(interval, 1)).astype(np.float32), np.nan),
            "repeat_orders_since": take(histories.orders_since, np.nan),
        }

    def explains(self, items: ListItems) -> Mask:
        """The customer bought the product before."""
        return np.asarray(items.features["repeat_order_lines"] > 0, bool)

    def reason(self, items: ListItems, row: int) -> str:
        """For example "you buy this every week"; with fewer than three purchase days, when the last one was."""
        days = int(items.features["repeat_days"][row])
        if days >= 3:
            return f"you buy this {rhythm(float(items.features['repeat_interval'][row]))}"
        last = _ago(int(items.features["repeat_last_age"][row]))
        return f"you bought this twice, last {last}" if days == 2 else f"you bought this {last}"


def rhythm(days: float) -> str:
    """A mean interval in words: "every 3 weeks"."""
    if days < 1.5:
        return "nearly every day"
    if days < 10:
        return f"every {days:.0f} days" if round(days) != 7 else "every week"
    if days < 60:
        return f"every {days / 7:.0f} weeks" if round(days / 7) > 1 else "every week"
    return f"every {days / 30.4:.0f} months"


def _ago(days: int) -> str:
    if days == 0:
        return "today"
    if days < 14:
        return f"{days} day{'s' if days > 1 else ''} ago"
    return f"{round(days / 7)} weeks ago" if days < 60 else f"{round(days / 30.4)} months ago"
