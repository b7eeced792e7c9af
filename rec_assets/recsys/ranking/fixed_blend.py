"""A blend of the sources that nothing was learned for: how candidates rank where the ranker has nothing to learn from.

Of a shop that sells nothing twice to anybody, or that has just opened. What the weights say: first what the customer
buys again, as far as this product, or this customer, is known for that; then what any source proposes to this customer;
then what sells; last what the customer has and nobody buys twice. They were set by hand, the same for every shop.
"""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.data.product_snapshot import Floats
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES

AGAIN = 6.0
"""What a product adds that the customer bought often and lately, if all of its buyers buy it again."""

HAS_IT = -4.0
"""What a product adds that the customer bought, if nobody bought it twice, and this customer nothing."""

WEIGHTS = {
    "als_relative": 1.0, "co_purchase_relative": 1.0, "same_customer_relative": 1.0, "content_relative": 1.0,
    "category_taste": 1.0, "brand_taste": 0.5, "recent_popularity": 0.3, "popularity": 0.1,
}  # fmt: skip
"""What each of these features adds to the log-odds, for each unit."""

NOTHING = -5.0
"""Log-odds of a product for which nothing speaks."""


def contributions(features: Floats) -> Floats:
    """(rows, groups) what each group of FEATURE_GROUPS adds to the log-odds, of (rows, FEATURES).

    What the customer bought adds AGAIN · a · s / (1 + s), with s its decayed orders and a the greater of two shares: of
    the product's buyers who bought it again, and of the customer's lines that repeat others. Where a is 0, HAS_IT.
    What is unknown, or negative, adds nothing.
    """
    of = dict(zip(FEATURES, np.nan_to_num(np.maximum(features, 0)).T, strict=True))
    added = {name: weight * of[name] for name, weight in WEIGHTS.items()}
    again = np.maximum(of["repeat_share"], 1 - 1 / np.maximum(of["customer_repeat"], 1))
    bought_again = np.where(again > 0, AGAIN * again * of["own_score"] / (1 + of["own_score"]), HAS_IT)
    added["own_score"] = np.where(of["own_orders"] > 0, bought_again, 0)
    nothing = np.zeros(len(features), np.float32)
    groups = [sum((added[name] for name in names if name in added), nothing) for names in FEATURE_GROUPS.values()]
    return np.stack(groups, axis=1).astype(np.float32)


def score(features: Floats) -> Floats:
    """(rows,) between 0 and 1, by (rows, FEATURES): an order, and no estimate of a probability."""
    return np.asarray(1 / (1 + np.exp(-(NOTHING + contributions(features).sum(axis=1)))), np.float32)
