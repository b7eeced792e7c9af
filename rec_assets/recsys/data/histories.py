"""Customers' histories as arrays: what they bought or looked at, how often, how long ago. Input of every source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.data.product_snapshot import ProductSnapshot

HISTORY_COLUMNS = ("customer_id", "product_id", "order_id", "age_days", "weight", "rating")


@dataclass(frozen=True)
class Histories:
    """Histories of n customers: one entry per (customer, product) pair, N pairs, sorted by customer, product.

    A line of weight 1 is a purchase; one of less is a sign of interest (a click, a cart), which counts where tastes are
    sought and nowhere else: such a product is not a bought one. One of weight −1 is a return, and only counted.

    Attributes:
        customer_ids: (n,) sorted.
        customer, product: (N,) positions of the pair's customer and product.
        line_pair, line_age, line_weight, line_place: (L,) every line: its pair, its age in days, its weight, and how
            many orders the customer placed after it.
        orders: (N,) order lines of the pair; 0 where the customer never bought the product.
        days: (N,) distinct days on which the customer bought the product.
        last_age, first_age: (N,) days since the newest and oldest purchase; NaN where none.
        last_place: (N,) orders the customer placed since the newest purchase; NaN where none.
        is_newest: (N,) whether the product is in the customer's newest order or session.
        rating: (N,) mean rating, NaN where the source has none.
        customer_orders, customer_days, customer_last_age, customer_first_age: (n,) of all their purchases; 0 and NaN
            where none.
        customer_lines, customer_returns: (n,) lines that they kept, and gave back.
    """

    customer_ids: npt.NDArray[np.object_]
    customer: npt.NDArray[np.int64]
    product: npt.NDArray[np.int64]
    line_pair: npt.NDArray[np.int64]
    line_age: npt.NDArray[np.float32]
    line_weight: npt.NDArray[np.float32]
    line_place: npt.NDArray[np.float32]
    orders: npt.NDArray[np.float32]
    days: npt.NDArray[np.float32]
    last_age: npt.NDArray[np.float32]
    first_age: npt.NDArray[np.float32]
    last_place: npt.NDArray[np.float32]
    is_newest: npt.NDArray[np.bool_]
    rating: npt.NDArray[np.float32]
    customer_orders: npt.NDArray[np.float32]
    customer_days: npt.NDArray[np.float32]
    customer_last_age: npt.NDArray[np.float32]
    customer_first_age: npt.NDArray[np.float32]
    customer_lines: npt.NDArray[np.float32]
    customer_returns: npt.NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """(customers, pairs)."""
        return len(self.customer_ids), len(self.product)

    @property
    def is_bought(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the customer bought the product."""
        return self.orders > 0

    def decayed(self, half_life_days: float) -> npt.NDArray[np.float32]:
        """(N,) orders of each pair, each counting 0.5 ** (age / half-life)."""
        return self._decayed(half_life_days, 1.0, np.where(self.line_weight < 1, np.float32(0), self.line_weight))

    def interest(self, half_life_days: float, order_decay: float = 1.0) -> npt.NDArray[np.float32]:
        """(N,) lines of each pair, each counting weight · 0.5 ** (age / half-life) · order_decay ** (later orders)."""
        return self._decayed(half_life_days, order_decay, self.line_weight)

    def _decayed(
        self, half_life_days: float, order_decay: float, of_line: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        weight = of_line * np.exp2(-self.line_age / np.float32(half_life_days))
        if order_decay < 1:
            weight = weight * np.float32(order_decay) ** self.line_place
        return np.bincount(self.line_pair, weights=weight, minlength=len(self.product)).astype(np.float32)


def build_histories(lines: pd.DataFrame, state: ProductSnapshot) -> Histories:
    """Aggregate order lines into histories.

    Args:
        lines: HISTORY_COLUMNS: net purchases, signs of interest and returns up to the as-of day; age_days ≥ 0,
            weight ≤ 1.
        state: Gives the products' positions. Lines of products it doesn't know are left out, and customers who have
            only given back.
    """
    product = state.positions(lines["product_id"])
    known = product >= 0
    if (lines["weight"] < 0).any():
        known &= lines["customer_id"].isin(lines.loc[known & (lines["weight"] >= 0), "customer_id"]).to_numpy()
    lines, product = lines[known], product[known]
    # Not as numpy's text, in which every id takes the room of the longest.
    customer, customer_ids = pd.factorize(lines["customer_id"].to_numpy(object), sort=True)
    order, _ = pd.factorize(lines["order_id"].to_numpy(object), sort=True)
    return histories_of(
        np.asarray(customer_ids, dtype=object),
        customer.astype(np.int64),
        product,
        order=order.astype(np.int64),
        age=lines["age_days"].to_numpy(np.float32),
        weight=lines["weight"].to_numpy(np.float32),
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
    weight: npt.NDArray[np.float32],
    rating: npt.NDArray[np.float32],
    products: int,
) -> Histories:
    """The same from arrays.

    Args:
        customer_ids: (n,) sorted.
        customer, product: (L,) positions, of every line.
        order: (L,) number of the order or session, which tells a customer's apart; of one day's the greater is later.
        age: (L,) days, whole.
        weight: (L,) 1 for a purchase, less for a sign of interest, −1 for a return.
        rating: (L,) NaN where there is none.
        products: Count of all products.
    """
    n, is_return = len(customer_ids), weight < 0
    returns = np.bincount(customer[is_return], minlength=n).astype(np.float32)
    if is_return.any():
        kept = ~is_return
        customer, product, order = customer[kept], product[kept], order[kept]
        age, weight, rating = age[kept], weight[kept], rating[kept]
    pair_key = customer * products + product
    # One order of lines, whatever order they came in: sums of floats then always agree.
    sorted_ = np.lexsort((order, age, pair_key))
    customer, pair_key = customer[sorted_], pair_key[sorted_]
    order, age, weight, rating = order[sorted_], age[sorted_], weight[sorted_], rating[sorted_]
    pairs, line_pair = np.unique(pair_key, return_inverse=True)
    count = len(pairs)
    place, is_newest = _places(customer, age, order, weight >= 1)
    rated = ~np.isnan(rating)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_rating = np.bincount(line_pair[rated], rating[rated], count) / np.bincount(
            line_pair[rated], minlength=count
        )
    bought = weight >= 1
    buyer, bought_pair, bought_age, bought_order = customer[bought], line_pair[bought], age[bought], order[bought]
    return Histories(
        customer_ids=customer_ids,
        customer=pairs // max(products, 1),
        product=pairs % max(products, 1),
        line_pair=line_pair,
        line_age=age,
        line_weight=weight,
        line_place=place,
        orders=np.bincount(bought_pair, minlength=count).astype(np.float32),
        days=_distinct(bought_pair, bought_age.astype(np.int64), count),
        last_age=_extreme(np.minimum, bought_pair, bought_age, count),
        first_age=_extreme(np.maximum, bought_pair, bought_age, count),
        last_place=_extreme(np.minimum, bought_pair, place[bought], count),
        is_newest=np.bincount(line_pair[is_newest], minlength=count) > 0,
        rating=mean_rating.astype(np.float32),
        customer_orders=_distinct(buyer, bought_order, n),
        customer_days=_distinct(buyer, bought_age.astype(np.int64), n),
        customer_last_age=_extreme(np.minimum, buyer, bought_age, n),
        customer_first_age=_extreme(np.maximum, buyer, bought_age, n),
        customer_lines=np.bincount(buyer, minlength=n).astype(np.float32),
        customer_returns=returns,
    )


def _places(
    customer: npt.NDArray[np.int64],
    age: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    is_bought: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(L,) how many orders of the same customer came after a line's own, and (L,) whether nothing at all came after."""
    newest_first = np.lexsort((-order, age, customer))
    ordered = np.stack([customer[newest_first], order[newest_first]])
    begins = np.append(True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0))[: len(order)]
    visit = np.cumsum(begins) - 1
    # A visit in which anything was bought is an order, whatever else was looked at in it.
    holds_purchase = np.bincount(visit, weights=is_bought[newest_first]) > 0
    is_order, orders = holds_purchase[visit], np.cumsum(holds_purchase)[visit]
    first = np.searchsorted(ordered[0], ordered[0])  # each line's customer's newest
    before = orders[first] - is_order[first]
    place, is_newest = np.empty(len(order), np.float32), np.empty(len(order), bool)
    place[newest_first] = orders - before - is_order
    is_newest[newest_first] = visit == visit[first]
    return place, is_newest


def _distinct(group: npt.NDArray[np.int64], values: npt.NDArray[np.int64], groups: int) -> npt.NDArray[np.float32]:
    """(groups,) how many distinct values (≥ 0) each group has."""
    numbers = int(values.max(initial=0)) + 1
    return np.bincount(np.unique(group * numbers + values) // numbers, minlength=groups).astype(np.float32)


def _extreme(
    ufunc: np.ufunc, group: npt.NDArray[np.int64], values: npt.NDArray[np.float32], groups: int
) -> npt.NDArray[np.float32]:
    """(groups,) minimum or maximum of the values of each group; NaN of an empty one."""
    out = np.full(groups, np.nan, np.float32)
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    if len(present):
        out[present] = ufunc.reduceat(values[order], starts)
    return out
