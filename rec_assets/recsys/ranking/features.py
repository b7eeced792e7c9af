"""Features: what the ranker sees of a (customer, product) pair on the as-of day. All are float32, NaN = unknown.

Candidate sources define most features. Features of the product or the customer alone are defined here. Training, batch
scoring and serving all read FEATURES. A trained ranker keeps the features that it was trained on.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.compiled import compiled
from rec_assets.recsys.retrieval.sources import SOURCES
from rec_assets.recsys.retrieval.sources.base import CustomerBlock, FeatureGroup, FeatureValues


class ProductFeatures(FeatureGroup):
    """Price and age."""

    name = "product"
    features = ("price", "price_relative", "product_age")

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """`price_relative`: log of the price over the geometric mean price of the customer's order lines."""
        histories, snapshot = block.histories, block.snapshot
        lines = histories.customer, histories.product, histories.order_lines
        usual = _mean_log_prices(*lines, snapshot.log_price, len(block))
        return {
            "price": snapshot.price[product],
            "price_relative": snapshot.log_price[product] - usual[customer],
            "product_age": snapshot.age_days[product],
        }


@compiled
def _mean_log_prices(
    customer: Longs, product: Longs, order_lines: Floats, log_price: Floats, customers: int
) -> npt.NDArray[np.float64]:
    """(n,) of each customer's order lines; NaN for none with a price."""
    total, lines = np.zeros(customers), np.zeros(customers)
    for pair in range(len(customer)):
        price = log_price[product[pair]]
        if np.isfinite(price):
            total[customer[pair]] += order_lines[pair] * price
            lines[customer[pair]] += order_lines[pair]
    return total / lines


class CustomerFeatures(FeatureGroup):
    """How much, how often and how lately the customer buys."""

    name = "customer"
    features = ("customer_orders", "customer_days", "customer_last_age", "customer_lines_per_order", "customer_repeat")

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """`customer_repeat`: order lines per distinct product."""
        histories, n = block.histories, len(block)
        lines = np.bincount(histories.customer, weights=histories.order_lines, minlength=n)
        distinct = np.maximum(np.bincount(histories.customer, weights=histories.is_bought, minlength=n), 1)
        return {
            "customer_orders": histories.customer_orders[customer],
            "customer_days": histories.customer_days[customer],
            "customer_last_age": histories.customer_last_age[customer],
            "customer_lines_per_order": (lines / np.maximum(histories.customer_orders, 1))[customer],
            "customer_repeat": (lines / distinct)[customer],
        }


_GROUPS: tuple[FeatureGroup, ...] = (*SOURCES, ProductFeatures(), CustomerFeatures())

FEATURE_GROUPS: dict[str, tuple[str, ...]] = {group.name: group.features for group in _GROUPS if group.features}
"""Feature names by group. The groups "product" and "customer" are never the reason for an item."""

FEATURES: tuple[str, ...] = tuple(name for names in FEATURE_GROUPS.values() for name in names)


def pair_features(block: CustomerBlock, customer: Longs, product: Longs) -> Floats:
    """(pairs, len(FEATURES)) features of the pairs (customer[i], product[i]), given as positions."""
    values: FeatureValues = {}
    for group in _GROUPS:
        values |= group.compute_features(block, customer, product)
    out = np.empty((len(FEATURES), len(product)), np.float32)
    for row, name in enumerate(FEATURES):
        out[row] = values[name]
    return np.ascontiguousarray(out.T)


def feature_matrix(candidates: pd.DataFrame, needed: Collection[str] = FEATURES) -> Floats:
    """(rows, len(FEATURES)) from the columns of a frame; NaN for a feature that is missing and not needed.

    Raises:
        ValueError: the frame lacks a needed feature, because an earlier version made it.
    """
    if missing := missing_features(candidates.columns, needed):
        raise ValueError(missing)
    return candidates.reindex(columns=list(FEATURES)).to_numpy(np.float32)


def missing_features(columns: Collection[str], needed: Collection[str] = FEATURES) -> str:
    """An error message that names the needed features without a column and the job to run; "" if none is missing."""
    missing = [name for name in FEATURES if name in needed and name not in columns]
    if not missing:
        return ""
    return (
        f"these candidates were made by an earlier version, without {', '.join(missing)}: materialize the candidates "
        "of that day again with the job `generate_candidates`"
    )
