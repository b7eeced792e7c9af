import datetime as dt
import random

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from rec_assets.recsys.spark import grouping
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.spark.grouping import aggregate

TYPES = "shop string, product string, day date, lines bigint, value double"


@pytest.mark.parametrize("held", [1, 2**21])
def test_groups_are_those_of_pandas_however_tasks_split_the_rows(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(grouping, "_HELD_ROWS", held)
    chance = random.Random(1)
    rows = [
        (
            chance.choice("ab"), chance.choice(["x", "y", None]), dt.date(2024, 1, chance.randrange(1, 29)), 1,
            chance.choice([None, 0.25, 2.0, -1.0]),
        )
        for _ in range(500)
    ]  # fmt: skip
    frame = spark.createDataFrame(rows, TYPES).repartition(5)
    how = {"day": "max", "lines": "sum", "value": "sum"}
    found = aggregate(LazyArrowRows.from_frame(frame), ["shop", "product"], how, within="product").to_spark()
    expected = pd.DataFrame(rows, columns=frame.columns).groupby(["shop", "product"], dropna=False).agg(how)
    expected = expected.reset_index().sort_values(["shop", "product"], ignore_index=True)
    found = found.toPandas().sort_values(["shop", "product"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_a_group_without_a_value_has_none_and_no_rows_have_no_groups(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("a", "x", None, 1, None)], TYPES)
    how = {"day": "min", "value": "sum"}
    assert aggregate(LazyArrowRows.from_frame(frame), ["shop"], how, within="shop").to_spark().collect() == [
        ("a", None, None)
    ]
    nothing = LazyArrowRows.from_frame(frame.limit(0))
    assert aggregate(nothing, ["shop", "product"], {}, within="shop").to_spark().isEmpty()
