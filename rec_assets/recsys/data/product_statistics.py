"""Product statistics of a window: order lines, buyers, repeat purchases, prices and returns of each product."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.spark.customers import map_customers
from rec_assets.recsys.spark.grouping import aggregate
from rec_assets.recsys.spark.sums import halves, halves_of, sum_of_halves

_BATCH = 4096
"""Customers whose sums a task makes at a time."""

_COUNTS = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers", "returns")
_SUMS = (*_COUNTS, "repeaters", "spans", "gaps", *halves_of("revenue", "priced"))
_PARTIAL = f"product_id string, {', '.join(f'{name} double' for name in _SUMS)}"
_COLUMNS = ("customer_id", "product_id", "age_days", "weight", "quantity", "unit_price")


def product_statistics(histories: DataFrame | LazyArrowRows, *, recent_days: int) -> pd.DataFrame:
    """One row per product bought or returned in the window; 0 order lines if all were returned.

    Args:
        histories: `interactions.customer_histories`.
        recent_days: Ages 0 … recent_days - 1 count as recent.

    Returns:
        product_id, order_lines, recent_order_lines, recent_buyers (distinct customers with a recent purchase),
        new_buyers (customers whose first purchase is recent), buyers (distinct customers), repeat_share (share of
        buyers who bought on more than one day), interval_days (their mean gap between purchase days, null if nobody
        bought twice), price (mean unit price, null if unknown), revenue, returns (lines); sorted by product_id.
    """
    by_batch = map_customers(histories.select(*_COLUMNS), _sums_of_customers(recent_days), _PARTIAL, customers=_BATCH)
    sums = aggregate(by_batch, ["product_id"], dict.fromkeys(_SUMS, "sum"), within="product_id").to_spark().toPandas()
    sums = sums.sort_values("product_id", ignore_index=True)
    revenue, priced = (sum_of_halves(sums, name) for name in ("revenue", "priced"))
    has_buyers = sums["buyers"] > 0
    return pd.DataFrame(
        {
            "product_id": sums["product_id"],
            **{name: sums[name].astype(np.int64) for name in _COUNTS},
            "repeat_share": (sums["repeaters"] / sums["buyers"]).fillna(0.0),
            "interval_days": sums["spans"] / sums["gaps"].where(sums["gaps"] > 0),
            "price": revenue / priced.where(priced > 0),
            "revenue": revenue.where(has_buyers & (priced > 0)),
        }
    )


def _sums_of_customers(recent_days: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A function from the lines of whole customers to sums of each product, _PARTIAL."""

    def add_up(lines: pd.DataFrame) -> pd.DataFrame:
        product, products = pd.factorize(lines["product_id"])
        customer, _ = pd.factorize(lines["customer_id"])
        age, weight = lines["age_days"].to_numpy(), lines["weight"].to_numpy()
        n, bought = len(products), np.flatnonzero(weight >= 1)
        pair = customer * np.int64(n) + product
        line = bought[np.lexsort((age[bought], pair[bought]))]
        first = np.flatnonzero(np.diff(pair[line], prepend=-1))
        last = np.append(first[1:], len(line))[: len(first)] - 1
        of_pair, sorted_age = product[line[first]], age[line]
        is_day = np.diff(sorted_age, prepend=-1) != 0
        is_day[first] = True
        days = np.add.reduceat(is_day, first, dtype=np.int64)
        youngest, oldest = sorted_age[first], sorted_age[last]

        def count(group: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(group, values, minlength=n).astype(float)

        quantity, price = lines["quantity"].to_numpy()[line], lines["unit_price"].to_numpy(float)[line]
        money = halves("revenue", quantity * price) | halves("priced", np.where(np.isnan(price), np.nan, quantity))
        sums = {
            "order_lines": count(product[line]),
            "recent_order_lines": count(product[line[sorted_age < recent_days]]),
            "recent_buyers": count(of_pair[youngest < recent_days]),
            "new_buyers": count(of_pair[oldest < recent_days]),
            "buyers": count(of_pair),
            "returns": count(product[weight <= -1]),
            "repeaters": count(of_pair[days > 1]),
            "spans": count(of_pair, np.where(days > 1, oldest - youngest, 0)),
            "gaps": count(of_pair, days - 1),
            **{name: count(product[line], np.nan_to_num(values)) for name, values in money.items()},
        }
        found = pd.DataFrame({"product_id": products, **sums})
        return found[(found["buyers"] > 0) | (found["returns"] > 0)]

    return add_up
