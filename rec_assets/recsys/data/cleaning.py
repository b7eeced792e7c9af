"""Cleaning one day's raw lines: which are refused, and by which named rule; nothing is lost.

A line that passes becomes a purchase or a return. A return is taken off its purchase here where both are of
this day, and else when a window of days is read; `interactions.net_returns` does both.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from rec_assets.recsys.data.interactions import net_returns
from rec_assets.recsys.events import LONGEST_ID, PURCHASE, RETURN

RULES: Mapping[str, str] = {
    "no_customer": "the line has no customer: nobody to recommend to",
    "no_product": "the line has no product",
    "id_too_long": f"the id of customer, product or order has more than {LONGEST_ID} characters",
    "unparseable_time": "the time is missing or not written as the source says",
    "outside_day": "the time lies outside the day of the file, by the shop's clock",
    "quantity_impossible": "the quantity is 0, negative (and no return), not a number, or above a million by mistake",
    "price_impossible": "the price is 0, negative or not a number, in a source that has prices",
    "excluded": "the source or its catalog excludes this line or product",
    "duplicate_line": "the same line, equal in every column, stood in the day's files before",
}
"""Every rule with its reason. A line is refused for all that apply; the last looks at sound lines."""

RETURNED = "@returned"
"""What the line_id of a return ends in whose purchase is the same line of the log, with a status that says so."""

BULK_DEVIATIONS = 4.0
"""A line is bulk if ln(quantity) is above the day's median by more than this many robust deviations."""

BULK_FLOOR = 1.0
"""Least robust deviation (1.4826 · MAD of ln(quantity)): where all buy one piece, 54 (e^4) still pass."""

BULK_FEW = 5
"""On a day of so few purchase lines twice as many deviations pass: few lines tell little of what is usual."""

QUANTITY_CEILING = 1e6
"""Quantity that is taken for a mistake, a barcode mostly, unless the source says what a bulk order is."""

CLEANED_SCHEMA = pa.schema(
    [
        ("line_id", pa.string()),
        ("order_id", pa.string()),
        ("customer_id", pa.string()),
        ("product_id", pa.string()),
        ("event", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("weight", pa.float64()),
        ("quantity", pa.float64()),
        ("net_quantity", pa.float64()),
        ("unit_price", pa.float64()),
        ("rating", pa.float64()),
        ("title", pa.string()),
        ("category", pa.string()),
        ("brand", pa.string()),
        ("text", pa.string()),
    ]
)
"""`cleaned_interactions`: one row an order line, click or cart. Quantities are positive; `event` tells what it is.

`weight` is what it counts where tastes are sought: 1 for an order line, less for clicks and carts, 0 for a bulk order,
which counts in key figures alone.
"""


@dataclass(frozen=True)
class CleaningRules:
    """What a source says that cleaning must know.

    Attributes:
        time_zone: IANA name; decides the day.
        has_price: Whether the source gives prices, so that a line must have one.
        excluded_products: Ids the catalog excludes.
        bulk_quantity: Quantity above which a line is a bulk order; None: the day's robust limit; "none": no line is.
    """

    time_zone: str
    has_price: bool
    excluded_products: frozenset[str] = frozenset()
    bulk_quantity: float | Literal["none"] | None = None


@dataclass(frozen=True)
class CleanedDay:
    """Result for one day: every raw line is in exactly one of the two.

    Attributes:
        cleaned: CLEANED_SCHEMA. A line that was returned, by its status, is there as purchase and as return.
        rejected: The raw line, whole, with `reasons`: names of RULES, joined by ",".
    """

    cleaned: pd.DataFrame
    rejected: pd.DataFrame

    def refused_by_rule(self) -> dict[str, int]:
        """Refused lines by rule; a line counts under each of its reasons."""
        counts = self.rejected["reasons"].str.split(",").explode().value_counts()
        return {rule: int(counts[rule]) for rule in RULES if rule in counts}


def clean_day(raw: pd.DataFrame, day: dt.date, rules: CleaningRules) -> CleanedDay:
    """Apply every rule to the raw lines of one day.

    Args:
        raw: `raw_purchase_logs` of the day (see `sources.reader.RAW_SCHEMA`).
        day: The day, by the shop's clock.
        rules: What the source says.
    """
    raw = raw.reset_index(drop=True)
    if "was_returned" not in raw:  # raw lines that an earlier version wrote
        raw = raw.assign(was_returned=False)
    broken = _broken_rules(raw, day, rules)
    refused = broken.any(axis=1)
    names = np.array(broken.columns)
    reasons = [",".join(names[row]) for row in broken[refused].to_numpy(bool)]
    rejected = raw[refused].reset_index(drop=True)
    rejected["reasons"] = pd.Series(reasons, dtype=object)
    lines = raw[~refused].reset_index(drop=True)
    return CleanedDay(_as_interactions(lines, day, _is_bulk(lines, rules)), rejected)


def implicit_feedback(events: pd.DataFrame, weights: Mapping[str, float], most_products: int) -> pd.DataFrame:
    """Clicks and carts as interactions, each with its weight; purchases and returns come from the logs alone.

    A visit counts once for a product, with its strongest sign. What was done before signing in counts for the customer
    who signed in during the session, if that was one customer only.

    Args:
        events: event_id, type, customer_id, session_id, product_id, time, and sender, which days of earlier versions
            lack; of one day.
        weights: Of each type that counts; those of 0 don't.
        most_products: Who looks at more in the day is taken for a robot: nothing of theirs counts.

    Returns:
        CLEANED_SCHEMA, sorted by line_id.
    """
    signed_in = events.dropna(subset=["customer_id", "session_id"]).groupby("session_id")["customer_id"]
    only_one = signed_in.first()[signed_in.nunique() == 1]
    told_by = "@" + events["sender"] if "sender" in events else pd.Series(None, index=events.index, dtype=object)
    events = events.assign(
        line_id="event" + told_by.fillna("") + ":" + events["event_id"],
        customer_id=events["customer_id"].where(events["customer_id"].notna(), events["session_id"].map(only_one)),
        weight=events["type"].map(weights).fillna(0.0),
    )
    events = events[(events["weight"] > 0) & events["customer_id"].notna()]
    events = events[events.groupby("customer_id")["product_id"].transform("nunique") <= most_products]
    visit = events["session_id"].where(events["session_id"].notna(), events["customer_id"] + "@visit")
    events = events.assign(order_id=visit).sort_values(["weight", "line_id"], ascending=[False, True])
    events = events.drop_duplicates(["customer_id", "product_id", "order_id"]).sort_values("line_id")
    return pd.DataFrame(
        {
            **{name: events[name] for name in ("line_id", "order_id", "customer_id", "product_id")},
            "event": events["type"],
            "event_time": events["time"],
            "weight": events["weight"],
            "quantity": 0.0,
            "net_quantity": 0.0,
            "unit_price": np.nan,
            "rating": np.nan,
            **dict.fromkeys(("title", "category", "brand", "text")),
        }
    ).reset_index(drop=True)


def _broken_rules(raw: pd.DataFrame, day: dt.date, rules: CleaningRules) -> pd.DataFrame:
    """(lines, RULES) whether a line breaks a rule."""
    returned = raw["is_return"].astype(bool)
    # The sign of a return says "back", not a negative amount of goods or money.
    quantity = raw["quantity"].where(~returned, raw["quantity"].abs())
    price = raw["unit_price"].where(~returned, raw["unit_price"].abs())
    time = raw["event_time"]
    # By the clock on the wall: in some zones clocks change at midnight, and the day has no or two beginnings.
    local_day = time.dt.tz_convert(rules.time_zone).dt.tz_localize(None).dt.floor("D")
    ceiling = QUANTITY_CEILING if rules.bulk_quantity is None else np.inf
    excluded = _filled(raw["excluded_by"]) | raw["product_id"].isin(rules.excluded_products)
    broken = pd.DataFrame(
        {
            "no_customer": ~_filled(raw["customer_id"]),
            "no_product": ~_filled(raw["product_id"]),
            "id_too_long": (raw[["customer_id", "product_id", "order_id"]].fillna("").map(len) > LONGEST_ID).any(
                axis=1
            ),
            "unparseable_time": time.isna(),
            "outside_day": time.notna() & (local_day != pd.Timestamp(day)),
            "quantity_impossible": ~((quantity > 0) & np.isfinite(quantity)) | (quantity > ceiling),
            "price_impossible": ~((price > 0) & np.isfinite(price)) & rules.has_price,
            "excluded": excluded,
        }
    )
    sound = ~broken.any(axis=1)
    broken["duplicate_line"] = sound & raw["line"][sound].duplicated().reindex(raw.index, fill_value=False)
    return broken[list(RULES)]


def _is_bulk(lines: pd.DataFrame, rules: CleaningRules) -> pd.Series:
    """Whether a line is too big to learn from: a test, or the order of a reseller."""
    if rules.bulk_quantity == "none" or lines.empty:
        return pd.Series(False, lines.index)
    quantity = lines["quantity"].abs()
    if rules.bulk_quantity is not None:
        return quantity > rules.bulk_quantity
    return quantity > _robust_limit(quantity[~lines["is_return"].astype(bool)])


def _robust_limit(quantity: pd.Series) -> float:
    if quantity.empty:
        return np.inf
    logs = np.log(quantity)
    spread = max(1.4826 * (logs - logs.median()).abs().median(), BULK_FLOOR)
    deviations = BULK_DEVIATIONS * (1 + BULK_FEW / len(quantity))
    return float(np.exp(logs.median() + deviations * spread))


def _filled(text: pd.Series) -> pd.Series:
    return text.fillna("").astype(str).str.strip() != ""


def _as_interactions(lines: pd.DataFrame, day: dt.date, is_bulk: pd.Series) -> pd.DataFrame:
    quantity, was_returned = lines["quantity"].abs(), lines["was_returned"].astype(bool)
    out = pd.DataFrame(
        {
            "line_id": lines["source_file"] + "#" + lines["source_row"].astype(str),
            # Without order ids, what a customer buys in a day is one order.
            "order_id": lines["order_id"].where(_filled(lines["order_id"]), lines["customer_id"] + f"@{day}"),
            "customer_id": lines["customer_id"],
            "product_id": lines["product_id"],
            "event": np.where(lines["is_return"].astype(bool), RETURN, PURCHASE),
            "event_time": lines["event_time"],
            "weight": np.where(is_bulk, 0.0, 1.0),
            "quantity": quantity,
            # What came back by its own status takes back that line, and no other.
            "net_quantity": quantity.where(~was_returned, 0.0),
            "unit_price": lines["unit_price"].abs(),
            **{name: lines[name] for name in ("rating", "title", "category", "brand", "text")},
        }
    )
    if was_returned.any():
        back = out[was_returned]
        back = back.assign(event=RETURN, line_id=back["line_id"] + RETURNED)
        out = pd.concat([out, back], ignore_index=True)
    return net_returns(out)
