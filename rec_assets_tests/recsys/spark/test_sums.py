"""Equal rows give equal tables, in any order of rows."""

import datetime as dt
import math
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from rec_assets.recsys.data.product_statistics import product_statistics
from rec_assets.recsys.data.products import build_products
from rec_assets.recsys.evaluation.kpis import business_kpis
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.spark.sums import exact_mean, exact_sum, ordered_sum

DAY = dt.date(2024, 3, 31)

LINES = (
    "event string, customer_id string, order_id string, product_id string, date date, age_days int, weight double, "
    "quantity double, unit_price double, rating double, title string, category string, brand string, text string, "
    "variant_id string"
)
CATALOG = [
    "product_id", "title", "category", "brand", "text", "price", "available_from", "image", "link", "attributes",
    "taste", "variant_of", "in_stock", "excluded",
]  # fmt: skip
EVENTS = "type string, customer_id string, product_id string, recommendation_id string, date date"


def lines() -> list[tuple[object, ...]]:
    """Purchases with prices and quantities that binary floats can't represent."""
    chance = random.Random(1)
    return [
        (
            "purchase", f"c{chance.randrange(5)}", f"o{chance.randrange(40)}", f"p{chance.randrange(4)}",
            DAY - dt.timedelta(days=age), age, 1.0, chance.randrange(1, 40) / 10, chance.randrange(1, 10**6) / 1000,
            chance.randrange(1, 50) / 10, chance.choice("xyz"), None, None, chance.choice("xyz"),
            chance.choice(["M", "L", None]),
        )
        for age in (chance.randrange(28) for _ in range(300))
    ]  # fmt: skip


def products_of(found: DataFrame, disk: Path) -> pd.DataFrame:
    return build_products(LazyArrowRows.from_frame(found), pd.DataFrame(columns=CATALOG), disk)


def statistics_of(found: DataFrame, disk: Path) -> pd.DataFrame:
    return product_statistics(found, recent_days=7)


def key_figures_of(found: DataFrame, disk: Path) -> pd.DataFrame:
    spark = found.sparkSession
    products = pd.DataFrame([("p0", DAY, False)], columns=["product_id", "first_seen", "excluded"])
    return business_kpis(LazyArrowRows.from_frame(found), spark.createDataFrame([], EVENTS), products, DAY)


@pytest.mark.parametrize("table", [products_of, statistics_of, key_figures_of])
def test_a_table_does_not_depend_on_the_order_of_rows(
    spark: SparkSession, tmp_path: Path, table: Callable[[DataFrame, Path], pd.DataFrame]
) -> None:
    rows = lines()
    shuffled = random.Random(1).sample(rows, len(rows))
    expected = table(spark.createDataFrame(rows, LINES), tmp_path)
    found = table(spark.createDataFrame(shuffled, LINES).repartition(3), tmp_path)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_sum_of_decays_does_not_depend_on_the_order_of_rows(spark: SparkSession) -> None:
    decays = [(0.5 ** (age / 7.3),) for age in range(365)]
    sums = set()
    for seed in range(3):
        shuffled = random.Random(seed).sample(decays, len(decays))
        sums.add(spark.createDataFrame(shuffled, "value double").agg(ordered_sum(F.col("value"))).collect()[0][0])
    assert len(sums) == 1


def test_sums_ignore_values_that_are_no_amounts(spark: SparkSession) -> None:
    values = spark.createDataFrame([(0.1,), (0.2,), (0.3,), (None,), (1e300,), (float("inf"),)], "value double")
    value = F.col("value")
    assert values.agg(exact_sum(value), exact_mean(value)).first() == (0.6, 0.2)
    assert values.where("value < 1").agg(ordered_sum(value)).first() == (0.1 + 0.2 + 0.3,)
    assert values.where("value IS NULL").agg(exact_sum(value)).first() == (None,)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6, 8e9, 1e12, 1e20])
def test_a_sum_of_any_size_and_sign_is_exact(spark: SparkSession, size: float) -> None:
    random_ = random.Random(2)
    values = [round(random_.uniform(-1, 3), 3) * size for _ in range(1000)] + [-0.125, 1e9, 5e13]
    (found,) = (
        spark.createDataFrame([(value,) for value in values], "value double").agg(exact_sum(F.col("value"))).first()
        or ()
    )
    assert found == pytest.approx(math.fsum(values), rel=1e-15, abs=1e-6)
