"""Measurements of each unit, their totals, and the metrics computed from them; see `docs/experiments.md`."""

from __future__ import annotations

from dataclasses import dataclass, fields

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


@dataclass(frozen=True)
class Totals:
    """Everything that was logged for a variant, robots included.

    Attributes:
        exposures, units: Responses, and units with a response.
        switched: Units that saw more than one variant; 0 unless the experiments file was changed.
        robots: Units with too many products clicked in a day; excluded from comparisons.
        impressions, clicks, carts, purchases, returns: Events attributed to its responses or units.
        revenue, returned: Value of the purchases and of their returns.
        unpriced: Purchases without a price, which count as 0.
        simulated: Units of the traffic simulator.
    """

    exposures: int = 0
    units: int = 0
    switched: int = 0
    robots: int = 0
    impressions: int = 0
    clicks: int = 0
    carts: int = 0
    purchases: int = 0
    returns: int = 0
    revenue: float = 0.0
    returned: float = 0.0
    unpriced: int = 0
    simulated: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})
