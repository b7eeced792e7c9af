"""Clean the raw lines of one day: each becomes an interaction, or is rejected with the names of the rules it breaks.

`large_days` does the same for a day that does not fit into memory.
`net_returns` subtracts a return from its purchase: here if both are on this day, otherwise when a window of days is
read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rec_assets.recsys.data.cleaning_rules import CLEANING_RULES, CleaningSettings, broken_rules, is_filled
from rec_assets.recsys.data.returns import net_returns
from rec_assets.recsys.events import CART, DISMISSAL, DISMISSED, PURCHASE, REMOVAL, RETURN

__all__ = [
    "CLEANED_SCHEMA", "CLEANING_RULES", "RETURN_SUFFIX", "CleanedDay", "CleaningSettings", "clean_day",
    "signs_of_interest",
]  # fmt: skip

RETURN_SUFFIX = "@returned"
"""If the status of a purchase line says that it was returned, it gives a return whose line_id has this suffix."""

BULK_DEVIATIONS = 4.0
"""A line is a bulk order if ln(quantity) is more than this many robust deviations above the day's median."""

BULK_MIN_DEVIATION = 1.0
"""Minimum robust deviation (1.4826 · MAD of ln(quantity)). If all buy one piece, the limit is 54 pieces (e^4)."""

BULK_SMALL_DAY_FACTOR = 5
"""On a day of n lines, the limit is 1 + 5/n times as many deviations, because the median of few lines is uncertain."""

CLEANED_SCHEMA = pa.schema(
    [
        ("line_id", pa.string()),
        ("order_id", pa.string()),
        ("customer_id", pa.string()),
        ("product_id", pa.string()),
        ("variant_id", pa.string()),
        ("event", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("weight", pa.float64()),
        ("quantity", pa.float64()),
        ("net_quantity", pa.float64()),
        ("unit_price", pa.float64()),
        ("rating", pa.float64()),
        ("wrong_size", pa.bool_()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("text", pa.string()),
    ]
)
"""`cleaned_interactions`: one row per order line, click or cart. Quantities are positive; `event` is the kind of row.

If the line has a variant of a product, such as a size, `product_id` is the product and `variant_id` the variant. Models
learn about products. Returns belong to purchases of the same variant. `wrong_size` is true for a return that counts
against the size.

`weight` is the weight in training relative to a purchase: 1 for an order line, less for a sign of interest, 0 for a
bulk order, which counts only in business KPIs, and DISMISSED for a dismissal.
"""


@dataclass(frozen=True)
class CleanedDay:
    """Cleaning result of one day. Each raw line is in exactly one of the two frames.

    Attributes:
        cleaned: CLEANED_SCHEMA. A purchase line whose status says that it was returned gives a purchase and a return.
        rejected: The raw lines, complete, with `reasons`: names of CLEANING_RULES, joined by ",".
    """

    cleaned: pd.DataFrame
    rejected: pd.DataFrame

    def rejected_by_rule(self) -> dict[str, int]:
        """Number of rejected lines by rule. A line counts for each rule that it breaks."""
        counts = self.rejected["reasons"].str.split(",").explode().value_counts()
        return {rule: int(counts[rule]) for rule in CLEANING_RULES if rule in counts}


def clean_day(raw: pd.DataFrame, day: dt.date, settings: CleaningSettings) -> CleanedDay:
    """Apply all cleaning rules to the raw lines of one day.

    Args:
        raw: `raw_purchase_logs` of the day (RAW_SCHEMA).
        day: The day, in the shop's time zone.
        settings: Settings of the data source.
    """
    raw = raw.reset_index(drop=True)
    lines, rejected = split_lines(raw, broken_rules(raw, day, settings))
    limit = bulk_limit(log_quantities(lines), settings)
    return CleanedDay(net_returns(to_interactions(lines, day, limit, settings.product_of_variant)), rejected)


def split_lines(raw: pd.DataFrame, broken: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The valid raw lines, and the rejected ones with `reasons`. `broken` is from `broken_rules`."""
    is_rejected = broken.any(axis=1)
    names = np.array(broken.columns)
    reasons = [",".join(names[row]) for row in broken[is_rejected].to_numpy(bool)]
    rejected = raw[is_rejected].reset_index(drop=True)
    rejected["reasons"] = pd.Series(reasons, dtype=object)
    return raw[~is_rejected].reset_index(drop=True), rejected


def log_quantities(lines: pd.DataFrame) -> pd.Series:
    """ln(quantity) of valid purchase lines; NaN for returns."""
    return np.log(lines["quantity"].abs()).where(~lines["is_return"].astype(bool))


def bulk_limit(logs: pd.Series, settings: CleaningSettings) -> float:
    """A line with a larger quantity is a bulk order, such as a test or the order of a reseller.

    `logs` are the `log_quantities` of all valid lines of the day.
    """
    if isinstance(settings.bulk_quantity, int | float):
        return settings.bulk_quantity
    logs = logs.dropna()
    if settings.bulk_quantity == "none" or logs.empty:
        return np.inf
    deviation = max(1.4826 * (logs - logs.median()).abs().median(), BULK_MIN_DEVIATION)
    deviations = BULK_DEVIATIONS * (1 + BULK_SMALL_DAY_FACTOR / len(logs))
    return float(np.exp(logs.median() + deviations * deviation))


def signs_of_interest(
    events: pd.DataFrame, weights: Mapping[str, float], max_products: int, product_of_variant: Mapping[str, str] = {}
) -> pd.DataFrame:
    """Convert events to weighted interactions. Purchases and returns come from the purchase log only.

    A session counts once for a product, with its largest weight. A removal from the cart cancels what was put into it
    before. A dismissal is an interaction of its own, with a negative weight. Events before sign-in count for the
    customer who signs in during the session, unless several customers do.

    Args:
        events: `raw_feedback_events` of one day.
        weights: Event type → weight; events of weight 0 are dropped.
        max_products: A customer with events on more products in the day is a robot, whose events are dropped.
        product_of_variant: Variant → its product.

    Returns:
        CLEANED_SCHEMA, sorted by line_id.
    """
    signed_in = events.dropna(subset=["customer_id", "session_id"]).groupby("session_id")["customer_id"]
    of_session = events["session_id"].map(signed_in.first()[signed_in.nunique() == 1])
    events = events.assign(
        line_id="event" + ("@" + events["sender"]).fillna("") + ":" + events["event_id"],
        customer_id=events["customer_id"].where(events["customer_id"].notna(), of_session),
        weight=events["type"].map({**weights, DISMISSAL: DISMISSED}).fillna(0.0),
    )
    counted = (events["weight"] != 0) | (events["type"] == REMOVAL)
    events = events[counted & events["customer_id"].notna()]
    product, variant = split_variants(events["product_id"], product_of_variant)
    events = events.assign(product_id=product, variant_id=variant)
    events = events[events.groupby("customer_id")["product_id"].transform("nunique") <= max_products]
    visit = events["session_id"].where(events["session_id"].notna(), events["customer_id"] + "@visit")
    events = _without_removed(events.assign(order_id=visit))
    events = events.assign(is_dismissal=events["weight"] < 0).sort_values(
        ["weight", "line_id"], ascending=[False, True]
    )
    session = ["customer_id", "product_id", "order_id", "is_dismissal"]
    events = events.drop_duplicates(session).sort_values("line_id")
    return pd.DataFrame(
        {
            **{name: events[name] for name in ("line_id", "order_id", "customer_id", "product_id", "variant_id")},
            "event": events["type"],
            "event_time": events["time"],
            "weight": events["weight"],
            "quantity": 0.0,
            "net_quantity": 0.0,
            "unit_price": np.nan,
            "rating": np.nan,
            "wrong_size": False,
            **dict.fromkeys(("title", "category", "brand", "text")),
        }
    ).reset_index(drop=True)


def _without_removed(events: pd.DataFrame) -> pd.DataFrame:
    """Events without removals, and without what these took out of the cart."""
    is_removal = events["type"] == REMOVAL
    if not is_removal.any():
        return events
    session = ["customer_id", "product_id", "order_id"]
    removed = events[is_removal].groupby(session)["time"].max().rename("removed_at").reset_index()
    removed_at = events[session].merge(removed, "left", session)["removed_at"].set_axis(events.index)
    is_removed = (events["type"] == CART) & (events["time"] <= removed_at)
    return events[~is_removal & ~is_removed]


def split_variants(
    sold: pd.Series, product_of_variant: Mapping[str, str], parent: pd.Series | None = None
) -> tuple[pd.Series, pd.Series]:
    """Products and variants of ids that can be both. The variant is null if the id is a product.

    `parent` is the product of each id in the log; the catalog's comes first.
    """
    null: Any = None  # the stubs of pandas don't allow None here
    product = sold.map(product_of_variant) if product_of_variant else pd.Series(null, sold.index, dtype=object)
    if parent is not None and parent.notna().any():
        product = product.where(product.notna(), parent.where(is_filled(parent), null))
    product = product.where(product.notna(), sold)
    return product, sold.where(product != sold, null)


def to_interactions(
    lines: pd.DataFrame, day: dt.date, limit: float, product_of_variant: Mapping[str, str] = {}
) -> pd.DataFrame:
    """Valid raw lines as CLEANED_SCHEMA, before returns are subtracted from purchases.

    Models don't train on lines with a quantity above the limit (`bulk_limit`).
    """
    quantity, was_returned = lines["quantity"].abs(), lines["was_returned"].astype(bool)
    product, variant = split_variants(lines["product_id"], product_of_variant, lines["variant_of"])
    out = pd.DataFrame(
        {
            "line_id": lines["source_file"] + "#" + lines["source_row"].astype(str),
            # Without an order id, all lines of a customer on a day are one order.
            "order_id": lines["order_id"].where(is_filled(lines["order_id"]), lines["customer_id"] + f"@{day}"),
            "customer_id": lines["customer_id"],
            "product_id": product,
            "variant_id": variant,
            "event": np.where(lines["is_return"].astype(bool), RETURN, PURCHASE),
            "event_time": lines["event_time"],
            "weight": np.where(quantity > limit, 0.0, 1.0),
            "quantity": quantity,
            # A status on the purchase line cancels that line only.
            "net_quantity": quantity.where(~was_returned, 0.0),
            "unit_price": lines["unit_price"].abs(),
            "rating": lines["rating"],
            "wrong_size": lines["wrong_size"].astype(bool) & ~was_returned,
            **{name: lines[name] for name in ("title", "category", "brand", "text")},
        }
    )
    if was_returned.any():
        returned = out[was_returned]
        of_size = lines["wrong_size"].astype(bool)[was_returned]
        returned = returned.assign(event=RETURN, line_id=returned["line_id"] + RETURN_SUFFIX, wrong_size=of_size)
        out = pd.concat([out, returned], ignore_index=True)
    return out
