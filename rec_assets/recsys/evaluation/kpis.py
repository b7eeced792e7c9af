"""Business KPIs of a period, each a numerator divided by a denominator; `docs/kpis.md` defines them."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.events import CLICK, IMPRESSION, PURCHASE, RETURN
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, in_pandas
from rec_assets.recsys.spark.grouping import Function, aggregate
from rec_assets.recsys.spark.sums import exact_sum, halves, halves_of, sum_of_halves

PERIOD_DAYS = 28
"""Whole weeks, so that each period has the same weekdays."""

ATTRIBUTION_DAYS = 7
"""A purchase counts as recommended up to this many days after a click on the product in a response of the API."""

REGULAR_DAYS = 4
"""Purchase days from which a customer is a regular: three intervals between purchases."""

OVERDUE_FACTOR = 2.0
"""A regular is at risk of churn after this many times the median interval without a purchase."""

HEAD_SHARE = 0.2
"""Share of the catalog with the best sellers; the other products are the long tail."""

Unit = Literal["money", "number", "share", "days"]


@dataclass(frozen=True)
class Kpi:
    """A KPI: title, unit, and the sums that it divides; without a denominator it is the sum itself."""

    title: str
    unit: Unit
    numerator: str
    denominator: str | None = None


KPIS = {
    "revenue": Kpi("revenue", "money", "revenue"),
    "orders": Kpi("orders", "number", "orders"),
    "average_order_value": Kpi("average order value", "money", "revenue", "orders"),
    "items_per_order": Kpi("items per order", "number", "items", "orders"),
    "active_customers": Kpi("active customers", "number", "customers"),
    "repeat_purchase_rate": Kpi("customers who bought before", "share", "repeaters", "customers"),
    "repeat_interval_days": Kpi("days between two purchases", "days", "interval"),
    "churn_risk": Kpi("regulars at risk of churn", "share", "overdue", "regulars"),
    "return_rate_value": Kpi("return rate by value", "share", "returned_value", "revenue"),
    "return_rate_lines": Kpi("return rate by lines", "share", "returned_lines", "lines"),
    "catalog_coverage": Kpi("catalog sold", "share", "products_sold", "catalog"),
    "catalog_shown": Kpi("catalog shown", "share", "products_shown", "catalog"),
    "tail_revenue": Kpi("revenue from the long tail", "share", "tail_revenue", "revenue"),
    "tail_views": Kpi("views of the long tail", "share", "tail_views", "views"),
    "recommended_revenue": Kpi("revenue after a recommendation", "share", "recommended_revenue", "revenue"),
}
"""Name → definition, in display order."""

LINE_COLUMNS = ("customer_id", "product_id", "order_id", "date", "event", "quantity", "unit_price")
"""Columns of `cleaned_interactions` that the KPIs need."""

_LINES = ("sold", "lines", "priced", "returns", "returned_lines", "priced_returns")
_MONEY = ("items", "revenue", "returned_value")
"""Sums of each product: numbers of lines; quantities and values."""

_COUNTS = "name string, gap int, count bigint"

NEEDS_EVENTS = ("catalog_shown", "tail_views", "recommended_revenue")
"""KPIs that need events from the API; unknown in a period without impressions."""


def business_kpis(lines: LazyArrowRows, events: DataFrame | None, products: pd.DataFrame, day: dt.date) -> pd.DataFrame:
    """The KPIs of the PERIOD_DAYS up to and including a day.

    Args:
        lines: LINE_COLUMNS of `cleaned_interactions` of the lookback, up to the day.
        events: `raw_feedback_events` of the period and the ATTRIBUTION_DAYS before it, with `date`; None for none.
        products: product_id, first_seen, excluded.
        day: The last day of the period.

    Returns:
        One row for each of KPIS: kpi, value, numerator, denominator (NaN for a sum). The value is NaN if the
        denominator is 0 or the needed events are missing.
    """
    begin = day - dt.timedelta(days=PERIOD_DAYS - 1)
    is_known = pd.to_datetime(products["first_seen"]) <= pd.Timestamp(day)
    catalog = pd.Index(products.loc[is_known & ~products["excluded"], "product_id"])
    by_product = _sum_by_product(lines, begin, day)
    best = by_product[(by_product["sold"] > 0) & by_product.index.isin(catalog)].sort_values("sold", kind="stable")
    head = best.index[::-1][: round(HEAD_SHARE * len(catalog))]
    sums = {**_sales(by_product, catalog, head), **_purchase_days(lines, begin, day), "catalog": len(catalog)}
    events_sums = {"views": 0.0, "tail_views": 0.0, "products_shown": 0.0, "recommended_revenue": 0.0}
    if events is not None:
        events_sums = {**_impressions(events, begin, catalog, head), **_after_clicks(lines.to_spark(), events, begin)}
    return pd.DataFrame([_kpi_row(name, sums | events_sums) for name in KPIS])


def _kpi_row(name: str, sums: Mapping[str, float]) -> dict[str, object]:
    kpi, unknown = KPIS[name], float("nan")
    numerator, denominator = sums[kpi.numerator], sums[kpi.denominator] if kpi.denominator else unknown
    value = numerator / (denominator or unknown) if kpi.denominator else numerator
    if name in NEEDS_EVENTS and not sums["views"]:
        value = unknown
    return {"kpi": name, "value": value, "numerator": float(numerator), "denominator": float(denominator)}


def _sum_by_product(lines: LazyArrowRows, begin: dt.date, day: dt.date) -> pd.DataFrame:
    """Sums of each product, by descending product_id. `sold` and `returns` are lines of the whole lookback."""

    def add_up(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for rows in tables:
            date = rows["date"].to_numpy()
            in_period = (date >= np.datetime64(begin)) & (date <= np.datetime64(day))
            is_purchase, is_return = (pc.equal(rows["event"], event).to_numpy() for event in (PURCHASE, RETURN))
            quantity, price = (rows[name].to_numpy().astype(float) for name in ("quantity", "unit_price"))
            bought, returned, priced = is_purchase & in_period, is_return & in_period, ~np.isnan(price)
            masks = (is_purchase, bought, bought & priced, is_return, returned, is_return & priced)
            sums = {name: mask.astype(np.int64) for name, mask in zip(_LINES, masks, strict=True)}
            sums |= halves("items", np.where(bought, quantity, np.nan))
            sums |= halves("revenue", np.where(bought, quantity * price, np.nan))
            sums |= halves("returned_value", np.where(returned, quantity * price, np.nan))
            columns = {name: pa.array(values, from_pandas=True) for name, values in sums.items()}
            found = pa.table({"product_id": rows["product_id"], **columns})
            yield found.filter(pa.array(is_purchase | is_return))

    names = halves_of(*_MONEY)
    types = ", ".join([*(f"{name} bigint" for name in _LINES), *(f"{name} double" for name in names)])
    types = f"product_id string, {types}"
    how: dict[str, Function] = dict.fromkeys((*_LINES, *names), "sum")
    found = aggregate(lines.then(add_up, types), ["product_id"], how, within="product_id").to_spark().toPandas()
    found = found.assign(**{name: sum_of_halves(found, name) for name in _MONEY}).drop(columns=names)
    return found.set_index("product_id").sort_index(ascending=False)


def _sales(by_product: pd.DataFrame, catalog: pd.Index, head: pd.Index) -> dict[str, float]:
    unknown, total = float("nan"), {name: math.fsum(column.dropna()) for name, column in by_product.items()}
    tail = math.fsum(by_product.loc[~by_product.index.isin(head), "revenue"].dropna())
    has_price = total["priced"] > 0 or not total["lines"]  # else there are lines, and none has a price
    returns_have_price = total["priced_returns"] > 0
    return {
        "lines": total["lines"],
        "items": total["items"],
        "revenue": total["revenue"] if has_price else unknown,
        "tail_revenue": tail if has_price else unknown,
        "products_sold": float((by_product["lines"] > 0)[by_product.index.isin(catalog)].sum()),
        # A shop without any return most likely does not log returns.
        "returned_lines": total["returned_lines"] if total["returns"] else unknown,
        "returned_value": total["returned_value"] if returns_have_price else unknown,
    }


def _purchase_days(lines: LazyArrowRows, begin: dt.date, day: dt.date) -> dict[str, float]:
    """Orders of the period, and counts of customers by their purchase days."""

    def purchases(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            yield table.filter(pc.equal(table["event"], PURCHASE)).select(["customer_id", "order_id", "date"])

    bought = lines.then(purchases, "customer_id string, order_id string, date date")
    orders = aggregate(bought, ["customer_id", "order_id", "date"], {}, within="customer_id")
    counted = orders.then(in_pandas(_count_purchase_days(begin, day), _COUNTS), _COUNTS)
    counts, gaps = Counter[str](), Counter[int]()
    for name, gap, count in counted.to_spark().toPandas().itertuples(index=False):
        if name == "gap":
            gaps[gap] += count
        else:
            counts[name] += count
    names = ("orders", "customers", "repeaters", "regulars", "overdue")
    return {**{name: float(counts[name]) for name in names}, "interval": _median(gaps)}


def _count_purchase_days(begin: dt.date, day: dt.date) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    """A function from distinct customer_id, order_id, date of whole customers to counts by name, and gaps by length.

    The gaps are the days between consecutive purchase days, of which the later is in the period.
    """

    def count(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for orders in frames:
            orders["date"] = pd.to_datetime(orders["date"])
            days = orders[["customer_id", "date"]].drop_duplicates().sort_values(["customer_id", "date"])
            days["gap"] = days.groupby("customer_id")["date"].diff().dt.days
            by_customer = days.groupby("customer_id")
            customers = by_customer.agg(days=("date", "size"), last=("date", "max"), usual=("gap", "median"))
            is_active, is_regular = customers["last"] >= pd.Timestamp(begin), customers["days"] >= REGULAR_DAYS
            silent = (pd.Timestamp(day) - customers["last"]).dt.days
            in_period = orders["date"] >= pd.Timestamp(begin)
            counts = {
                "orders": len(orders.loc[in_period, ["customer_id", "order_id"]].drop_duplicates()),
                "customers": is_active.sum(),
                "repeaters": (is_active & (customers["days"] > 1)).sum(),
                "regulars": is_regular.sum(),
                "overdue": (is_regular & (silent > OVERDUE_FACTOR * customers["usual"])).sum(),
            }
            yield pd.DataFrame({"name": counts.keys(), "gap": 0, "count": counts.values()})
            gaps = days.loc[days["date"] >= pd.Timestamp(begin), "gap"].dropna().astype(int).value_counts()
            yield pd.DataFrame({"name": "gap", "gap": gaps.index, "count": gaps.to_numpy()})

    return count


def _median(counts: Mapping[int, int]) -> float:
    """The median of values with their counts; NaN without any."""
    if not counts:
        return float("nan")
    values = np.array(sorted(counts))
    last = np.cumsum([counts[value] for value in values])
    middle = [(last[-1] - 1) // 2, last[-1] // 2]
    return float(values[np.searchsorted(last, middle, side="right")].mean())


def _impressions(events: DataFrame, begin: dt.date, catalog: pd.Index, head: pd.Index) -> dict[str, float]:
    shown = events.where((F.col("type") == IMPRESSION) & (F.col("date") >= F.lit(begin))).groupBy("product_id").count()
    views = shown.toPandas().set_index("product_id")["count"]
    views = views[views.index.isin(catalog)]
    tail = views[~views.index.isin(head)]
    return {"views": float(views.sum()), "tail_views": float(tail.sum()), "products_shown": float(len(views))}


def _after_clicks(lines: DataFrame, events: DataFrame, begin: dt.date) -> dict[str, float]:
    """Value of purchases after a click on the product in a response, by days, because many logs have no time of day."""
    clicks = events.where((F.col("type") == CLICK) & F.col("recommendation_id").isNotNull()).select(
        F.col("customer_id").alias("clicking_customer"),
        F.col("product_id").alias("clicked_product"),
        F.col("date").alias("clicked"),
    )
    bought = lines.where((F.col("event") == PURCHASE) & (F.col("date") >= F.lit(begin)))
    is_same = (F.col("customer_id") == F.col("clicking_customer")) & (F.col("product_id") == F.col("clicked_product"))
    in_time = F.datediff("date", "clicked").between(0, ATTRIBUTION_DAYS)
    paid = F.col("quantity") * F.col("unit_price")
    joined = bought.join(clicks, is_same & in_time, "left_semi")
    count, priced, value = joined.agg(F.count("*"), F.count(paid), exact_sum(paid)).collect()[0]
    return {"recommended_revenue": float("nan") if count and not priced else float(value or 0)}
