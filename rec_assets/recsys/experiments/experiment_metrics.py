"""Measurements of each unit, and the metrics computed from them; `docs/experiments.md` defines both."""

from __future__ import annotations

from rec_assets.recsys.experiments.moments import Metric

PRIOR_SPEND = "prior_spend"
"""The covariate: value of the purchases in the weeks before the experiment."""

MEASUREMENTS = ("impressions", "clicks", "carts", "orders", "revenue", "returned", "buyer", "repeater", PRIOR_SPEND)
"""Measurements of a unit: products seen, clicked and put into the cart in responses of the experiment; orders, their
value and the returned part of it; whether the unit bought once, and on two days; purchases before the experiment."""

INTERLEAVED_CLICKS, TREATMENT_CLICKS = "interleaved_clicks", "treatment_clicks"
"""Clicks on products of interleaved responses, and those of them on products that the treatment's ranking added."""

PREFERENCE = Metric("clicks won from the control", TREATMENT_CLICKS, INTERLEAVED_CLICKS)
"""The metric of interleaving. Without a difference it is 0.5."""

METRICS = {
    "ctr": Metric("click-through rate", "clicks", "impressions"),
    "conversion": Metric("visitors who buy", "buyer"),
    "average_order_value": Metric("average order value", "revenue", "orders"),
    "revenue_per_visitor": Metric("revenue per visitor", "revenue"),
    "return_rate": Metric("return rate by value", "returned", "revenue", more_is_better=False),
    "repeat_purchase": Metric("visitors who buy again", "repeater"),
}
"""Name → metric, in display order."""
