import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import SparkSession

from rec_assets.recsys.data.interactions import (
    HISTORY_TYPES,
    IS_PURCHASE,
    EarlierHistories,
    customer_histories,
    history_lines,
    net_purchases,
)
from rec_assets.recsys.data.returns import net_returns
from rec_assets.recsys.events import CLICK, PURCHASE, RETURN
from rec_assets.recsys.spark.arrow_rows import arrow_schema
from rec_assets.resources.lake import Lake
from rec_assets_tests.recsys.data.test_returns import lines

CLEANED = (
    "customer_id string, product_id string, variant_id string, order_id string, event string, event_time timestamp, "
    "line_id string, weight double, net_quantity double, unit_price double, rating double, wrong_size boolean, "
    "date date"
)
FILES, LOOKBACK, FIRST = 8, 5, dt.date(2017, 1, 1)


def test_net_purchases_are_the_lines_that_were_not_returned(spark: SparkSession) -> None:
    window = lines(
        ("ann", "A", 1, 5), ("ann", "A", 9, -2), ("ann", "B", 2, 1), ("ann", "B", 3, -1), ("bob", "B", 4, 1),
        ("bob", "C", 5, -1),
    )  # fmt: skip
    window = window.assign(
        order_id="r" + window.index.astype(str),
        date=window["event_time"].dt.date,
        weight=1.0,
        unit_price=2.0,
        rating=np.nan,
        wrong_size=window.index == 3,
    )
    clicked = window.iloc[[5]].assign(event=CLICK, order_id="s1", weight=0.1, net_quantity=0.0)
    bulk = window.iloc[[0, 5]].assign(product_id="D", weight=0.0)  # a bulk order and its return
    window = pd.concat([window, clicked, bulk])[[column.split()[0] for column in CLEANED.split(", ")]]
    kept = [("ann", "A", "r0", 9, 1.0, 3.0), ("bob", "B", "r4", 6, 1.0, 1.0)]
    columns = ["customer_id", "product_id", "order_id", "age_days", "weight", "quantity"]
    net_lines = net_purchases(spark.createDataFrame(window, CLEANED), dt.date(2017, 1, 11)).select(columns)
    assert sorted(tuple(row) for row in net_lines.collect()) == kept
    history = history_lines(spark.createDataFrame(window, CLEANED), dt.date(2017, 1, 11))
    assert sorted(tuple(row) for row in history.where("weight > 0").select(columns).collect()) == [
        *kept,
        ("bob", "C", "s1", 5, 0.1, 0.0),
    ]
    returned = history.where("weight < 0").select(*columns[:-1], "wrong_size")
    assert sorted(tuple(row) for row in returned.collect()) == [
        ("ann", "A", "r1", 1, -1.0, False), ("ann", "B", "r3", 7, -1.0, True), ("bob", "C", "r5", 5, -1.0, False),
    ]  # fmt: skip
    assert [tuple(row) for row in history.where("weight = 0").select(columns).collect()] == [
        ("ann", "D", "r0", 9, 0.0, 5.0)
    ], "a bulk order stays, because a later return may cancel it"


def random_days(seed: int) -> Iterator[pd.DataFrame]:
    """Cleaned lines of days without end, with returns of earlier days; on some days there are none, or one."""
    rng, number = np.random.default_rng(seed), 0
    day = FIRST
    while True:
        rows = []
        for _ in range(rng.choice([0, 1, 25, 60])):
            event = rng.choice([PURCHASE, RETURN, CLICK], p=[0.6, 0.3, 0.1])
            number += 1
            rows.append(
                (f"c{rng.integers(9)}", f"p{rng.integers(4)}", rng.choice([None, "M"]), f"o{number // 3}", event,
                 pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=int(rng.integers(3))), f"l{rng.integers(1e9)}",
                 0.2 if event == CLICK else float(rng.random() < 0.9),
                 0.0 if event == CLICK else rng.integers(1, 9) / 10,
                 2.5, None, event == RETURN, day)
            )  # fmt: skip
        names = [column.split()[0] for column in CLEANED.split(", ")]
        frame = pd.DataFrame(rows, columns=names)
        yield frame.assign(net_quantity=net_returns(frame)["net_quantity"]) if rows else frame
        day += dt.timedelta(days=1)


def test_histories_of_a_new_day_continue_those_of_an_earlier_one(spark: SparkSession, tmp_path: Path) -> None:
    lake, stream, window = Lake(tmp_path / "lake"), random_days(1), pd.DataFrame()
    known, day, bought = None, FIRST, 0
    for number in range(2 * LOOKBACK):
        window = pd.concat([window, next(stream)])
        window = window[window["date"] > day - dt.timedelta(days=LOOKBACK)]
        frame = spark.createDataFrame(window, CLEANED)
        at_once = lake.write("at_once", customer_histories(frame, day, FILES), day)
        if known is not None:
            frame = frame.where(f"date > '{known.as_of}'")
        continued = lake.write("continued", customer_histories(frame, day, FILES, known), day)
        assert continued.fingerprint == at_once.fingerprint
        rows = lake.table("continued").spark(spark, [day])
        net = net_returns(window.reset_index(drop=True))
        kept = net[(net["event"] == PURCHASE) & (net["net_quantity"] > 0) & (net["weight"] == 1)]
        assert sorted(row.quantity for row in rows.where(IS_PURCHASE).collect()) == sorted(kept["net_quantity"])
        bought += len(kept)
        if number % 3 < 2:  # not from each day to the next
            read = lake.table("continued").part_reader(day)
            assert read is not None
            known = EarlierHistories(day, LOOKBACK, read)
        day += dt.timedelta(days=1)
    assert bought > 100


def test_a_file_of_histories_has_whole_customers_in_the_order_of_time(spark: SparkSession, tmp_path: Path) -> None:
    stream = random_days(3)
    window = pd.concat([next(stream) for _ in range(LOOKBACK)])
    as_of = FIRST + dt.timedelta(days=LOOKBACK - 1)
    lake = Lake(tmp_path / "lake")
    lake.write("histories", customer_histories(spark.createDataFrame(window, CLEANED), as_of, FILES), as_of)
    read, customers = lake.table("histories").part_reader(as_of), []
    assert read is not None
    for number in range(FILES):
        rows = read(number).to_pandas()
        customers += rows["customer_id"].unique().tolist()
        for _, of_customer in rows.groupby("customer_id"):
            assert of_customer["age_days"].is_monotonic_decreasing
    assert sorted(customers) == sorted(window["customer_id"].unique())
    assert arrow_schema(HISTORY_TYPES).names == [name for name in read(0).schema.names if name != "date"]
    assert pa.types.is_int32(read(0).schema.field("age_days").type)
