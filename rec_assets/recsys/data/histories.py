"""Customer histories as arrays: what customers bought or looked at, how often and how long ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.data.product_snapshot import ProductSnapshot

HISTORY_COLUMNS = ("customer_id", "product_id", "order_id", "age_days", "weight", "rating")


@dataclass(frozen=True)
class Histories:
    """Histories of n customers. Each of the N pairs is one (customer, product), sorted by customer and product.

    A line of weight 1 is a purchase. A smaller positive weight is a sign of interest (a click, a cart): it shows what
    the customer likes, but the product does not count as bought. A line of weight −1 is a return; returns are counted
    and have no pair. `customer_…` arrays have a value for each customer, and `line_…` arrays one for each line.

    Attributes:
        customer_ids: (n,) sorted.
        customer, product: (N,) positions of the pair's customer and product.
        line_pair, line_age, line_weight, line_orders_since: (L,) every line: its pair, its age in days, its weight, and
            the number of orders that the customer placed after it.
        order_lines: (N,) order lines of the pair; 0 if the customer never bought the product.
        days: (N,) distinct days on which the customer bought the product.
        last_age, first_age: (N,) days since the last and the first purchase; NaN for none.
        orders_since: (N,) orders that the customer placed since the last purchase; NaN for none.
        in_last_visit: (N,) whether the product is in the customer's last visit: the last order, or a later session.
        rating: (N,) mean rating; NaN if there are no ratings.
        customer_orders, customer_days, customer_last_age: (n,) over all purchases of the customer; 0 and NaN for none.
        customer_lines, customer_returns: (n,) kept and returned lines.
    """

    customer_ids: npt.NDArray[np.object_]
    customer: Longs
    product: Longs
    line_pair: Longs
    line_age: Floats
    line_weight: Floats
    line_orders_since: Floats
    order_lines: Floats
    days: Floats
    last_age: Floats
    first_age: Floats
    orders_since: Floats
    in_last_visit: Mask
    rating: Floats
    customer_orders: Floats
    customer_days: Floats
    customer_last_age: Floats
    customer_lines: Floats
    customer_returns: Floats

    @property
    def is_bought(self) -> Mask:
        """(N,) whether the customer bought the product."""
        return self.order_lines > 0

    def decayed_order_lines(self, half_life_days: float) -> Floats:
        """(N,) order lines of each pair, each counting 0.5 ** (age / half-life)."""
        return self._decayed(half_life_days, 1.0, np.where(self.line_weight < 1, np.float32(0), self.line_weight))

    def decayed_lines(self, half_life_days: float, order_decay: float = 1.0) -> Floats:
        """(N,) lines of each pair, each counting weight · 0.5 ** (age / half-life) · order_decay ** (orders since)."""
        return self._decayed(half_life_days, order_decay, self.line_weight)

    def _decayed(self, half_life_days: float, order_decay: float, line_weight: Floats) -> Floats:
        weight = line_weight * np.exp2(-self.line_age / np.float32(half_life_days))
        if order_decay < 1:
            weight = weight * np.float32(order_decay) ** self.line_orders_since
        return np.bincount(self.line_pair, weights=weight, minlength=len(self.product)).astype(np.float32)

    def slice(self, first: int, last: int) -> Histories:
        """The histories of the customers from position `first` up to, without, `last`."""
        last = min(last, len(self.customer_ids))
        pairs = slice(*np.searchsorted(self.customer, [first, last]))
        lines = (self.line_pair >= pairs.start) & (self.line_pair < pairs.stop)
        values = {}
        for name, value in vars(self).items():
            rows = lines if name.startswith("line_") else slice(first, last) if name.startswith("customer_") else pairs
            values[name] = value[rows]
        values["customer"] = values["customer"] - first
        values["line_pair"] = values["line_pair"] - pairs.start
        return Histories(**values)


def build_histories(lines: pd.DataFrame, snapshot: ProductSnapshot) -> Histories:
    """Aggregate lines (HISTORY_COLUMNS: net purchases, signs of interest and returns; age_days ≥ 0, weight ≤ 1).

    Lines of products that the snapshot lacks are left out, and so are customers who have only returns.
    """
    product = snapshot.positions(lines["product_id"])
    known = product >= 0
    if (lines["weight"] < 0).any():
        known &= lines["customer_id"].isin(lines.loc[known & (lines["weight"] >= 0), "customer_id"]).to_numpy()
    lines, product = lines[known], product[known]
    # Object arrays: numpy's text arrays make every id as wide as the longest one.
    customer, customer_ids = pd.factorize(lines["customer_id"].to_numpy(object), sort=True)
    order, _ = pd.factorize(lines["order_id"].to_numpy(object), sort=True)
    return histories_from_arrays(
        np.asarray(customer_ids, dtype=object), customer.astype(np.int64), product, order=order.astype(np.int64),
        age=lines["age_days"].to_numpy(np.float32), weight=lines["weight"].to_numpy(np.float32),
        rating=lines["rating"].to_numpy(np.float32), products=len(snapshot),
    )  # fmt: skip


def histories_from_arrays(
    customer_ids: npt.NDArray[np.object_], customer: Longs, product: Longs, *, order: Longs, age: Floats,
    weight: Floats, rating: Floats, products: int,
) -> Histories:  # fmt: skip
    """`build_histories` from arrays of L lines.

    Args:
        customer_ids: (n,) sorted.
        customer, product: (L,) positions.
        order: (L,) number of the order or session, distinct per customer. On one day, a greater number is later.
        age: (L,) whole days.
        weight: (L,) 1 for a purchase, less for a sign of interest, −1 for a return.
        rating: (L,) NaN for none.
        products: Number of all products.
    """
    n, is_return = len(customer_ids), weight < 0
    returns = np.bincount(customer[is_return], minlength=n).astype(np.float32)
    if is_return.any():
        kept = ~is_return
        customer, product, order = customer[kept], product[kept], order[kept]
        age, weight, rating = age[kept], weight[kept], rating[kept]
    pair_key = customer * products + product
    # Sums of floats depend on the order of lines, so there is one order.
    sorted_ = np.lexsort((order, age, pair_key))
    customer, pair_key = customer[sorted_], pair_key[sorted_]
    order, age, weight, rating = order[sorted_], age[sorted_], weight[sorted_], rating[sorted_]
    pairs, line_pair = np.unique(pair_key, return_inverse=True)
    count = len(pairs)
    since, in_last_visit = _orders_since(customer, age, order, weight >= 1)
    rated = ~np.isnan(rating)
    ratings = np.bincount(line_pair[rated], minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_rating = np.bincount(line_pair[rated], rating[rated], count) / ratings
    bought = weight >= 1
    buyer, bought_pair, bought_age, bought_order = customer[bought], line_pair[bought], age[bought], order[bought]
    return Histories(
        customer_ids=customer_ids,
        customer=pairs // max(products, 1),
        product=pairs % max(products, 1),
        line_pair=line_pair,
        line_age=age,
        line_weight=weight,
        line_orders_since=since,
        order_lines=np.bincount(bought_pair, minlength=count).astype(np.float32),
        days=_distinct(bought_pair, bought_age.astype(np.int64), count),
        last_age=_extreme(np.minimum, bought_pair, bought_age, count),
        first_age=_extreme(np.maximum, bought_pair, bought_age, count),
        orders_since=_extreme(np.minimum, bought_pair, since[bought], count),
        in_last_visit=np.bincount(line_pair[in_last_visit], minlength=count) > 0,
        rating=mean_rating.astype(np.float32),
        customer_orders=_distinct(buyer, bought_order, n),
        customer_days=_distinct(buyer, bought_age.astype(np.int64), n),
        customer_last_age=_extreme(np.minimum, buyer, bought_age, n),
        customer_lines=np.bincount(buyer, minlength=n).astype(np.float32),
        customer_returns=returns,
    )


def _orders_since(customer: Longs, age: Floats, order: Longs, is_bought: Mask) -> tuple[Floats, Mask]:
    """(L,) orders that the customer placed after each line; (L,) whether the line is in the last order or session."""
    latest_first = np.lexsort((-order, age, customer))
    ordered = np.stack([customer[latest_first], order[latest_first]])
    begins = np.append(True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0))[: len(order)]
    visit = np.cumsum(begins) - 1
    # A visit with a purchase is an order, whatever else the customer looked at in it.
    has_purchase = np.bincount(visit, weights=is_bought[latest_first]) > 0
    is_order, orders = has_purchase[visit], np.cumsum(has_purchase)[visit]
    first = np.searchsorted(ordered[0], ordered[0])  # the last visit of each line's customer
    before = orders[first] - is_order[first]
    since, in_last = np.empty(len(order), np.float32), np.empty(len(order), bool)
    since[latest_first] = orders - before - is_order
    in_last[latest_first] = visit == visit[first]
    return since, in_last


def _distinct(group: Longs, values: Longs, groups: int) -> Floats:
    """(groups,) number of distinct values (≥ 0) in each group."""
    numbers = int(values.max(initial=0)) + 1
    return np.bincount(np.unique(group * numbers + values) // numbers, minlength=groups).astype(np.float32)


def _extreme(ufunc: np.ufunc, group: Longs, values: Floats, groups: int) -> Floats:
    """(groups,) minimum or maximum of the values of each group; NaN for an empty group."""
    out = np.full(groups, np.nan, np.float32)
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    if len(present):
        out[present] = ufunc.reduceat(values[order], starts)
    return out
