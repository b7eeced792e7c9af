"""The fixed blend: scores candidates by weights set by hand, for shops whose purchases can't train a ranker.

That is a shop that has just opened, or that sells nothing to anybody twice. First come products that the customer is
likely to buy again, then candidates that any source proposes to this customer, then best sellers, and last products
that the customer bought and that nobody buys twice. The weights are the same for every shop.
"""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES
from rec_assets.recsys.retrieval.sources import SOURCES

BUY_AGAIN = 6.0
"""Log-odds added for a product that the customer bought often and lately, if all of its buyers buy it again."""

BOUGHT_ONCE = -4.0
"""Log-odds added for a product that the customer bought, if neither its buyers nor this customer buy anything twice."""

INTERCEPT = -5.0
"""Log-odds of a product without any positive feature."""

WEIGHTS = {name: weight for source in SOURCES for name, weight in source.blend_weights}
"""Feature → log-odds added per unit."""


def contributions(features: Floats) -> Floats:
    """(rows, groups) log-odds that each group of FEATURE_GROUPS adds, from (rows, FEATURES).

    A bought product adds BUY_AGAIN · a · s / (1 + s). s is `repeat_score`. a is the larger of two shares: the buyers of
    the product who bought it again, and the customer's lines that repeat an earlier line. If a is 0, it adds
    BOUGHT_ONCE. Unknown and negative values add nothing.
    """
    values = dict(zip(FEATURES, np.nan_to_num(np.maximum(features, 0)).T, strict=True))
    added = {name: weight * values[name] for name, weight in WEIGHTS.items()}
    again = np.maximum(values["repeat_share"], 1 - 1 / np.maximum(values["customer_repeat"], 1))
    score = values["repeat_score"]
    bought = np.where(again > 0, BUY_AGAIN * again * score / (1 + score), BOUGHT_ONCE)
    added["repeat_score"] = np.where(values["repeat_order_lines"] > 0, bought, 0)
    zeros = np.zeros(len(features), np.float32)
    groups = [sum((added[name] for name in names if name in added), zeros) for names in FEATURE_GROUPS.values()]
    return np.stack(groups, axis=1).astype(np.float32)


def score(features: Floats) -> Floats:
    """(rows,) scores between 0 and 1 from (rows, FEATURES). They order candidates and estimate no probability."""
    return np.asarray(1 / (1 + np.exp(-(INTERCEPT + contributions(features).sum(axis=1)))), np.float32)
