"""The customers of an evaluation: all of them, or a fixed sample that fits into one process."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.ranking.training import hash_below


@dataclass(frozen=True, eq=False)
class EvaluatedCustomers:
    """The evaluated customers.

    Attributes:
        purchases: customer_id, product_id; the distinct pairs that they bought.
        buyers: Number of all customers who bought something, sampled or not.
    """

    purchases: DataFrame
    buyers: int

    def select_from(self, frame: DataFrame) -> DataFrame:
        """The rows of a frame that belong to these customers."""
        return frame.join(F.broadcast(self.purchases.select("customer_id").distinct()), "customer_id", "left_semi")


def sample_customers(purchases: DataFrame, max_customers: int) -> EvaluatedCustomers:
    """A sample of about `max_customers` customers with net purchases in the horizon, or all if there are fewer."""
    buyers = purchases.select("customer_id").distinct().count()
    sampled = purchases.where(in_sample(buyers, max_customers))
    return EvaluatedCustomers(sampled.select("customer_id", "product_id").distinct().persist(), buyers)


def in_sample(customers: int, max_customers: int) -> Column:
    """Whether a row's customer is in the sample, by a hash of the id: the same in all frames."""
    return hash_below(min(1.0, max_customers / max(customers, 1)), "customer_id")
