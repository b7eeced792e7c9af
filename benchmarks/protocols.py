"""Evaluation protocols: each data set split into known purchases and later purchases.

The lines of a split never contain its truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.datasets import BEAUTY, FASHION, JOURNEY, amazon_beauty, complete_journey, fashion_shop
from rec_assets.recsys.evaluation.evaluate import ALL_PURCHASES, NOVEL_PURCHASES, make_slices

NEXT, COLD, NEW = "next item", "cold products", "new customers"

HORIZON_DAYS = 28
REPORTED = pd.Timestamp("2017-12-03")
EARLIER = tuple(REPORTED - pd.Timedelta(days=HORIZON_DAYS * back) for back in (1, 2, 3))
"""As-of days of the backtests before the reported one. Hyper-parameters are chosen on the first."""

SHUFFLES = (0, 1, 2)
"""Seeds of the order of same-day purchases in `shuffled`; its metrics are means over these."""

KNOWN = (1, 3)
"""Purchases known of a new customer: a first order, and as many as a session has."""

KS: Mapping[str, tuple[int, ...]] = {
    ALL_PURCHASES: (5, 10, 20),
    NOVEL_PURCHASES: (5, 10, 20),
    NEXT: (5, 10, 20),
    COLD: (10, 50),
    NEW: (5, 10, 20),
}
"""Lengths of the lists, by task."""

_PAIR = ["customer_id", "product_id"]


@dataclass(frozen=True, eq=False)
class Split:
    """One split. Splits of the same data set, task and variant are one protocol: their metrics are averaged."""

    dataset: str
    task: str
    """`all`, `novel`, `next item`, `cold products` or `new customers`; hyper-parameters are chosen for each."""
    variant: str
    """The as-of day, or the order of same-day purchases."""
    lines: pd.DataFrame
    """All known purchases: customer_id, product_id, order_id, age_days (int ≥ 0, before the as-of day), quantity,
    unit_price, and `age`: the unit of recency, days or (Beauty) the customer's later purchases. A customer's
    order_ids sort by time."""
    truth: pd.DataFrame
    """customer_id, product_id; distinct. Its customers are evaluated."""
    products: pd.DataFrame
    """The catalog; all of it is ranked: product_id, title, category, brand, text, price."""
    exclude_bought: bool
    """Whether lists exclude products that the customer bought before."""

    @property
    def protocol(self) -> str:
        """Task and variant, as in the results."""
        return f"{self.task}, {self.variant}"


def journey_splits(
    lines: pd.DataFrame, products: pd.DataFrame, as_of: pd.Timestamp, *, horizon_days: int = HORIZON_DAYS,
    dataset: str = JOURNEY,
) -> list[Split]:  # fmt: skip
    """Predict the purchases after a day from those up to and including it: `all` of them, and only `novel` ones.

    Customers with a history who buy in the window are evaluated. Unknown products stay in the truth.

    Args:
        lines: As in `datasets`.
        products: As in `datasets`; those bought up to the as-of day are ranked.
        as_of: Last known day.
        horizon_days: Length of the window after it.
        dataset: The data set that the lines are of.
    """
    age = (as_of - lines["day"]).dt.days
    known = lines[age >= 0].assign(age_days=age[age >= 0]).drop(columns="day")
    known = known.assign(age=known["age_days"]).sort_values(
        ["customer_id", "age_days", "order_id", "product_id"], ascending=[True, False, True, True], ignore_index=True
    )
    truth = lines.loc[(age < 0) & (age >= -horizon_days), _PAIR].drop_duplicates().sort_values(_PAIR)
    orders = known.groupby("customer_id")["order_id"].nunique()
    catalog = products[products["product_id"].isin(known["product_id"])].reset_index(drop=True)
    return [
        Split(dataset, part.name, f"{as_of.date()}", known, part.truth, catalog, part.name == NOVEL_PURCHASES)
        for part in make_slices(truth, known[_PAIR].drop_duplicates(), orders)
        if part.name in (ALL_PURCHASES, NOVEL_PURCHASES)
    ]


def leave_one_out(
    lines: pd.DataFrame, products: pd.DataFrame, *, shuffle: int | None = None, validation: bool = False
) -> Split:
    """Predict the last item of a customer's sequence from the others; products of the sequence are not ranked.

    Args:
        lines: As in `datasets`, with `position`; customers have at least three purchases.
        products: The catalog.
        shuffle: Seed of the order of same-day purchases; None: the order of `position`.
        validation: Remove the last item, and predict the one before it.
    """
    tie = lines["position"] if shuffle is None else np.random.default_rng(shuffle).permutation(len(lines))
    keys = ["customer_id", "tie"] if shuffle is None else ["customer_id", "day", "tie"]
    ordered = lines.assign(tie=tie).sort_values(keys, ignore_index=True).drop(columns=["tie", "position"])
    place = ordered.groupby("customer_id").cumcount()
    back = ordered.groupby("customer_id").cumcount(ascending=False) - int(validation)
    known = ordered[back > 0].assign(
        order_id=ordered["customer_id"] + "-" + place.astype(str).str.zfill(6),
        age_days=(ordered.loc[back > 0, "day"].max() - ordered["day"]).dt.days,
        age=back - 1,
    )
    return Split(
        dataset=BEAUTY,
        task=NEXT,
        variant="s3rec" if shuffle is None else "shuffled",
        lines=known.drop(columns="day").reset_index(drop=True),
        truth=ordered.loc[back == 0, _PAIR].reset_index(drop=True),
        products=products,
        exclude_bought=True,
    )


def hide_products(split: Split, *, tenth: int) -> Split:
    """Remove a tenth of the products from all lines; evaluate customers whose next item is one of them.

    Args:
        split: From `leave_one_out`.
        tenth: Products whose SHA-256 modulo 10 has this value.
    """
    hidden = hidden_products(split.products, tenth)
    return Split(
        dataset=split.dataset,
        task=COLD,
        variant=split.variant,
        lines=split.lines[~split.lines["product_id"].isin(hidden)].reset_index(drop=True),
        truth=split.truth[split.truth["product_id"].isin(hidden)].reset_index(drop=True),
        products=split.products,
        exclude_bought=split.exclude_bought,
    )


def shorten_histories(split: Split, *, tenth: int, known: int) -> Split:
    """Keep only the newest purchases of a tenth of the customers, who are evaluated.

    Args:
        split: From `leave_one_out`.
        tenth: Customers whose SHA-256 modulo 10 has this value.
        known: Number of their purchases that stay.
    """
    shortened = split.truth["customer_id"].map(lambda customer: _tenth(customer) == tenth)
    customers = split.truth.loc[shortened, "customer_id"]
    is_kept = (split.lines["age"] < known) | ~split.lines["customer_id"].isin(customers)
    return replace(
        split,
        task=NEW,
        variant=f"{split.variant}: {known} known",
        lines=split.lines[is_kept].reset_index(drop=True),
        truth=split.truth[shortened].reset_index(drop=True),
    )


def known_well(split: Split, *, least: int = 5) -> Split:
    """The same split, only with truth products that have at least `least` known purchases.

    In a data set of products with at least five purchases, a lower known count reveals a held-out purchase. These
    products have no such leak.
    """
    sold = split.lines["product_id"].value_counts()
    often = split.truth["product_id"].map(sold).fillna(0) >= least
    truth = split.truth[often].reset_index(drop=True)
    return replace(split, truth=truth, variant=f"{split.variant}: {least} or more known")


def hidden_products(products: pd.DataFrame, tenth: int) -> set[str]:
    """A tenth of the product_ids, see `hide_products`."""
    return {product for product in products["product_id"] if _tenth(product) == tenth}


def _tenth(id_: str) -> int:
    return int(hashlib.sha256(id_.encode()).hexdigest(), 16) % 10


def reported_journey() -> list[Split]:
    """The reported window, and the three before it."""
    return [split for as_of in (REPORTED, *EARLIER) for split in journey_splits(*complete_journey(), as_of)]


def reported_beauty() -> list[Split]:
    """The last item in both orders, its well-known products, cold products, and customers with short histories."""
    published = leave_one_out(*amazon_beauty())
    shuffled = [leave_one_out(*amazon_beauty(), shuffle=seed) for seed in SHUFFLES]
    new = [shorten_histories(published, tenth=0, known=known) for known in KNOWN]
    return [published, known_well(published), *shuffled, hide_products(published, tenth=0), *new]


def reported_fashion() -> list[Split]:
    """The last window of the synthetic fashion shop."""
    return _fashion(windows=1)


def tuning_fashion() -> list[Split]:
    """The window before the reported one."""
    return _fashion(windows=2)


def _fashion(windows: int) -> list[Split]:
    lines, products = fashion_shop()
    as_of = lines["day"].max() - pd.Timedelta(days=windows * HORIZON_DAYS)
    return journey_splits(lines, products, as_of, dataset=FASHION)


def tuning_journey() -> list[Split]:
    """The window before the reported one."""
    return journey_splits(*complete_journey(), EARLIER[0])


def tuning_beauty() -> list[Split]:
    """The validation item, with other hidden products and other shortened histories than in the report."""
    validation = leave_one_out(*amazon_beauty(), validation=True)
    new = shorten_histories(validation, tenth=1, known=max(KNOWN))
    return [validation, hide_products(validation, tenth=1), new]


Splits = Callable[[], Sequence[Split]]
REPORT: Mapping[str, Splits] = {JOURNEY: reported_journey, BEAUTY: reported_beauty, FASHION: reported_fashion}
TUNING: Mapping[str, Splits] = {JOURNEY: tuning_journey, BEAUTY: tuning_beauty, FASHION: tuning_fashion}
