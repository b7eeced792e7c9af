import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.data.returns import net_returns
from rec_assets.recsys.events import PURCHASE, RETURN


def lines(*events: tuple[str, str, int, float]) -> pd.DataFrame:
    """`("ann", "A", 1, 2)`: on day 1, ann bought 2 of A; a negative quantity is a return."""
    rows = [
        {
            "line_id": f"log#{number}",
            "customer_id": customer,
            "product_id": product.split("/")[0],
            "variant_id": product if "/" in product else None,
            "event": PURCHASE if quantity > 0 else RETURN,
            "event_time": pd.Timestamp("2017-01-01", tz="UTC") + pd.Timedelta(days=day),
            "quantity": abs(float(quantity)),
            "net_quantity": abs(float(quantity)),
        }
        for number, (customer, product, day, quantity) in enumerate(events)
    ]
    return pd.DataFrame(rows)


def net(*events: tuple[str, str, int, float]) -> list[float]:
    return net_returns(lines(*events))["net_quantity"].to_list()


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([("ann", "A", 1, 2)], [2]),
        ([("ann", "A", 1, 2), ("ann", "A", 2, -2)], [0, 0]),
        ([("ann", "A", 1, 2), ("ann", "A", 2, -1)], [1, 0]),
        ([("ann", "A", 1, 2), ("ann", "A", 2, -3)], [0, 1]),
        ([("ann", "A", 2, -1), ("ann", "A", 1, 1)], [0, 0]),
        ([("ann", "A", 1, -1), ("ann", "A", 2, 1)], [1, 1]),
        ([("ann", "A", 1, -1), ("ann", "A", 1, 1)], [0, 0]),
        ([("ann", "A", 1, 1), ("ann", "A", 2, 1), ("ann", "A", 3, -1)], [1, 0, 0]),
        ([("ann", "A", 1, 2), ("ann", "A", 2, 1), ("ann", "A", 3, -2)], [1, 0, 0]),
        ([("ann", "A", 1, 1), ("ann", "A", 2, -1), ("ann", "A", 3, 1), ("ann", "A", 4, -1)], [0, 0, 0, 0]),
        ([("ann", "A", 1, 3), ("ann", "A", 2, -1), ("ann", "A", 3, -1)], [1, 0, 0]),
        ([("ann", "A", 1, 1), ("ann", "B", 2, -1)], [1, 1]),
        ([("ann", "A", 1, 1), ("bob", "A", 2, -1)], [1, 1]),
        ([("ann", "A/M", 1, 1), ("ann", "A/L", 2, 1), ("ann", "A/M", 3, -1)], [0, 1, 0]),
        ([("ann", "A", 1, 0.1), ("ann", "A", 2, 0.2), ("ann", "A", 3, -0.3)], [0, 0, 0]),
    ],
    ids=[
        "no return", "all", "some", "more than bought", "rows in any order", "before the purchase",
        "at the time of the purchase", "the latest purchase first", "then the one before", "two returns",
        "one purchase, two returns", "another product", "another customer", "another variant", "fractions",
    ],
)  # fmt: skip
def test_a_return_is_subtracted_from_the_latest_purchases_before_it(events, left):
    assert net(*events) == left


def test_rows_keep_order_index_and_other_columns():
    before = lines(("bob", "B", 3, -1), ("ann", "A", 1, 1), ("bob", "B", 1, 5)).set_index(pd.Index([7, 7, 3]))
    kept = before.copy()
    after = net_returns(before)
    assert before.equals(kept)
    assert after.drop(columns="net_quantity").equals(kept.drop(columns="net_quantity"))
    assert after["net_quantity"].to_list() == [0, 1, 4]


def random_lines(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    events = [
        (rng.choice(["ann", "bob"]), rng.choice(["A", "B"]), int(rng.integers(6)), float(rng.choice([-3, -1, 1, 2, 5])))
        for _ in range(rng.integers(1, 40))
    ]
    return lines(*events).sample(frac=1, random_state=seed)


@pytest.mark.parametrize("seed", range(50))
def test_purchases_and_returns_of_a_pair_decrease_by_the_same_quantity(seed):
    before = random_lines(seed)
    after = net_returns(before)
    taken = (after["quantity"] - after["net_quantity"]).groupby(
        [after["customer_id"], after["product_id"], after["event"]]
    )
    for _, pair in taken.sum().groupby(level=[0, 1]):
        by_event = pair.droplevel([0, 1])
        assert by_event.get(PURCHASE, 0) == by_event.get(RETURN, 0)
    assert after["net_quantity"].between(0, after["quantity"]).all()
    assert net_returns(after)["net_quantity"].equals(after["net_quantity"])


@pytest.mark.parametrize("seed", range(50))
def test_netting_each_day_first_gives_the_same_result(seed):
    window = random_lines(seed)
    by_day = pd.concat([net_returns(day) for _, day in window.groupby("event_time")])
    assert net_returns(by_day)["net_quantity"].sort_index().equals(net_returns(window)["net_quantity"].sort_index())
