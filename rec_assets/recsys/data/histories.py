"""Customer histories as arrays: what customers bought or looked at, how often and how long ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.compiled import compiled
from rec_assets.recsys.data.product_snapshot import ProductSnapshot

HISTORY_COLUMNS = ("customer_id", "product_id", "order_id", "age_days", "weight", "rating")


@dataclass(frozen=True)
class Histories:
    """Histories of n customers. Each of the N pairs is one (customer, product), sorted by customer and product.

    A line of weight 1 is a purchase. A smaller positive weight is a sign of interest (a click, a cart): it shows what
    the customer likes, but the product does not count as bought. A line of weight −1 is a return; returns are counted
    and have no pair. A line of weight −0.5 is a dismissal. `customer_…` arrays have a value for each customer, and
    `line_…` arrays one for each line.

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
        dismissed_customer, dismissed_product: (D,) positions of the pairs that a customer dismissed and has not bought
            since, sorted.
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
    dismissed_customer: Longs
    dismissed_product: Longs

    @property
    def is_bought(self) -> Mask:
        """(N,) whether the customer bought the product."""
        return self.order_lines > 0

    def decayed_order_lines(self, half_life_days: float) -> Floats:
        """(N,) order lines of each pair, each counting 0.5 ** (age / half-life)."""
        return self._decayed(half_life_days, 1.0, 1.0)

    def decayed_lines(self, half_life_days: float, order_decay: float = 1.0) -> Floats:
        """(N,) lines of each pair, each counting weight · 0.5 ** (age / half-life) · order_decay ** (orders since)."""
        return self._decayed(half_life_days, order_decay, 0.0)

    def _decayed(self, half_life_days: float, order_decay: float, least_weight: float) -> Floats:
        lines = self.line_pair, self.line_age, self.line_weight, self.line_orders_since, len(self.product)
        decays = np.float32(half_life_days), np.float32(order_decay), np.float32(least_weight)
        return np.asarray(_decayed(*lines, *decays))

    def slice(self, first: int, last: int) -> Histories:
        """The histories of the customers from position `first` up to, without, `last`."""
        last = min(last, len(self.customer_ids))
        pairs = slice(*np.searchsorted(self.customer, [first, last]))
        lines = (self.line_pair >= pairs.start) & (self.line_pair < pairs.stop)
        dismissed = slice(*np.searchsorted(self.dismissed_customer, [first, last]))
        rows_by_prefix = {"line_": lines, "customer_": slice(first, last), "dismissed_": dismissed}
        values = {}
        for name, value in vars(self).items():
            rows = next((rows for prefix, rows in rows_by_prefix.items() if name.startswith(prefix)), pairs)
            values[name] = value[rows]
        values["customer"] = values["customer"] - first
        values["dismissed_customer"] = values["dismissed_customer"] - first
        values["line_pair"] = values["line_pair"] - pairs.start
        return Histories(**values)


def build_histories(lines: pd.DataFrame, snapshot: ProductSnapshot) -> Histories:
    """Aggregate lines of customers.

    They have HISTORY_COLUMNS: net purchases, signs of interest, returns and dismissals, with age_days ≥ 0, weight ≤ 1.
    Bulk orders (weight 0) and lines of products that the snapshot lacks are left out, and so are customers who have
    only returns and dismissals.
    """
    product = snapshot.positions(lines["product_id"])
    known = (product >= 0) & (lines["weight"] != 0).to_numpy()
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
        weight: (L,) 1 for a purchase, less for a sign of interest, −1 for a return, −0.5 for a dismissal.
        rating: (L,) NaN for none.
        products: Number of all products.
    """
    n, is_negative = len(customer_ids), weight < 0
    returns, dismissed, dismissed_age = np.zeros(n, np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
    if is_negative.any():
        is_return, kept = weight <= -1, ~is_negative
        returns += np.bincount(customer[is_return], minlength=n)
        is_dismissal = is_negative & ~is_return
        dismissed, dismissed_age = customer[is_dismissal] * products + product[is_dismissal], age[is_dismissal]
        customer, product, order = customer[kept], product[kept], order[kept]
        age, weight, rating = age[kept], weight[kept], rating[kept]
    pair_key = customer * products + product
    # Sums of floats depend on the order of lines, so there is one order.
    sorted_ = np.lexsort((order, age, pair_key))
    customer, pair_key = customer[sorted_], pair_key[sorted_]
    order, age, weight, rating = order[sorted_], age[sorted_], weight[sorted_], rating[sorted_]
    latest_first = np.lexsort((-order, age, customer))
    since, in_last_visit = _orders_since(customer, order, weight, latest_first)
    line_pair, first_line, order_lines, days, last_age, first_age, orders_since, in_last, mean_rating = _sum_up_pairs(
        pair_key, age, weight, rating, since, in_last_visit
    )
    pair_customer, pair_product = np.divmod(pair_key[first_line], max(products, 1))
    customer_days, customer_last_age, customer_lines = _sum_up_customers(customer, age, weight, latest_first, n)
    bought = weight >= 1
    dismissed = _not_bought_since(dismissed, dismissed_age, pair_key[first_line], last_age)
    return Histories(
        customer_ids, pair_customer, pair_product, line_pair, age, weight, since, order_lines, days, last_age,
        first_age, orders_since, in_last, mean_rating,
        _distinct(customer[bought], order[bought], n), customer_days, customer_last_age, customer_lines, returns,
        *np.divmod(dismissed, max(products, 1)),
    )  # fmt: skip


def _not_bought_since(dismissed: Longs, age: Floats, pairs: Longs, last_age: Floats) -> Longs:
    """The distinct dismissed pairs without a purchase on the same day or later. `pairs` have lines, and are sorted."""
    if not len(dismissed):
        return dismissed
    place = np.minimum(np.searchsorted(pairs, dismissed), max(len(pairs) - 1, 0))
    was_bought = (pairs[place] == dismissed) & (last_age[place] <= age) if len(pairs) else np.zeros(len(age), bool)
    return np.unique(dismissed[~was_bought])


@compiled
def _orders_since(customer: Longs, order: Longs, weight: Floats, latest_first: Longs) -> tuple[Floats, Mask]:
    """(L,) orders that the customer placed after each line; (L,) whether the line is in the last order or session.

    `latest_first` are the lines sorted by customer, and the latest order or session of each first.
    """
    since, in_last_visit = np.empty(len(order), np.float32), np.empty(len(order), np.bool_)
    orders = begin = 0
    while begin < len(order):
        line = latest_first[begin]
        is_last = begin == 0 or customer[latest_first[begin - 1]] != customer[line]
        orders = 0 if is_last else orders
        # A visit with a purchase is an order, whatever else the customer looked at in it.
        end, has_purchase = begin, False
        while end < len(order):
            other = latest_first[end]
            if customer[other] != customer[line] or order[other] != order[line]:
                break
            since[other], in_last_visit[other] = orders, is_last
            has_purchase |= weight[other] >= 1
            end += 1
        orders += has_purchase
        begin = end
    return since, in_last_visit


@compiled
def _sum_up_pairs(
    pair_key: Longs, age: Floats, weight: Floats, rating: Floats, since: Floats, in_last_visit: Mask
) -> tuple[Longs, Longs, Floats, Floats, Floats, Floats, Floats, Mask, Floats]:
    """The pair of each line; of each pair, its first line, and the arrays of `Histories` from `order_lines` on.

    Lines are sorted by pair and age.
    """
    count = 0
    line_pair = np.empty(len(pair_key), np.int64)
    for line in range(len(pair_key)):
        count += line == 0 or pair_key[line] != pair_key[line - 1]
        line_pair[line] = count - 1
    first_line = np.empty(count, np.int64)
    order_lines, days = np.zeros(count, np.float32), np.zeros(count, np.float32)
    last_age, first_age = np.full(count, np.float32(np.nan)), np.full(count, np.float32(np.nan))
    orders_since, in_last = np.full(count, np.float32(np.nan)), np.zeros(count, np.bool_)
    ratings, rating_sum = np.zeros(count), np.zeros(count)
    for line in range(len(pair_key) - 1, -1, -1):
        first_line[line_pair[line]] = line
    for line in range(len(pair_key)):
        pair = line_pair[line]
        in_last[pair] |= in_last_visit[line]
        if not np.isnan(rating[line]):
            ratings[pair] += 1
            rating_sum[pair] += rating[line]
        if weight[line] < 1:
            continue
        if order_lines[pair] == 0:
            last_age[pair], orders_since[pair] = age[line], since[line]
        orders_since[pair] = min(orders_since[pair], since[line])
        days[pair] += order_lines[pair] == 0 or age[line] != first_age[pair]
        first_age[pair] = age[line]
        order_lines[pair] += 1
    mean_rating = np.empty(count, np.float32)
    for pair in range(count):
        mean_rating[pair] = rating_sum[pair] / ratings[pair]  # NaN without ratings
    return line_pair, first_line, order_lines, days, last_age, first_age, orders_since, in_last, mean_rating


@compiled
def _sum_up_customers(
    customer: Longs, age: Floats, weight: Floats, latest_first: Longs, customers: int
) -> tuple[Floats, Floats, Floats]:
    """Of each customer: days with a purchase, age of the last one, purchased lines."""
    days, lines = np.zeros(customers, np.float32), np.zeros(customers, np.float32)
    last_age, day = np.full(customers, np.float32(np.nan)), np.empty(customers, np.float32)
    for line in latest_first:
        buyer = customer[line]
        if weight[line] < 1:
            continue
        if lines[buyer] == 0:
            last_age[buyer] = age[line]
        days[buyer] += lines[buyer] == 0 or age[line] != day[buyer]
        day[buyer] = age[line]
        lines[buyer] += 1
    return days, last_age, lines


@compiled
def _decayed(
    line_pair: Longs, age: Floats, weight: Floats, orders_since: Floats, pairs: int, half_life_days: np.float32,
    order_decay: np.float32, least_weight: np.float32,
) -> Floats:  # fmt: skip
    total = np.zeros(pairs)
    for line in range(len(line_pair)):
        if weight[line] >= least_weight:
            decayed = weight[line] * np.exp2(-age[line] / half_life_days)
            if order_decay < 1:
                decayed *= order_decay ** orders_since[line]
            total[line_pair[line]] += decayed
    return total.astype(np.float32)


def _distinct(group: Longs, values: Longs, groups: int) -> Floats:
    """(groups,) number of distinct values (≥ 0) in each group."""
    numbers = int(values.max(initial=0)) + 1
    key = np.sort(group * numbers + values)
    is_new = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=is_new[1:])
    return np.bincount(key[is_new] // numbers, minlength=groups).astype(np.float32)
