"""What experiments measure: numbers of each unit, and metrics made of them; `docs/experiments.md` defines both."""

from __future__ import annotations

from rec_assets.recsys.experiments.statistics import Metric

NUMBERS = ("impressions", "clicks", "carts", "orders", "revenue", "returned", "buyer", "repeater", "before")
"""Of a unit: products seen, clicked and put into the basket in answers of the experiment; orders, their value and what
of it came back; whether it bought once and on two days; what it had bought before the experiment."""

BEFORE = "before"
"""The covariate: value of purchases in the weeks before the experiment's first day."""

JUDGED, WON = "judged", "won"
"""Clicks on products of mixed answers, and those of them on what the other ranking put in."""

PREFERENCE = Metric("clicks won from the control", WON, JUDGED)
"""What interleaving measures: without a difference, a half."""

METRICS = {
    "ctr": Metric("click-through rate", "clicks", "impressions"),
    "conversion": Metric("visitors who buy", "buyer"),
    "average_order_value": Metric("average order value", "revenue", "orders"),
    "revenue_per_visitor": Metric("revenue per visitor", "revenue"),
    "return_rate": Metric("returned, by value", "returned", "revenue", more_is_better=False),
    "repeat_purchase": Metric("visitors who buy again", "repeater"),
}
"""Name → metric, in the order in which they are shown."""
