"""Whom a report or a gate looks at: all or, where they are many, a fixed sample that fits into one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rec_assets.recsys.ranking.training import hash_below

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


@dataclass(frozen=True, eq=False)
class EvaluatedCustomers:
    """Customers who are judged.

    Attributes:
        bought: customer_id, product_id; the distinct pairs that they bought.
        buyers: Number of customers who bought anything, of whom these are the sample.
    """

    bought: DataFrame
    buyers: int

    def of(self, frame: DataFrame) -> DataFrame:
        """The rows of a frame that are of these customers."""
        from pyspark.sql import functions as F

        return frame.join(F.broadcast(self.bought.select("customer_id").distinct()), "customer_id", "left_semi")


def sample_customers(outcome: DataFrame, most: int) -> EvaluatedCustomers:
    """About `most` of the customers in `outcome`, or all where there are fewer.

    Args:
        outcome: Net purchases of the days that judge.
        most: Customers that one process can hold.
    """
    buyers = outcome.select("customer_id").distinct().count()
    sampled = outcome.where(among(buyers, most))
    return EvaluatedCustomers(sampled.select("customer_id", "product_id").distinct().persist(), buyers)


def among(customers: int, most: int) -> Column:
    """Whether a row's customer is one of about `most` of so many; hashes of ids decide, in all frames alike."""
    return hash_below(min(1.0, most / max(customers, 1)), "customer_id")
