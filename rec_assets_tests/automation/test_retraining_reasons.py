"""Why new models should be trained, as a table of new interactions and live accuracy."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from rec_assets.automation.retraining_reasons import retraining_reasons
from rec_assets.settings import RetrainingSettings

MONDAY = dt.date(2018, 1, 1)


def live(rates: list[float], products: float = 0.1, customers: float = 0.05) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "date": [MONDAY + dt.timedelta(days=number) for number in range(len(rates))],
            "hit_rate": rates,
            "unknown_products": products,
            "unknown_customers": customers,
        }
    )


USUAL = [0.30, 0.32, 0.31, 0.29, 0.30, 0.31, 0.30, 0.32]
REASONS: dict[str, tuple[int, pd.DataFrame, set[str]]] = {
    "nothing measured": (10, live([]), set()),
    "all as usual": (10, live(USUAL), set()),
    "enough new interactions": (50, live([]), {"new interactions"}),
    "just too few": (49, live([]), set()),
    "accuracy falls out of its band": (10, live([*USUAL, 0.2]), {"accuracy"}),
    "accuracy that rises is no reason": (10, live([*USUAL, 0.5]), set()),
    "too few days for a band": (10, live([*USUAL[:5], 0.1]), set()),
    "a day that could not be measured": (10, live([*USUAL, np.nan]), set()),
    "unknown products": (10, live(USUAL, products=0.5), {"unknown products"}),
    "unknown customers": (10, live(USUAL, customers=0.5), {"unknown customers"}),
    "all at once": (
        90,
        live([*USUAL, 0.1], 0.6, 0.6),
        {"new interactions", "accuracy", "unknown products", "unknown customers"},
    ),
}


@pytest.mark.parametrize(("lines", "measured", "kinds"), REASONS.values(), ids=REASONS)
def test_retraining_reasons(lines: int, measured: pd.DataFrame, kinds: set[str]) -> None:
    reasons = retraining_reasons(RetrainingSettings(), trained_interactions=1000, new_interactions=lines, live=measured)
    assert set(reasons) == kinds
    assert all(any(c.isdigit() for c in reason) for reason in reasons.values()), "reasons contain numbers"


def test_one_unusual_day_is_no_reason() -> None:
    measured = live(USUAL).assign(unknown_products=[0.1] * (len(USUAL) - 1) + [0.9])
    assert retraining_reasons(RetrainingSettings(), trained_interactions=1000, new_interactions=0, live=measured) == {}
