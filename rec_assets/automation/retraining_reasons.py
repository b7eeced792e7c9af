"""When `retraining_needed` requests new models: new interactions, low live accuracy, unknown products or customers.

Dagster: freshness policies compare the age of an asset with the clock. They can't read row counts or metrics.
"""

from __future__ import annotations

import pandas as pd

from rec_assets.recsys.evaluation.live import control_band
from rec_assets.settings import RetrainingSettings

UNKNOWN_DAYS = 7
"""Days over which the share of purchases unknown to the model is averaged, because single days vary."""


def retraining_reasons(
    limits: RetrainingSettings, *, trained_interactions: int, new_interactions: int, live: pd.DataFrame
) -> dict[str, str]:
    """Why new models should be trained: kind of reason → sentence; empty if there is no reason.

    Args:
        limits: The limits of each reason.
        trained_interactions: Rows of `cleaned_interactions` that the last models were trained on.
        new_interactions: Rows of it after the as-of day of the last challenger.
        live: date, hit_rate, unknown_products and unknown_customers of the measured days, oldest first; may be empty.
    """
    reasons = {}
    share = new_interactions / max(trained_interactions, 1)
    if share >= limits.new_interactions_share:
        reasons["new interactions"] = (
            f"{new_interactions:,} interactions have landed since the last challenger, {share:.1%} of those that it "
            f"was trained on (limit {limits.new_interactions_share:.1%})"
        )
    if len(live):
        last, rate = live["date"].iloc[-1], float(live["hit_rate"].iloc[-1])
        band = control_band(live["hit_rate"].iloc[:-1])
        if band is not None and rate < band.low:
            reasons["accuracy"] = (
                f"on {last} {rate:.3f} of the customers bought a product of their newest list; the "
                f"control band is {band.low:.3f} to {band.high:.3f}"
            )
        for what, lack, limit in (
            ("products", "ALS factors", limits.unknown_product_share),
            ("customers", "a list", limits.unknown_customer_share),
        ):
            unknown = float(live[f"unknown_{what}"].tail(UNKNOWN_DAYS).mean())
            if unknown > limit:
                reasons[f"unknown {what}"] = (
                    f"{unknown:.1%} of the purchases of the last {min(UNKNOWN_DAYS, len(live))} measured days are of "
                    f"{what} without {lack} (limit {limit:.1%})"
                )
    return reasons
