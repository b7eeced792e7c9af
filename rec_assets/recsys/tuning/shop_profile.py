"""The profile of a shop: how often its customers buy, how much, and how often the same again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import DataFrame

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.spark.customers import map_customers

_BATCH = 4096
"""Customers whose sums a task makes at a time."""

_SUMS = ("customers", "days", "gaps", "gap_days", "pairs", "pair_days")
_TYPES = ", ".join(f"{name} bigint" for name in _SUMS)
_COLUMNS = ("customer_id", "product_id", "age_days", "weight")


@dataclass(frozen=True)
class ShopProfile:
    """Purchases of a window of days.

    Attributes:
        customers: Number of customers with a purchase.
        days: Mean number of days on which a customer bought.
        interval_days: Mean number of days between two such days; NaN if no customer has two.
        basket: Mean number of products that a customer buys on a day.
        repeat_share: Share of these that the customer had bought before.
    """

    customers: int
    days: float
    interval_days: float
    basket: float
    repeat_share: float

    def in_words(self) -> str:
        """The profile as sentences."""
        if not self.customers:
            return "Nobody has bought anything."
        days = "day" if self.days == 1 else "days"
        every = "" if math.isnan(self.interval_days) else f", with {self.interval_days:.1f} days in between"
        return (
            f"{self.customers:,} customers have bought, on {self.days:.1f} {days} each{every}. A basket has "
            f"{self.basket:.1f} products; the customer had bought {self.repeat_share:.0%} of them before."
        )


def profile_shop(histories: DataFrame | LazyArrowRows) -> ShopProfile:
    """The profile of a window, from `interactions.customer_histories`."""
    sums = map_customers(histories.select(*_COLUMNS), _add_up, _TYPES, customers=_BATCH).to_spark().toPandas().sum()
    customers, days, gaps, gap_days, pairs, pair_days = (int(sums[name]) for name in _SUMS)
    return ShopProfile(
        customers=customers,
        days=days / max(customers, 1),
        interval_days=gap_days / gaps if gaps else float("nan"),
        basket=pair_days / max(days, 1),
        repeat_share=1 - pairs / max(pair_days, 1),
    )


def _add_up(lines: pd.DataFrame) -> pd.DataFrame:
    """One row of _SUMS from the lines of whole customers."""
    bought = lines.loc[lines["weight"] >= 1, ["customer_id", "product_id", "age_days"]].drop_duplicates()
    ages = bought.drop_duplicates(["customer_id", "age_days"]).groupby("customer_id")["age_days"]
    of_customer = ages.agg(["size", "min", "max"])
    sums = {
        "customers": len(of_customer),
        "days": of_customer["size"].sum(),
        "gaps": (of_customer["size"] - 1).sum(),
        "gap_days": (of_customer["max"] - of_customer["min"]).sum(),
        "pairs": len(bought[["customer_id", "product_id"]].drop_duplicates()),
        "pair_days": len(bought),
    }
    return pd.DataFrame([sums])
