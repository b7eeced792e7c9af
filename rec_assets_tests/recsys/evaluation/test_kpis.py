"""Business KPIs, compared with calculations by hand from a dozen orders."""

import datetime as dt

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from rec_assets.recsys.evaluation.kpis import KPIS, business_kpis
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows

rows = LazyArrowRows.from_frame
DAY = dt.date(2024, 3, 31)  # the period begins on 4 March

LINES = (
    "event string, customer_id string, order_id string, product_id string, date date, quantity double, "
    "unit_price double"
)
EVENTS = "type string, customer_id string, product_id string, recommendation_id string, date date"

# customer, order, product, (month, day), quantity, price. The head is two of ten products.
ORDERS = [
    ("ann", "1", "tea", (1, 10), 1, 4.0),
    ("ann", "2", "tea", (2, 1), 1, 4.0),
    ("ann", "3", "tea", (3, 5), 2, 4.0),  # gap of 33 days
    ("ann", "3", "mug", (3, 5), 1, 10.0),
    ("ann", "4", "tea", (3, 20), 1, 4.0),  # 15
    ("bob", "5", "mug", (1, 1), 1, 10.0),
    ("bob", "6", "mug", (1, 8), 1, 10.0),
    ("bob", "7", "mug", (1, 15), 1, 10.0),
    ("bob", "8", "pot", (1, 22), 1, 30.0),  # bought every seventh day, then not for 69 days
    ("cleo", "9", "pot", (3, 10), 1, 30.0),
    ("dan", "10", "jam", (2, 20), 3, 2.0),
    ("dan", "11", "jam", (3, 31), 3, 2.0),  # 40
    ("dan", "12", "cup", (3, 31), 1, 6.0),  # the same day: no interval
    ("eve", "13", "tea", (4, 1), 9, 4.0),  # after the period
]
RETURNS = [("cleo", "9", "pot", (3, 12), 1, 30.0), ("bob", "8", "pot", (2, 2), 1, 30.0)]
CATALOG = ["tea", "mug", "pot", "jam", "cup", "lid", "jar", "fan", "hat", "pen"]


def on(month: int, day: int) -> dt.date:
    return dt.date(2024, month, day)


def lines(spark: SparkSession, *, prices: bool = True) -> DataFrame:
    rows = [
        (event, who, order, what, on(*when), float(quantity), price if prices else None)
        for event, orders in (("purchase", ORDERS), ("return", RETURNS))
        for who, order, what, when, quantity, price in orders
        if on(*when) <= DAY
    ]
    rows.append(("click", "ann", "visit", "hat", DAY, 0.0, None))  # a click is not a purchase
    return spark.createDataFrame(rows, LINES)


def events(spark: SparkSession, *rows: tuple[str, str | None, str, str | None, dt.date]) -> DataFrame:
    return spark.createDataFrame(list(rows), EVENTS)


def products() -> pd.DataFrame:
    rows = [(name, on(1, 1), False) for name in CATALOG]
    rows += [("new", on(4, 2), False), ("fuel", on(1, 1), True)]
    return pd.DataFrame(rows, columns=["product_id", "first_seen", "excluded"])


@pytest.fixture(scope="module")
def figures(spark: SparkSession) -> pd.Series:
    shown = [("impression", "ann", name, "r1", on(3, 4)) for name in ("tea", "mug", "mug", "hat", "fuel")]
    clicked = [
        ("click", "ann", "tea", "r1", on(3, 13)),  # 7 days before the purchase on the 20th
        ("click", "ann", "tea", "r2", on(3, 14)),  # counts once
        ("click", "ann", "mug", "r1", on(3, 6)),  # after the purchase
        ("click", "cleo", "pot", "r3", on(3, 2)),  # 8 days before the purchase
        ("click", "dan", "cup", None, on(3, 30)),  # not in a response
        ("click", None, "jam", "r4", on(3, 30)),  # without a customer
        ("impression", "ann", "pen", "r0", on(3, 3)),  # before the period
    ]
    kpis = business_kpis(rows(lines(spark)), events(spark, *shown, *clicked), products(), DAY)
    assert kpis["kpi"].tolist() == list(KPIS)
    return kpis.set_index("kpi")["value"]


# In the period: ann 3 (8 + 10) and 4 (4), cleo 9 (30), dan 11 (6) and 12 (6).
BY_HAND = {
    "revenue": 64.0,
    "orders": 5,
    "average_order_value": 64 / 5,
    "items_per_order": 9 / 5,
    "active_customers": 3,
    "repeat_purchase_rate": 2 / 3,  # ann and dan
    "repeat_interval_days": 33,  # of 33, 15 and 40
    "churn_risk": 1 / 2,  # bob, of ann and bob
    "return_rate_value": 30 / 64,
    "return_rate_lines": 1 / 6,
    "catalog_coverage": 5 / 10,
    "catalog_shown": 3 / 10,
    "tail_revenue": 42 / 64,  # pot, jam and cup; tea and mug, of four lines each, are the head
    "tail_views": 1 / 4,  # hat
    "recommended_revenue": 4 / 64,
}


@pytest.mark.parametrize("name", list(KPIS))
def test_each_kpi_agrees_with_a_calculation_by_hand(figures: pd.Series, name: str) -> None:
    assert figures[name] == pytest.approx(BY_HAND[name])


def test_without_events_or_prices_the_kpis_that_need_them_are_unknown(spark: SparkSession) -> None:
    kpis = business_kpis(rows(lines(spark, prices=False)), events(spark), products(), DAY).set_index("kpi")["value"]
    money = {"revenue", "average_order_value", "return_rate_value", "tail_revenue"}
    assert set(kpis.index[kpis.isna()]) == {*money, "catalog_shown", "tail_views", "recommended_revenue"}
    assert kpis["orders"] == 5


def test_without_any_return_the_return_rates_are_unknown(spark: SparkSession) -> None:
    bought = lines(spark).where("event = 'purchase'")
    kpis = business_kpis(rows(bought), events(spark), products(), DAY).set_index("kpi")["value"]
    assert pd.isna(kpis["return_rate_value"]) and pd.isna(kpis["return_rate_lines"])
    earlier = lines(spark).where("event = 'purchase'").limit(1).withColumn("event", F.lit("return"))
    earlier = earlier.withColumn("date", F.lit(DAY - dt.timedelta(days=40)))
    kpis = business_kpis(rows(bought.unionByName(earlier)), events(spark), products(), DAY).set_index("kpi")["value"]
    assert kpis["return_rate_value"] == kpis["return_rate_lines"] == 0


def test_a_period_without_purchases_has_kpis_of_zero(spark: SparkSession) -> None:
    kpis = business_kpis(
        rows(lines(spark).where("event = 'purchase' and date < '2024-02-01'")), events(spark), products(), DAY
    ).set_index("kpi")["value"]
    assert kpis["revenue"] == kpis["orders"] == kpis["active_customers"] == kpis["catalog_coverage"] == 0
    assert pd.isna(kpis["average_order_value"]) and pd.isna(kpis["repeat_interval_days"])
    assert kpis["churn_risk"] == 1.0  # bob; ann bought only once
