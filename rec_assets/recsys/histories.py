"""Customers' purchase histories as arrays: what, how often, how long ago. Input of every candidate source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from rec_assets.recsys.product_state import ProductState

HISTORY_COLUMNS = ("customer_id", "product_id", "order_id", "age_days", "rating")


@dataclass(frozen=True)
class Histories:
    """Histories of n customers: one entry per (customer, product) pair, N pairs, sorted by customer, product.

    Attributes:
        customer_ids: (n,) sorted.
        customer, product: (N,) positions of the pair's customer and product.
        line_pair, line_age, line_place: (L,) every order line: its pair, its age in days, and how many orders the
            customer placed after it.
        orders: (N,) order lines of the pair.
        days: (N,) distinct days on which the customer bought the product.
        last_age, first_age: (N,) days since the newest and oldest purchase.
        last_place: (N,) orders the customer placed since the newest purchase.
        rating: (N,) mean rating, NaN where the source has none.
        customer_orders, customer_days, customer_last_age, customer_first_age: (n,) of all their purchases.
    """

    customer_ids: npt.NDArray[np.object_]
    customer: npt.NDArray[np.int64]
    product: npt.NDArray[np.int64]
    line_pair: npt.NDArray[np.int64]
    line_age: npt.NDArray[np.float32]
    line_place: npt.NDArray[np.float32]
    orders: npt.NDArray[np.float32]
    days: npt.NDArray[np.float32]
    last_age: npt.NDArray[np.float32]
    first_age: npt.NDArray[np.float32]
    last_place: npt.NDArray[np.float32]
    rating: npt.NDArray[np.float32]
    customer_orders: npt.NDArray[np.float32]
    customer_days: npt.NDArray[np.float32]
    customer_last_age: npt.NDArray[np.float32]
    customer_first_age: npt.NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """(customers, pairs)."""
        return len(self.customer_ids), len(self.product)

    def decayed(self, half_life_days: float, order_decay: float = 1.0) -> npt.NDArray[np.float32]:
        """(N,) orders of each pair, each counting 0.5 ** (age / half-life) · order_decay ** (later orders)."""
        weight = np.exp2(-self.line_age / np.float32(half_life_days))
        if order_decay < 1:
            weight = weight * np.float32(order_decay) ** self.line_place
        return np.bincount(self.line_pair, weights=weight, minlength=len(self.product)).astype(np.float32)

    def matrix(self, values: npt.NDArray[np.float32], products: int) -> sp.csr_matrix:
        """(n, products) sparse matrix holding one value per pair."""
        return sp.csr_matrix((values, (self.customer, self.product)), shape=(len(self.customer_ids), products))


def build_histories(lines: pd.DataFrame, state: ProductState) -> Histories:
    """Aggregate order lines into histories.

    Args:
        lines: customer_id, product_id, order_id, age_days (≥ 0), rating; net purchases up to the as-of day.
        state: Gives the products' positions. Lines of products it doesn't know are left out.
    """
    product = state.positions(lines["product_id"])
    known = product >= 0
    lines, product = lines[known], product[known]
    customer_ids, customer = np.unique(lines["customer_id"].to_numpy(str), return_inverse=True)
    return histories_of(
        customer_ids.astype(object),
        customer.astype(np.int64),
        product,
        order=np.unique(lines["order_id"].to_numpy(str), return_inverse=True)[1].astype(np.int64),
        age=lines["age_days"].to_numpy(np.float32),
        rating=lines["rating"].to_numpy(np.float32),
        products=len(state),
    )


def histories_of(
    customer_ids: npt.NDArray[np.object_],
    customer: npt.NDArray[np.int64],
    product: npt.NDArray[np.int64],
    *,
    order: npt.NDArray[np.int64],
    age: npt.NDArray[np.float32],
    rating: npt.NDArray[np.float32],
    products: int,
) -> Histories:
    """The same from arrays.

    Args:
        customer_ids: (n,) sorted.
        customer, product: (L,) positions, of every order line.
        order: (L,) number of the order, which tells a customer's orders apart; of one day's the greater is the later.
        age: (L,) days, whole.
        rating: (L,) NaN where there is none.
        products: Count of all products.
    """
    pair_key = customer * products + product
    # One order of lines, whatever order they came in: sums of floats then always agree.
    sorted_ = np.lexsort((order, age, pair_key))
    customer, pair_key = customer[sorted_], pair_key[sorted_]
    order, age, rating = order[sorted_], age[sorted_], rating[sorted_]
    pairs, line_pair = np.unique(pair_key, return_inverse=True)
    count, n = len(pairs), len(customer_ids)
    pair_days = np.unique(line_pair.astype(np.int64) * 100_000 + age.astype(np.int64)) // 100_000
    customer_days = np.unique(customer * 100_000 + age.astype(np.int64)) // 100_000
    numbers = int(order.max(initial=0)) + 1
    customer_orders = np.unique(customer * numbers + order) // numbers
    place = _later_orders(customer, age, order)
    rated = ~np.isnan(rating)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_rating = np.bincount(line_pair[rated], rating[rated], count) / np.bincount(
            line_pair[rated], minlength=count
        )
    return Histories(
        customer_ids=customer_ids,
        customer=pairs // max(products, 1),
        product=pairs % max(products, 1),
        line_pair=line_pair,
        line_age=age,
        line_place=place,
        orders=np.bincount(line_pair, minlength=count).astype(np.float32),
        days=np.bincount(pair_days, minlength=count).astype(np.float32),
        last_age=_extreme(np.minimum, line_pair, age, count),
        first_age=_extreme(np.maximum, line_pair, age, count),
        last_place=_extreme(np.minimum, line_pair, place, count),
        rating=mean_rating.astype(np.float32),
        customer_orders=np.bincount(customer_orders, minlength=n).astype(np.float32),
        customer_days=np.bincount(customer_days, minlength=n).astype(np.float32),
        customer_last_age=_extreme(np.minimum, customer, age, n),
        customer_first_age=_extreme(np.maximum, customer, age, n),
    )


def _later_orders(
    customer: npt.NDArray[np.int64], age: npt.NDArray[np.float32], order: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """(L,) how many orders of the same customer came after a line's own; of one day's, the later in sorting order."""
    newest_first = np.lexsort((-order, age, customer))
    ordered = np.stack([customer[newest_first], order[newest_first]])
    begins = np.append(True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0))[: len(order)]
    number = np.cumsum(begins)
    first = np.searchsorted(ordered[0], ordered[0])  # each line's customer's newest
    place = np.empty(len(order), np.float32)
    place[newest_first] = number - number[first]
    return place


def _extreme(
    ufunc: np.ufunc, group: npt.NDArray[np.int64], values: npt.NDArray[np.float32], groups: int
) -> npt.NDArray[np.float32]:
    """(groups,) minimum or maximum of the values of each group; every group has at least one value."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(groups))
    return ufunc.reduceat(values[order], starts) if groups else np.zeros(0, np.float32)
