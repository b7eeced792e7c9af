"""Live accuracy: compare a day's purchases with the newest lists made before, and detect values outside a control band.

Unlike the evaluation report, it does not wait for a horizon: a failure is visible on the next day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

DEPTH = 10
BAND_DAYS = 28
MIN_BAND_DAYS = 7
BAND_WIDTH = 3.0
"""Standard deviations to each side of the mean."""


@dataclass(frozen=True)
class ControlBand:
    """The usual range of a daily value, computed from `days` days."""

    low: float
    high: float
    days: int

    def contains(self, value: float) -> bool:
        """Whether a value is in the band."""
        return self.low <= value <= self.high


def live_accuracy(listed: pd.DataFrame, bought: pd.DataFrame, known_products: pd.Index) -> pd.DataFrame:
    """Measure one day.

    Args:
        listed: customer_id, product_id: the first DEPTH items of the lists "all" of at least the customers who bought
            that day.
        bought: customer_id, product_id: the day's purchase lines.
        known_products: Products that the model has factors for.

    Returns:
        One row: customers (buyers with a list), hit_rate (share of them who bought an item of their list), precision
        (bought items / items), lines, unknown_products and unknown_customers (shares of the lines whose product has no
        factors or whose customer has no list). NaN without customers; unknown_products is also NaN if the model has no
        factors at all, which does not mean that it is old.
    """
    pairs = bought[["customer_id", "product_id"]].drop_duplicates()
    has_list = pairs["customer_id"].isin(listed["customer_id"])
    hits = pairs[has_list].merge(listed, on=["customer_id", "product_id"])
    customers = pairs.loc[has_list, "customer_id"].nunique()
    lines = len(bought)
    unknown = ~bought["product_id"].isin(known_products)

    def share(count: float, total: float) -> float:
        return count / total if total else np.nan

    row = {
        "customers": customers,
        "hit_rate": share(hits["customer_id"].nunique(), customers),
        "precision": share(len(hits), customers * DEPTH),
        "lines": lines,
        "unknown_products": share(unknown.sum(), lines) if len(known_products) else np.nan,
        "unknown_customers": share((~bought["customer_id"].isin(listed["customer_id"])).sum(), lines),
    }
    return pd.DataFrame([row])


def control_band(values: pd.Series) -> ControlBand | None:
    """The control band of the next day: mean ± 3 standard deviations of the last BAND_DAYS days (Shewhart 1931).

    Args:
        values: Of the days before, oldest first; NaN for days without a value.

    Returns:
        None with fewer than MIN_BAND_DAYS values.
    """
    known = values.dropna().tail(BAND_DAYS)
    if len(known) < MIN_BAND_DAYS:
        return None
    mean, spread = float(known.mean()), float(known.std(ddof=1))
    return ControlBand(mean - BAND_WIDTH * spread, mean + BAND_WIDTH * spread, len(known))
