"""Repeat purchase: products that the customer bought before, by how often and how long ago."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.compiled import compiled
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
        histories, score = block.histories, block.scores(self)
        total = np.bincount(histories.customer, weights=score, minlength=len(block))
        span = histories.first_age - histories.last_age
        interval = np.where(histories.days > 1, span / np.maximum(histories.days - 1, 1), np.nan).astype(np.float32)
        of_pairs: tuple[npt.NDArray[Any], ...] = (
            score, score / np.maximum(total, 1e-12)[histories.customer], histories.decayed_order_lines(30),
            histories.decayed_order_lines(240), histories.order_lines, histories.days, histories.last_age,
            histories.first_age, interval, histories.last_age / np.maximum(interval, 1), histories.orders_since,
        )  # fmt: skip
        values = np.empty((len(self.features), len(score) + 1), np.float32)
        for row, known in enumerate(of_pairs):
            values[row, :-1] = known
        values[:, -1] = 0, 0, 0, 0, 0, 0, np.nan, np.nan, np.nan, np.nan, np.nan  # not bought
        position = _bought_positions(histories.customer, histories.product, histories.is_bought, customer, product)
        return dict(zip(self.features, values[:, position], strict=True))

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


@compiled
def _bought_positions(
    known_customer: Longs, known_product: Longs, is_bought: Mask, customer: Longs, product: Longs
) -> Longs:
    """(pairs,) position of each pair among the known ones; -1 if it is not bought. Both are sorted."""
    out, place = np.full(len(product), -1, np.int64), 0
    for pair in range(len(product)):
        while place < len(known_product) and (
            known_customer[place] < customer[pair]
            or (known_customer[place] == customer[pair] and known_product[place] < product[pair])
        ):
            place += 1
        if (
            place < len(known_product)
            and known_customer[place] == customer[pair]
            and known_product[place] == product[pair]
            and is_bought[place]
        ):
            out[pair] = place
    return out
