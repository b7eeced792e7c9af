"""JSON Lines and Parquet files with one order per row and its lines in a list, as shops' APIs write them."""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rec_assets.recsys.data.cleaning import CleaningSettings, clean_day
from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import read_day
from rec_assets.sources.spec import DataSource, load_data_source

DAY = dt.date(2024, 2, 1)
TEE, HAT = {"sku": "T1", "quantity": 1, "price": "19.90"}, {"sku": "H1", "quantity": 2, "price": "9.00"}
ORDERS = [
    {"id": 1, "at": "2024-02-01T10:00:00Z", "customer": {"id": 77, "address": {"city": "Ulm"}}, "items": [TEE, HAT]},
    {"id": 2, "at": "2024-02-01T11:00:00Z", "customer": {"id": 78, "address": {"city": "Bonn"}}, "items": []},
    {"id": 3, "at": "2024-02-01T12:00:00Z", "customer": {"id": 78, "address": None}, "items": [TEE, TEE]},
]
COLUMNS = "time: at, order_id: id, customer_id: customer.id, product_id: items.sku, quantity: items.quantity"
LINES = [("77", "1", "T1", 1), ("77", "1", "H1", 2), ("78", "3", "T1", 1), ("78", "3", "T1", 1)]


def shop(
    folder: Path, format: str, orders: list[dict], more: str = "explode: items", columns: str = COLUMNS
) -> DataSource:
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(orders), folder / "2024-02-01.parquet")
    else:
        (folder / "2024-02-01.jsonl").write_text("\n".join(map(json.dumps, orders)))
    (folder / "shop.yaml").write_text(
        f"purchases: {{path: '{{date:%Y-%m-%d}}.{format}', format: {format}, columns: {{{columns}}}, {more}}}"
    )
    return load_data_source(str(folder / "shop.yaml"), folder)


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_each_entry_of_the_list_is_a_line_with_the_fields_of_its_order(tmp_path, format):
    lines = read_day(shop(tmp_path, format, ORDERS, columns=COLUMNS + ", title: customer.address.city"), DAY)
    rows = lines.select(["customer_id", "order_id", "product_id", "quantity"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == LINES
    assert lines["source_row"].to_pylist() == [1, 2, 3, 4]
    assert lines["title"].to_pylist() == ["Ulm", "Ulm", None, None]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_equal_entries_of_an_order_are_two_lines_and_a_repeated_order_counts_once(tmp_path, format):
    raw = read_day(shop(tmp_path, format, [*ORDERS, ORDERS[2]]), DAY).to_pandas()
    result = clean_day(raw, DAY, CleaningSettings("UTC", has_price=False))
    assert len(result.cleaned) == 4 and result.rejected_by_rule() == {"duplicate_line": 2}


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
@pytest.mark.parametrize("product", ["items", "items.sku"])
def test_a_list_column_without_explode_is_an_error_with_the_fix(tmp_path, format, product):
    source = shop(tmp_path, format, ORDERS, "", COLUMNS.replace("items.sku", product))
    with pytest.raises(SourceError, match=r"column 'items' has lists.*set `explode: items`"):
        read_day(source, DAY)


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_the_error_for_a_wrong_explode_column_has_the_lists_of_the_file(tmp_path, format):
    with pytest.raises(
        SourceError, match="`explode` is 'item', which is not a list in this file; its lists are 'items'"
    ):
        read_day(shop(tmp_path, format, ORDERS, "explode: item"), DAY)


def test_the_error_for_an_object_as_a_column_suggests_its_field(tmp_path):
    source = shop(tmp_path, "jsonl", ORDERS, columns=COLUMNS.replace("customer.id", "customer"))
    with pytest.raises(SourceError, match=r"column 'customer' is missing.*did you mean 'customer.id'"):
        read_day(source, DAY)


def test_the_error_for_a_json_array_says_how_to_convert_it(tmp_path):
    source = shop(tmp_path, "jsonl", ORDERS)
    (tmp_path / "2024-02-01.jsonl").write_text(json.dumps(ORDERS))
    with pytest.raises(SourceError, match=r"this file is one JSON array: convert it with `jq -c '.\[\]'`"):
        read_day(source, DAY)


def test_the_error_for_deeply_nested_json_has_the_line(tmp_path):
    source = shop(tmp_path, "jsonl", ORDERS)
    (tmp_path / "2024-02-01.jsonl").write_text("[" * 100_000)
    with pytest.raises(SourceError, match="line 1 is nested too deeply"):
        read_day(source, DAY)


def read_jsonl(folder: Path, *orders: dict, columns: str = COLUMNS) -> list[tuple]:
    lines = read_day(shop(folder, "jsonl", list(orders), columns=columns), DAY)
    return [tuple(row.values()) for row in lines.select(["order_id", "customer_id", "product_id"]).to_pylist()]


@pytest.mark.parametrize(
    ("items", "products"),
    [(TEE, ["T1"]), ({"0": TEE, "2": HAT}, ["T1", "H1"]), ([], []), (None, []), ({}, [])],
    ids=["one entry without brackets", "a list with gaps, as PHP writes it", "empty", "null", "an empty object"],
)
def test_unusual_forms_of_a_list_lose_no_line(tmp_path, items, products):
    result = read_jsonl(tmp_path, {**ORDERS[0], "items": items})
    assert [product for _, _, product in result] == products


def test_an_omitted_field_is_empty(tmp_path):
    order = {name: value for name, value in ORDERS[0].items() if name != "customer"}
    assert read_jsonl(tmp_path, order) == [("1", None, "T1"), ("1", None, "H1")]


def test_an_empty_list_instead_of_an_object_is_an_empty_object(tmp_path):
    assert read_jsonl(tmp_path, {**ORDERS[0], "customer": []}, ORDERS[2])[0] == ("1", None, "T1")


def test_ids_of_any_parquet_type_are_text(tmp_path):
    rows = {"at": ["2024-02-01"], "c": pa.array([Decimal("123.0000")]), "p": pa.array([bytes(range(240, 256))])}
    pq.write_table(pa.table({**rows, "picture": pa.array([b"\xff\xfe"])}), tmp_path / "2024-02-01.parquet")
    (tmp_path / "shop.yaml").write_text(
        "purchases: {path: '{date:%Y-%m-%d}.parquet', format: parquet, "
        "columns: {customer_id: c, product_id: p, time: at}}"
    )
    lines = read_day(load_data_source(str(tmp_path / "shop.yaml"), tmp_path), DAY)
    assert lines["customer_id"].to_pylist() == ["123"]
    assert lines["product_id"].to_pylist() == ["f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff"]
