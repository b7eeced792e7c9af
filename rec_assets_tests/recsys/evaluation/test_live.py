"""Live accuracy of a day with an obvious result, and its control band."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.evaluation.live import DEPTH, control_band, live_accuracy


def test_the_values_of_a_day_agree_with_a_calculation_by_hand() -> None:
    listed = pd.DataFrame([("a", f"p{n}") for n in range(DEPTH)] + [("b", f"p{n}") for n in range(DEPTH)],
                         columns=["customer_id", "product_id"])  # fmt: skip
    bought = pd.DataFrame(
        [("a", "p1"), ("a", "p1"), ("a", "p2"), ("b", "x"), ("new", "p3")], columns=["customer_id", "product_id"]
    )
    (day,) = live_accuracy(listed, bought, pd.Index(["p1", "p2", "p3"])).to_dict("records")
    assert day == {
        "customers": 2,
        "hit_rate": 0.5,
        "precision": 2 / (2 * DEPTH),
        "lines": 5,
        "unknown_products": 1 / 5,
        "unknown_customers": 1 / 5,
    }


def test_a_day_without_purchases_has_nan() -> None:
    nothing = pd.DataFrame({"customer_id": [], "product_id": []}, dtype=object)
    (day,) = live_accuracy(nothing, nothing, pd.Index([])).to_dict("records")
    assert day["customers"] == day["lines"] == 0
    assert np.isnan([day["hit_rate"], day["precision"], day["unknown_products"]]).all()


def test_the_band_is_three_standard_deviations_around_the_mean_of_the_last_four_weeks() -> None:
    band = control_band(pd.Series([9.0] * 5 + [0.2, 0.4] * 14))
    assert band is not None
    spread = pd.Series([0.2, 0.4] * 14).std()
    assert (band.low, band.high, band.days) == pytest.approx((0.3 - 3 * spread, 0.3 + 3 * spread, 28))
    assert band.contains(0.3) and not band.contains(-1)


def test_fewer_than_seven_days_have_no_band() -> None:
    assert control_band(pd.Series([0.3] * 6 + [np.nan] * 9)) is None
    assert control_band(pd.Series([0.3] * 7)) is not None


def test_a_model_without_factors_has_no_share_of_unknown_products() -> None:
    bought = pd.DataFrame({"customer_id": ["ann"], "product_id": ["p1"]})
    (day,) = live_accuracy(bought, bought, pd.Index([])).to_dict("records")
    assert np.isnan(day["unknown_products"])
    assert (day["hit_rate"], day["unknown_customers"]) == (1.0, 0.0)
