import datetime as dt

import numpy as np
import pandas as pd

from rec_assets.recsys.data.interactions import history_lines, net_purchases
from rec_assets.recsys.events import CLICK
from rec_assets_tests.recsys.data.test_returns import lines


def test_net_purchases_are_the_lines_that_were_not_returned(spark):
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
    )
    clicked = window.iloc[[5]].assign(event=CLICK, order_id="s1", weight=0.1, net_quantity=0.0)
    bulk = window.iloc[[0, 5]].assign(product_id="D", weight=0.0)  # a bulk order and its return
    window = pd.concat([window, clicked, bulk])
    kept = [("ann", "A", "r0", dt.date(2017, 1, 2), 9, 1.0, 3.0), ("bob", "B", "r4", dt.date(2017, 1, 5), 6, 1.0, 1.0)]
    net_lines = net_purchases(spark.createDataFrame(window), dt.date(2017, 1, 11))
    assert net_lines.columns == [
        "customer_id", "product_id", "order_id", "date", "age_days", "weight", "quantity", "unit_price", "rating",
    ]  # fmt: skip
    assert sorted(tuple(row)[:7] for row in net_lines.collect()) == kept
    history = history_lines(spark.createDataFrame(window), dt.date(2017, 1, 11))
    assert sorted(tuple(row)[:7] for row in history.where("weight > 0").collect()) == [
        *kept,
        ("bob", "C", "s1", dt.date(2017, 1, 6), 5, 0.1, 0.0),
    ]
    returned = history.where("weight <= 0").select("customer_id", "product_id", "order_id", "age_days", "weight")
    assert sorted(tuple(row) for row in returned.collect()) == [
        ("ann", "A", "r1", 1, -1.0), ("ann", "B", "r3", 7, -1.0), ("bob", "C", "r5", 5, -1.0),
    ]  # fmt: skip
