import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rec_assets.recsys.data.cleaning import (
    CLEANED_SCHEMA,
    CLEANING_RULES,
    RETURN_SUFFIX,
    CleanedDay,
    CleaningSettings,
    clean_day,
    signs_of_interest,
)
from rec_assets.recsys.data.cleaning_rules import RejectedLines
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.events import DISMISSED

DAY = dt.date(2017, 1, 1)
UTC = CleaningSettings("UTC", has_price=True)


def raw(*lines: dict[str, Any], day: dt.date = DAY) -> pd.DataFrame:
    """Valid raw lines with these changes."""
    rows = []
    for number, changes in enumerate(lines, start=1):
        line = {
            "source_file": "log.csv", "source_row": number, "order_id": f"r{number}", "customer_id": "ann",
            "product_id": "A1", "event_time": f"{day} 10:00", "quantity": 1.0, "unit_price": 2.0,
            "rating": None, "is_return": False, "was_returned": False, "wrong_size": False, "excluded_by": "",
            "title": None, "category": None, "brand": None, "text": None, "line": f"line {number}", **changes,
        }  # fmt: skip
        rows.append(line)
    frame = pd.DataFrame(rows, columns=RAW_SCHEMA.names)
    frame["event_time"] = pd.to_datetime(frame["event_time"], format="ISO8601", utc=True)
    return pa.Table.from_pandas(frame, schema=RAW_SCHEMA, preserve_index=False).to_pandas()


def clean(lines: pd.DataFrame, settings: CleaningSettings = UTC, day: dt.date = DAY) -> CleanedDay:
    """Clean a day, and check that each line is in the result exactly once."""
    result = clean_day(lines, day, settings)
    assert pa.Table.from_pandas(result.cleaned, schema=CLEANED_SCHEMA, preserve_index=False).num_rows == len(
        result.cleaned
    )
    rejected = result.rejected["source_file"] + "#" + result.rejected["source_row"].astype(str)
    is_line = ~result.cleaned["line_id"].str.endswith(RETURN_SUFFIX)
    both = [*result.cleaned["line_id"][is_line], *rejected]
    assert sorted(both) == sorted(lines["source_file"] + "#" + lines["source_row"].astype(str))
    assert set(",".join(result.rejected["reasons"]).split(",")) - {""} <= set(CLEANING_RULES)
    return result


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, None),
        ({"customer_id": None}, "no_customer"),
        ({"customer_id": " "}, "no_customer"),
        ({"product_id": ""}, "no_product"),
        ({"product_id": "x" * 512}, None),
        ({"product_id": "x" * 513}, "id_too_long"),
        ({"customer_id": "x" * 513}, "id_too_long"),
        ({"order_id": "x" * 513}, "id_too_long"),
        ({"event_time": None}, "invalid_time"),
        ({"event_time": "2017-01-01 23:59:59.999"}, None),
        ({"event_time": "2017-01-02"}, "outside_day"),
        ({"event_time": "2016-12-31 23:59:59.999"}, "outside_day"),
        ({"quantity": 0.5}, None),
        ({"quantity": 0.0}, "invalid_quantity"),
        ({"quantity": -1.0}, "invalid_quantity"),
        ({"quantity": np.nan}, "invalid_quantity"),
        ({"quantity": np.inf}, "invalid_quantity"),
        ({"quantity": -1.0, "is_return": True}, None),
        ({"quantity": 1.0, "is_return": True}, None),
        ({"quantity": 0.0, "is_return": True}, "invalid_quantity"),
        ({"unit_price": 0.0}, "invalid_price"),
        ({"unit_price": -2.0}, "invalid_price"),
        ({"unit_price": np.nan}, "invalid_price"),
        ({"unit_price": np.inf}, "invalid_price"),
        ({"unit_price": -2.0, "is_return": True}, None),
        ({"excluded_by": "department"}, "excluded"),
        ({"product_id": "FUEL"}, "excluded"),
        ({"quantity": 4006381333931.0}, "invalid_quantity"),  # a barcode
        ({"quantity": -4006381333931.0, "is_return": True}, "invalid_quantity"),
        ({"customer_id": None, "quantity": 0.0}, "no_customer,invalid_quantity"),
    ],
)  # fmt: skip
def test_a_line_is_rejected_for_every_rule_it_breaks_and_no_other(changes, reasons):
    result = clean(raw(changes, {}), CleaningSettings("UTC", True, frozenset({"FUEL"})))
    assert result.rejected["reasons"].to_list() == ([reasons] if reasons else [])
    assert result.rejected_by_rule() == dict.fromkeys(reasons.split(",") if reasons else [], 1)


def test_a_data_source_without_prices_needs_none():
    assert clean(raw({"unit_price": np.nan}), CleaningSettings("UTC", has_price=False)).rejected.empty


def test_a_rejected_line_is_complete():
    lines = raw({}, {"customer_id": "", "title": "Tea", "line": '{"all": "of it"}'})
    rejected = clean(lines).rejected
    assert rejected.drop(columns="reasons").equals(lines.iloc[[1]].reset_index(drop=True))


def test_a_day_without_lines_gives_empty_tables():
    result = clean(raw())
    assert result.cleaned.empty and result.rejected.empty
    assert result.rejected_by_rule() == {}


# The day


@pytest.mark.parametrize(
    ("zone", "day", "inside", "outside"),
    [
        ("America/New_York", "2017-01-01", ["2017-01-01 05:00", "2017-01-02 04:59"], ["2017-01-01 04:59"]),
        ("Asia/Tokyo", "2017-01-01", ["2016-12-31 15:00", "2017-01-01 14:59"], ["2017-01-01 15:00"]),
        # Days of 23 and 25 hours.
        ("Europe/Berlin", "2017-03-26", ["2017-03-25 23:00", "2017-03-26 21:59"], ["2017-03-26 22:00"]),
        ("Europe/Berlin", "2017-10-29", ["2017-10-28 22:00", "2017-10-29 22:59"], ["2017-10-29 23:00"]),
        # Clocks skip midnight, so that the day begins at 1:00; and they go back to 0:00 after an hour.
        ("America/Sao_Paulo", "2017-10-15", ["2017-10-15 03:00", "2017-10-16 01:59"], ["2017-10-15 02:59"]),
        ("America/Havana", "2017-11-05", ["2017-11-05 04:00", "2017-11-06 04:59"], ["2017-11-05 03:59"]),
    ],
)
def test_the_day_is_in_the_shops_time_zone(zone, day, inside, outside):
    lines = raw(*({"event_time": at} for at in [*inside, *outside]))
    result = clean(lines, CleaningSettings(zone, True), dt.date.fromisoformat(day))
    assert result.cleaned["event_time"].dt.strftime("%Y-%m-%d %H:%M").to_list() == inside
    assert result.rejected["reasons"].to_list() == ["outside_day"] * len(outside)


# Bulk orders and duplicates


@pytest.mark.parametrize(
    ("usual", "passes", "bulk"),
    [
        ([1] * 200, 40, 80),  # a grocer
        ([1, 2, 3, 6, 12, 12, 24, 48] * 20, 4800, 80995),  # a wholesaler
        ([0.25, 0.5, 1.0] * 50, 20, 100),  # by the kilo
        ([1, 2] * 3, 500, 9e5),  # a day with few lines
    ],
)
def test_the_limit_of_bulk_orders_depends_on_the_quantities_of_the_day(usual, passes, bulk):
    lines = raw(*({"quantity": float(quantity)} for quantity in [*usual, passes, bulk]))
    result = clean(lines)
    assert result.rejected.empty
    assert result.cleaned.loc[result.cleaned["weight"] == 0, "quantity"].to_list() == [bulk]


@pytest.mark.parametrize(
    ("bulk_quantity", "bulk"), [(None, [900, 2000]), (1000.0, [2000]), ("none", []), (1.0, [900, 2000])]
)
def test_the_shop_can_set_the_limit_of_bulk_orders(bulk_quantity, bulk):
    lines = raw(*[{}] * 20, {"quantity": 900.0}, {"quantity": 2000.0})
    cleaned = clean(lines, CleaningSettings("UTC", True, bulk_quantity=bulk_quantity)).cleaned
    assert cleaned.loc[cleaned["weight"] == 0, "quantity"].to_list() == bulk


def test_with_a_bulk_quantity_no_quantity_is_too_large():
    assert clean(raw({"quantity": 3e6}), CleaningSettings("UTC", True, bulk_quantity="none")).rejected.empty


def test_rejected_lines_do_not_change_the_limit_of_bulk_orders():
    fuel = [{"quantity": 9000.0, "excluded_by": "department"}] * 50
    result = clean(raw(*fuel, *[{}] * 20, {"quantity": 9000.0}))
    assert result.rejected_by_rule() == {"excluded": 50}
    assert result.cleaned["weight"].to_list() == [1] * 20 + [0]


def test_the_first_of_equal_lines_counts():
    same = {"line": "same", "order_id": "r1"}
    result = clean(raw(same, {}, {**same, "source_file": "log2.csv"}, same))
    assert result.cleaned["line_id"].to_list() == ["log.csv#1", "log.csv#2"]
    assert result.rejected_by_rule() == {"duplicate_line": 2}


def test_lines_that_differ_in_any_column_are_not_duplicates():
    same = {"order_id": "r1"}
    assert len(clean(raw({**same, "line": "piece 1"}, {**same, "line": "piece 2"})).cleaned) == 2


def test_a_rejected_line_is_not_also_a_duplicate():
    result = clean(raw(*[{"customer_id": None, "line": "same"}] * 3))
    assert result.rejected_by_rule() == {"no_customer": 3}


# Valid lines


def test_purchases_and_returns_have_positive_quantities():
    result = clean(raw({"quantity": 3.0}, {"quantity": -2.0, "unit_price": -2.0, "is_return": True, "rating": 4.0}))
    bought, returned = result.cleaned.to_dict("records")
    assert (bought["event"], bought["quantity"], bought["net_quantity"]) == ("purchase", 3, 1)
    assert (returned["event"], returned["quantity"], returned["net_quantity"]) == ("return", 2, 0)
    assert returned["unit_price"] == 2 and returned["rating"] == 4


@pytest.mark.parametrize("order", [None, "", " "])
def test_without_an_order_id_all_lines_of_a_customer_and_day_are_one_order(order):
    lines = [
        {"order_id": order},
        {"order_id": order, "product_id": "B"},
        {"order_id": order, "customer_id": "bob"},
    ]
    assert clean(raw(*lines)).cleaned["order_id"].to_list() == [
        "ann@2017-01-01",
        "ann@2017-01-01",
        "bob@2017-01-01",
    ]


def test_a_status_on_the_purchase_line_cancels_no_other_purchase():
    lines = clean(raw({"order_id": "o1"}, {"order_id": "o2", "was_returned": True})).cleaned
    assert lines[["order_id", "event", "net_quantity"]].to_numpy().tolist() == [
        ["o1", "purchase", 1], ["o2", "purchase", 0], ["o2", "return", 0],
    ]  # fmt: skip


def test_a_return_keeps_whether_it_is_because_of_the_size():
    of_size = {"wrong_size": True}
    lines = clean(raw({"was_returned": True, **of_size}, {"is_return": True, **of_size}, {"is_return": True})).cleaned
    assert lines[["event", "wrong_size"]].to_numpy().tolist() == [
        ["purchase", False], ["return", True], ["return", False], ["return", True],
    ]  # fmt: skip


def test_a_return_without_a_purchase_on_the_day_is_not_subtracted():
    assert clean(raw({"is_return": True})).cleaned["net_quantity"].to_list() == [1]


def test_clicks_and_carts_count_once_per_session_with_the_largest_weight() -> None:
    columns = ["event_id", "type", "customer_id", "session_id", "product_id"]
    events = pd.DataFrame(
        [
            ("e1", "click", "ann", "s1", "A"),
            ("e2", "cart", "ann", "s1", "A"),
            ("e3", "click", "ann", "s1", "A"),
            ("e4", "impression", "ann", "s1", "B"),
            ("e5", "purchase", "ann", "s1", "A"),
            ("e6", "click", None, "s1", "C"),  # before signing in
            ("e7", "click", None, "s2", "C"),  # nobody signs in
            ("e8", "click", "bob", "s3", "C"),
            ("e9", "click", "cid", "s3", "C"),
            ("f1", "click", None, "s3", "D"),  # two customers share the device
            ("f2", "click", "ann", None, "C"),
        ],
        columns=columns,
    ).assign(time=pd.Timestamp("2017-01-01 10:00", tz="UTC"), sender=None)
    result = signs_of_interest(events, {"click": 0.1, "cart": 0.3}, 300)
    kept = result[["line_id", "customer_id", "product_id", "order_id", "event", "weight"]]
    assert kept.to_numpy().tolist() == [
        ["event:e2", "ann", "A", "s1", "cart", 0.3],
        ["event:e6", "ann", "C", "s1", "click", 0.1],
        ["event:e8", "bob", "C", "s3", "click", 0.1],
        ["event:e9", "cid", "C", "s3", "click", 0.1],
        ["event:f2", "ann", "C", "ann@visit", "click", 0.1],
    ]
    pa.Table.from_pandas(result, schema=CLEANED_SCHEMA, preserve_index=False)
    sent = events.assign(sender=[None] * 7 + ["x", "y", None, None]).replace({"event_id": {"e9": "e8"}})
    lines = signs_of_interest(sent, {"click": 0.1, "cart": 0.3}, 300)["line_id"]
    assert lines.to_list() == ["event:e2", "event:e6", "event:f2", "event@x:e8", "event@y:e8"], (
        "two senders can use the same event id"
    )
    assert signs_of_interest(events, {"click": 0.0, "cart": 0.0}, 300).empty
    assert signs_of_interest(events.iloc[:0], {"click": 0.1}, 300).empty


def minutes(*events: tuple[int, str, str]) -> pd.DataFrame:
    """Events of ann in one session: minute, type, product."""
    frame = pd.DataFrame(events, columns=["minute", "type", "product_id"])
    time = pd.Timestamp("2017-01-01 10:00", tz="UTC") + pd.to_timedelta(frame["minute"], unit="min")
    ids = "e" + frame.index.astype(str)
    return frame.assign(event_id=ids, customer_id="ann", session_id="s1", time=time, sender=None)


def test_a_removal_takes_what_was_put_in_before_out_of_the_cart() -> None:
    events = minutes(
        (0, "view", "A"), (1, "cart", "A"), (2, "removal", "A"), (1, "cart", "B"), (3, "removal", "C"),
        (4, "cart", "D"), (5, "removal", "D"), (6, "cart", "D"),
    )  # fmt: skip
    found = signs_of_interest(events, {"view": 0.1, "cart": 0.3}, 300)
    assert found[["product_id", "event", "weight"]].to_numpy().tolist() == [
        ["A", "view", 0.1], ["B", "cart", 0.3], ["D", "cart", 0.3],
    ]  # fmt: skip


def test_a_dismissal_is_a_row_of_its_own_with_a_negative_weight() -> None:
    events = minutes((0, "view", "A"), (1, "dismissal", "A"), (2, "dismissal", "A"), (3, "dismissal", "B"))
    found = signs_of_interest(events, {"view": 0.1}, 300)
    assert found[["product_id", "event", "weight"]].to_numpy().tolist() == [
        ["A", "view", 0.1], ["A", "dismissal", DISMISSED], ["B", "dismissal", DISMISSED],
    ]  # fmt: skip


def test_a_line_of_a_variant_counts_for_its_product() -> None:
    lines = raw(
        {"product_id": "A-M"}, {"product_id": "A"}, {"product_id": "B-1", "variant_of": "B"}, {"product_id": "C"}
    )
    settings = CleaningSettings("UTC", True, product_of_variant={"A-M": "A"})
    found = clean_day(lines, DAY, settings).cleaned.sort_values("line_id")
    assert found[["product_id", "variant_id"]].to_numpy().tolist() == [
        ["A", "A-M"], ["A", None], ["B", "B-1"], ["C", None],
    ]  # fmt: skip
    events = signs_of_interest(
        minutes((0, "view", "A-M"), (1, "cart", "A")), {"view": 0.1, "cart": 0.3}, 300, {"A-M": "A"}
    )
    assert events[["product_id", "event"]].to_numpy().tolist() == [["A", "cart"]]


def test_a_return_belongs_to_the_purchase_of_the_same_variant() -> None:
    settings = CleaningSettings("UTC", True, product_of_variant={"A-M": "A", "A-L": "A"})
    later = pd.Timestamp("2017-01-01 23:00", tz="UTC")
    lines = raw(
        {"product_id": "A-M"}, {"product_id": "A-L"}, {"product_id": "A-M", "is_return": True, "event_time": later}
    )
    found = clean_day(lines, DAY, settings).cleaned.sort_values("line_id")
    assert found["net_quantity"].to_list() == [0, 1, 0]


def test_a_customer_with_events_on_too_many_products_is_a_robot() -> None:
    events = [("robot", f"p{number}") for number in range(4)] + [
        ("ann", "p1"),
        ("ann", "p1"),
        ("ann", "p2"),
        ("ann", "p3"),
    ]
    events = pd.DataFrame(events, columns=["customer_id", "product_id"]).assign(
        event_id=[f"e{number}" for number in range(8)], type="click", session_id="s-" + pd.Series(range(8)).astype(str),
        time=pd.Timestamp("2017-01-01", tz="UTC"), sender=None,
    )  # fmt: skip
    result = signs_of_interest(events, {"click": 0.1}, max_products=3)
    assert result["customer_id"].to_list() == ["ann"] * 4


def test_the_most_common_values_are_those_of_all_columns_of_a_field():
    lines = [{"Product": "Mug ", "Variant": variant, "Qty": quantity} for variant, quantity in
             [("red", 0), ("red", 0), (None, 0), ("blue", 1)]]  # fmt: skip
    rejected = RejectedLines(
        pd.DataFrame({"line": [json.dumps(each) for each in lines]}),
        {"title": ["Product", "Variant"], "quantity": ["Qty"], "amount": []},
    )
    assert rejected.common_values("title").startswith("in these lines, 'Product' 'Variant' is 'Mug red' or 'Mug")
    assert rejected.common_values("amount", "quantity") == "in these lines, 'Qty' is '0' or '1'"
    assert rejected.common_values("amount") == "in these lines, 'amount' is ''", "the shop has no such column"
