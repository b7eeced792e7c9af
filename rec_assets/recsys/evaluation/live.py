"""Live accuracy: what was recommended yesterday and bought today, day after day, and when that leaves its usual band.

Unlike the report, it needs no horizon to pass: it tells the day after that something broke.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

DEPTH = 10
BAND_DAYS = 28
BAND_LEAST = 7
BAND_WIDTH = 3.0


@dataclass(frozen=True)
class Band:
    """Where a day's value usually lies.

    Attributes:
        low, high: Its ends.
        days: Days it rests on.
    """

    low: float
    high: float
    days: int

    def holds(self, value: float) -> bool:
        """Whether a value lies within."""
        return self.low <= value <= self.high


def live_accuracy(shown: pd.DataFrame, bought: pd.DataFrame, known_products: pd.Index) -> pd.DataFrame:
    """One day, measured.

    Args:
        shown: customer_id, product_id: the first DEPTH places of the lists "all" that customers saw; those who bought
            nothing that day may be left out.
        bought: customer_id, product_id: the day's purchase lines.
        known_products: Products that the model has factors of.

    Returns:
        One row: customers (who bought and had a list), hit_rate (share of them who bought something shown), precision
        (bought places / places), lines, unknown_products and unknown_customers (shares of the day's lines whose product
        the model, or whose customer the lists, don't know). NaN where there is nobody to judge by. unknown_products is
        NaN also where the model has no factors: that is no sign of age.
    """
    pairs = bought[["customer_id", "product_id"]].drop_duplicates()
    seen = pairs["customer_id"].isin(shown["customer_id"])
    hits = pairs[seen].merge(shown, on=["customer_id", "product_id"])
    customers = pairs.loc[seen, "customer_id"].nunique()
    lines = len(bought)
    unknown = ~bought["product_id"].isin(known_products)

    def share(count: float, of: float) -> float:
        return count / of if of else np.nan

    row = {
        "customers": customers,
        "hit_rate": share(hits["customer_id"].nunique(), customers),
        "precision": share(len(hits), customers * DEPTH),
        "lines": lines,
        "unknown_products": share(unknown.sum(), lines) if len(known_products) else np.nan,
        "unknown_customers": share((~bought["customer_id"].isin(shown["customer_id"])).sum(), lines),
    }
    return pd.DataFrame([row])


def control_band(values: pd.Series) -> Band | None:
    """The band of the next day's value: mean ± 3 standard deviations of the days before (Shewhart 1931).

    Args:
        values: Of the days before, oldest first; NaN where a day could not be measured. The last BAND_DAYS count.

    Returns:
        None with fewer than BAND_LEAST days: too few to say what is usual.
    """
    known = values.dropna().tail(BAND_DAYS)
    if len(known) < BAND_LEAST:
        return None
    mean, spread = float(known.mean()), float(known.std(ddof=1))
    return Band(mean - BAND_WIDTH * spread, mean + BAND_WIDTH * spread, len(known))
