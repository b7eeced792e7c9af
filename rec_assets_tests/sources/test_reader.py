"""Raw lines of a data source: days, exports, returns, exclusions and URIs."""

import bz2
import datetime as dt
import gzip
import io
import json
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.sources.catalog import read_catalog
from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import read_day, read_export
from rec_assets_tests.sources.reading import (
    COLUMNS,
    DAY,
    HEADER,
    LINE,
    clean,
    in_memory,
    log,
    read,
    shop,
    write,
)

# Lines


def test_a_raw_line_has_types_the_complete_line_file_and_row(tmp_path):
    write(
        tmp_path,
        log(LINE, "2017-01-01 11:00,bob,B2,r2,1,3,loyal", header=HEADER + ",note").replace("1.50", "1.50,"),
    )
    first, second = read(shop(tmp_path)).to_dict("records")
    assert (first["source_file"], first["source_row"], second["source_row"]) == ("2017-01-01.csv", 1, 2)
    assert (first["customer_id"], first["product_id"], first["order_id"]) == ("ann", "A1", "r1")
    assert (first["quantity"], first["unit_price"]) == (2.0, 1.5)
    assert first["event_time"] == pd.Timestamp("2017-01-01 10:00", tz="UTC")
    assert not first["is_return"] and first["excluded_by"] == ""
    assert json.loads(second["line"]) == {
        "at": "2017-01-01 11:00", "buyer": "bob", "sku": "B2", "receipt": "r2", "n": "1", "price": "3",
        "note": "loyal",
    }  # fmt: skip


def test_only_three_columns_are_required(tmp_path):
    write(tmp_path, "who,what,when\nann,A1,2017-01-01\n")
    source = shop(tmp_path, columns="customer_id: who, product_id: what, time: when")
    line = read(source).iloc[0]
    assert line["quantity"] == 1
    assert pd.isna(line["unit_price"]) and pd.isna(line["rating"])
    assert line["order_id"] is None and line["title"] is None and line["text"] is None
    assert clean(source, read(source)).cleaned["order_id"].to_list() == ["ann@2017-01-01"]


def test_the_unit_price_is_the_amount_divided_by_the_quantity(tmp_path):
    write(tmp_path, log("2017-01-01,ann,A1,r1,4,10", "2017-01-01,ann,A2,r1,0,10", "2017-01-01,ann,A3,r1,-2,-6"))
    prices = read(shop(tmp_path, columns=COLUMNS.replace("unit_price", "amount")))["unit_price"]
    assert prices.iloc[0] == 2.5 and pd.isna(prices.iloc[1]) and prices.iloc[2] == 3


@pytest.mark.parametrize(
    "customer",
    ["00123", "0", "1e5", "a b", "ann ", 'a"b', "O'Neil", "😀", "Zoë", "1.10", "NaN", "true", "1/2", "{x}"],
)
def test_ids_are_exactly_as_in_the_file(tmp_path, customer):
    source = shop(tmp_path)
    write(tmp_path, log(f"2017-01-01,{customer},{customer},{customer},1,1"))
    line = clean(source, read(source)).cleaned.iloc[0]
    assert line["customer_id"] == line["product_id"] == line["order_id"] == customer


def test_quoted_values_can_have_delimiters_quotes_and_line_breaks(tmp_path):
    write(tmp_path, log('2017-01-01,"a,b","say ""hi""",r1,1,1', '2017-01-01,"two\nlines",A2,r1,1,1'))
    raw = read(shop(tmp_path))
    assert raw["customer_id"].to_list() == ["a,b", "two\nlines"]
    assert raw["product_id"].to_list() == ['say "hi"', "A2"]


@pytest.mark.parametrize(
    ("written", "reasons"),
    [
        ("2017-01-01,,A1,r,1,1", "no_customer"),
        ("2017-01-01,  ,A1,r,1,1", "no_customer"),
        ("2017-01-01,ann,,r,1,1", "no_product"),
        (",ann,A1,r,1,1", "invalid_time"),
        ("soon,ann,A1,r,1,1", "invalid_time"),
        ("2017-02-30,ann,A1,r,1,1", "invalid_time"),
        ("2017-01-02 00:00,ann,A1,r,1,1", "outside_day"),
        ("2016-12-31 23:59:59,ann,A1,r,1,1", "outside_day"),
        ("2017-01-01,ann,A1,r,0,1", "invalid_quantity"),
        ("2017-01-01,ann,A1,r,-1,1", "invalid_quantity"),
        ("2017-01-01,ann,A1,r,,1", "invalid_quantity"),
        ("2017-01-01,ann,A1,r,two,1", "invalid_quantity"),
        ("2017-01-01,ann,A1,r,inf,1", "invalid_quantity"),
        ("2017-01-01,ann,A1,r,1e9,1", "invalid_quantity"),
        ("2017-01-01,ann,A1,r,1,0", "invalid_price"),
        ("2017-01-01,ann,A1,r,1,NaN", "invalid_price"),
        ("2017-01-01,ann,A1,r,1,-3", "invalid_price"),
        ("2017-01-01 10:00,ann,A1,r1,2,1.50", "duplicate_line"),
        (",,,,,", "no_customer,no_product,invalid_time,invalid_quantity,invalid_price"),
    ],
)
def test_an_invalid_line_is_read_and_cleaning_rejects_only_this_line(tmp_path, written, reasons):
    source = shop(tmp_path)
    valid = [LINE, *(f"2017-01-01 10:0{n},bob,B{n},r2,{n},2" for n in range(1, 4))]
    write(tmp_path, log(*valid, written))
    result = clean(source, read(source))
    assert result.rejected["reasons"].to_list() == [reasons]
    assert result.rejected["source_row"].to_list() == [5]
    assert len(result.cleaned) == 4


def test_unused_columns_can_have_the_same_name(tmp_path):
    write(tmp_path, log(LINE + ",x,y", header=HEADER + ",till,till"))
    assert json.loads(read(shop(tmp_path))["line"][0])["till (2)"] == "y"


# Returns, exclusions, texts


@pytest.mark.parametrize(
    ("returns", "line"),
    [
        ("{negative_quantity: true}", "2017-01-01 11:00,ann,A1,r2,-2,1.5,"),
        ("{order_id_prefix: C}", "2017-01-01 11:00,ann,A1,Cr2,2,1.5,"),
        ("{order_id_prefix: C, negative_quantity: true}", "2017-01-01 11:00,ann,A1,Cr2,-2,-1.5,"),
        (
            "{status: {column: state, values: [returned, refunded], line_type: return}}",
            "2017-01-01 11:00,ann,A1,r2,2,1.5,refunded",
        ),
        ("{status: {column: state, values: R, line_type: return}}", "2017-01-01 11:00,ann,A1,r2,2,1.5, R "),
    ],
)
def test_each_setting_for_returns_finds_returns_which_are_subtracted_from_their_purchase(tmp_path, returns, line):
    source = shop(tmp_path, rest=f"returns: {returns}")
    write(tmp_path, log(LINE + ",sold", line, header=HEADER + ",state"))
    result = clean(source, read(source))
    assert result.rejected.empty
    assert result.cleaned["event"].to_list() == ["purchase", "return"]
    assert result.cleaned["quantity"].to_list() == [2, 2]
    assert result.cleaned["unit_price"].to_list() == [1.5, 1.5]
    assert result.cleaned["net_quantity"].to_list() == [0, 0]


def test_exclude_excludes_lines_with_these_values(tmp_path):
    source = shop(tmp_path, purchases="exclude: {sku: [POST, 007], buyer: test}")
    bob = LINE.replace("ann", "bob")
    write(tmp_path, log(LINE, bob.replace("A1", " POST"), bob.replace("A1", "007"), LINE.replace("ann", "test")))
    assert read(source)["excluded_by"].to_list() == ["", "sku", "sku", "buyer"]
    assert clean(source, read(source)).rejected_by_rule() == {"excluded": 3}


def test_include_excludes_lines_with_other_values(tmp_path):
    source = shop(tmp_path, purchases="include: {kind: [purchase, sale]}")
    lines = [f"{LINE},{kind}" for kind in ("purchase", "view", "", " sale ")]
    write(tmp_path, log(*lines, header=HEADER + ",kind"))
    assert read(source)["excluded_by"].to_list() == ["", "kind", "kind", ""]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", [True, True, True, True, False]),
        (", wrong_size: {column: why, values: small}", [True, False, True, True, False]),
    ],
)
def test_a_return_is_because_of_the_size_by_its_reason_or_without_one(tmp_path, setting, expected):
    states = "{negative_quantity: true, status: {column: state, values: [refunded]}"
    source = shop(tmp_path, rest=f"returns: {states}{setting}}}")
    lines = [("-1", "", " small "), ("-1", "", "color"), ("1", "refunded", "small"), ("-1", "", ""), ("1", "", "small")]
    rows = [
        f"2017-01-01 1{row}:00,ann,A1,r1,{pieces},2,{state},{why}" for row, (pieces, state, why) in enumerate(lines)
    ]
    write(tmp_path, log(*rows, header="at,buyer,sku,receipt,n,price,state,why"))
    assert read(source)["wrong_size"].to_list() == expected


def test_order_columns_have_their_value_on_all_lines_of_the_order(tmp_path):
    columns = COLUMNS.replace("time: at", "time: paid")
    rest = "returns: {status: {column: state, values: [refunded]}}"
    source = shop(tmp_path, columns=columns, purchases="order_columns: [paid, state]", rest=rest)
    first, second = "ann,A1,r1,1,2,2017-01-01 10:00,refunded", "ann,A2,r1,1,2,,"
    write(tmp_path, log(first, second, "bob,A1,r2,1,2,2017-01-01 11:00,paid", "bob,A2,,1,2,,",
                        header="buyer,sku,receipt,n,price,paid,state"))  # fmt: skip
    raw = read(source)
    assert raw["event_time"].notna().to_list() == [True, True, True, False]  # the last line has no order
    assert raw["was_returned"].to_list() == [True, True, False, False]
    assert '"paid":""' in raw["line"][1]  # `line` is as in the file


@pytest.mark.parametrize(
    ("written", "decimal", "price"),
    [
        ("1,100.00", ".", 1100),
        ("1,234,567.5", ".", 1234567.5),
        ("12,34,567.50", ".", 1234567.5),  # India
        ("1 100.50", ".", 1100.5),
        ("1\u202f100,50", ",", 1100.5),  # France
        ("1'100.50", ".", 1100.5),  # Switzerland
        ("1.100,50", ",", 1100.5),
        ("1,10", ".", None),  # a decimal comma without the setting
        ("1,1000", ".", None),
    ],
)
def test_thousands_can_be_grouped(tmp_path, written, decimal, price):
    lines = [LINE.replace("1.50", f'"{price_text}"') for price_text in (written, "1.50".replace(".", decimal))]
    write(tmp_path, log(*lines))
    result = read(shop(tmp_path, purchases=f"decimal: '{decimal}'"))["unit_price"]
    assert result.to_list() == ([price, 1.5] if price else pytest.approx([float("nan"), 1.5], nan_ok=True))


def test_one_decimal_comma_does_not_change_grouped_numbers(tmp_path):
    write(tmp_path, log(*[LINE.replace("1.50", f'"{price}"') for price in ("1,100.00", "2,200.00", "3,5")]))
    assert read(shop(tmp_path))["unit_price"].to_list()[:2] == [1100, 2200]


@pytest.mark.parametrize(
    ("decimal", "written", "read_as"),
    [
        (".", ["0,250", "1,500", "0,750"], None),  # a group doesn't begin with 0, so the comma is the decimal mark
        (",", ["0.250", "1.5", "2.000"], [0.25, 1.5, 2.0]),
        (".", ["12,500", "12,50"], None),
    ],
)
def test_a_decimal_mark_is_not_read_as_a_group_mark(tmp_path, decimal, written, read_as):
    write(tmp_path, log(*[LINE.replace(",2,", f',"{quantity}",') for quantity in written]))
    source = shop(tmp_path, purchases=f"decimal: '{decimal}'")
    if read_as:
        assert read(source)["quantity"].to_list() == read_as
    else:
        with pytest.raises(SourceError, match='set `decimal: ","`'):
            read_day(source, DAY)


def test_the_same_order_id_of_two_customers_is_two_orders(tmp_path):
    source = shop(
        tmp_path, purchases="order_columns: [state]", rest="returns: {status: {column: state, values: [refunded]}}"
    )
    lines = [f"2017-01-01 10:00,{who},A{n},1,1,2,{state}" for who, n, state in
             [("ann", 1, "refunded"), ("ann", 2, ""), ("bob", 1, "paid"), ("bob", 2, ""), ("eve", 1, "")]]  # fmt: skip
    write(tmp_path, log(*lines, header=HEADER + ",state"))
    assert read(source)["was_returned"].to_list() == [True, True, False, False, False]


@pytest.mark.integration
def test_long_values_are_complete_and_keep_their_line_breaks(tmp_path):
    note = "first line\r\nsecond line"
    notes = [note, "x" * 200_000, *[note] * 40_000, "y" * 3_000_000]
    write(tmp_path, log(*[f'{LINE},"{note}"' for note in notes], header=HEADER + ",note"))
    lines = read(shop(tmp_path))["line"].map(json.loads).map(lambda line: line["note"])
    assert lines.to_list() == notes


def test_the_error_for_a_missing_column_names_another_file_that_has_it(tmp_path):
    write(tmp_path, "order_id,buyer\n1,ann\n", "orders.csv")
    write(tmp_path, "order_id,sku,at,n,price\n1,A1,2017-01-01,1,2\n", "items.csv")
    source = shop(tmp_path, path="items.csv", columns=COLUMNS.replace("receipt", "order_id"))
    with pytest.raises(
        SourceError, match=r"orders.csv in the same folder has 'buyer', and both have 'order_id': join the two"
    ):
        read_export(source)


def test_a_used_column_is_not_suggested_for_a_missing_one(tmp_path):
    write(tmp_path, "order_id,sku,at,n,price\n1,A1,2017-01-01,1,2\n", "items.csv")
    columns = "customer_id: customer_id, product_id: sku, time: at, order_id: order_id"
    with pytest.raises(SourceError) as error:
        read_export(shop(tmp_path, path="items.csv", columns=columns))
    assert "did you mean" not in str(error.value)


def test_the_default_text_is_title_category_and_brand(tmp_path):
    header, line = HEADER + ",name,size,group,maker", LINE + ", Oat Milk ,1 l,Drinks,"
    write(tmp_path, log(line, header=header))
    described = "title: [name, size], category: group, brand: maker"
    result = read(shop(tmp_path, columns=f"{COLUMNS}, {described}")).iloc[0]
    assert (result["title"], result["category"], result["brand"]) == ("Oat Milk 1 l", "Drinks", None)
    assert result["text"] == "oat milk, 1 l, drinks"
    assert read(shop(tmp_path, columns=f"{COLUMNS}, {described}, text: [group, name]"))["text"][0] == "drinks, oat milk"


# Days


def test_a_day_without_files_is_closed_if_a_later_day_has_files(tmp_path):
    source = shop(tmp_path)
    write(tmp_path, log(LINE))
    write(tmp_path, log(LINE.replace("01-01", "01-03")), "2017-01-03.csv")
    assert read(source, dt.date(2017, 1, 2)).empty
    with pytest.raises(SourceError, match=r"no files for 2017-01-04 \(newest day: 2017-01-03\): no file matches"):
        read_day(source, dt.date(2017, 1, 4))


def test_a_data_source_without_files_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"no files for 2017-01-01 \(newest day: none\)"):
        read_day(shop(tmp_path), DAY)


def test_all_files_of_a_day_are_read_and_a_repeated_file_counts_once(tmp_path):
    source = shop(tmp_path, path="{date:%Y-%m-%d}*.csv")
    write(tmp_path, log(LINE, LINE.replace("A1", "A2")), "2017-01-01-a.csv")
    write(tmp_path, log(LINE, LINE.replace("A1", "A2")), "2017-01-01-a (1).csv")
    write(tmp_path, log(LINE.replace("A1", "A3")), "2017-01-01-b.csv")
    raw = read(source)
    assert raw["source_file"].nunique() == 3
    result = clean(source, raw)
    assert sorted(result.cleaned["product_id"]) == ["A1", "A2", "A3"]
    assert result.rejected_by_rule() == {"duplicate_line": 2}
    assert result.cleaned["line_id"].is_unique


def test_an_unusable_file_fails_its_day(tmp_path):
    write(tmp_path, log(LINE), "2017-01-01-a.csv")
    write(tmp_path, "", "2017-01-01-b.csv")
    with pytest.raises(SourceError, match=r"2017-01-01-b\.csv: the file is empty"):
        read_day(shop(tmp_path, path="{date:%Y-%m-%d}*.csv"), DAY)


# Exports


def test_an_export_is_split_by_days_in_the_shops_time_zone(tmp_path):
    lines = ["2017-01-01 12:00", "2016-12-31 23:30", "2017-01-03 00:15", "2017-01-01 01:00"]
    write(tmp_path, log(*(f"{at},ann,A{n},r1,1,1" for n, at in enumerate(lines))), "all.csv")
    days = read_export(shop(tmp_path, path="all.csv", rest="time_zone: Europe/Berlin"))
    assert {day.day: table["product_id"].to_pylist() for day, table in days.items()} == {
        31: ["A1"], 1: ["A0", "A3"], 3: ["A2"],
    }  # fmt: skip
    assert all(table.schema.equals(RAW_SCHEMA) for table in days.values())


def test_lines_of_an_export_without_a_time_are_rejected_on_its_newest_day(tmp_path):
    write(tmp_path, log(LINE, LINE.replace("01-01", "01-02"), LINE.replace("2017-01-01 10:00", "??")), "all.csv")
    source = shop(tmp_path, path="all.csv")
    days = read_export(source)
    assert [len(table) for table in days.values()] == [1, 2]
    assert clean(source, days[dt.date(2017, 1, 2)].to_pandas(), dt.date(2017, 1, 2)).rejected_by_rule() == {
        "invalid_time": 1
    }


def test_lines_of_an_export_without_a_time_are_not_after_its_last_day(tmp_path):
    write(tmp_path, log(LINE, LINE.replace("2017", "2099"), LINE.replace("2017-01-01 10:00", "??")), "all.csv")
    days = read_export(shop(tmp_path, path="all.csv", rest="first_day: 2016-12-01\nlast_day: 2017-01-31"))
    assert len(days[dt.date(2017, 1, 31)]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file matches"),
        (HEADER + "\n", "the file has no lines"),
        (log(LINE.replace("2017-01-01 10:00", "??")), "not ISO 8601 times"),
        (log(LINE.replace("2017-01-01 10:00", "")), "column 'at': no line has a"),
    ],
)
def test_an_export_without_times_is_an_error(tmp_path, content, message):
    if content is not None:
        write(tmp_path, content, "all.csv")
    with pytest.raises(SourceError, match=r"all\.csv") as error:
        read_export(shop(tmp_path, path="all.csv"))
    assert message in str(error.value)


# URIs


def as_parquet(text: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(pd.read_csv(io.StringIO(text), dtype=str)), sink)
    return sink.getvalue().to_pybytes()


def as_jsonl(text: str) -> bytes:
    return pd.read_csv(io.StringIO(text), dtype=str).to_json(orient="records", lines=True).encode()


def as_zst(text: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(text.encode())
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "purchases", "written"),
    [
        ("{date:%Y-%m-%d}.csv", "", str.encode),
        ("{date:%Y/%m/%d}/*.csv.gz", "", lambda text: gzip.compress(text.encode())),
        ("{date:%Y-%m-%d}.csv.bz2", "", lambda text: bz2.compress(text.encode())),
        ("{date:%Y-%m-%d}.csv.zst", "", as_zst),
        ("date={date:%Y-%m-%d}", "format: parquet", as_parquet),
        ("{date:%Y-%m-%d}.jsonl.gz", "format: jsonl", lambda text: gzip.compress(as_jsonl(text))),
    ],
)
def test_a_uri_and_a_folder_give_the_same_rows(tmp_path, name, purchases, written):
    for day in (DAY, DAY + dt.timedelta(days=1)):
        content = written(log(LINE.replace(str(DAY), str(day)), f"{day} 11:00,bob,B2,r2,1,3"))
        file = re.sub(r"\{date:(.*?)\}", lambda date, day=day: day.strftime(date[1]), name).replace("*", "a")
        file += "" if "." in file else "/part-0"
        write(tmp_path, content, file)
        store = str(in_memory(tmp_path, content, file)).removesuffix(file)
        here = read(shop(tmp_path, path=name, purchases=purchases), day)
        there = read(shop(tmp_path, path=store + name, purchases=purchases), day)
        assert len(here) == 2
        assert set(here["source_file"]) == {file}
        assert set(there["source_file"]) == {store + file}
        pd.testing.assert_frame_equal(here.drop(columns="source_file"), there.drop(columns="source_file"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("2017-01-01.csv", b"", "the file is empty, without a header"),
        ("2017-01-01.csv", b"PAR1....", "the file is Parquet: set `format: parquet`"),
        ("2017-01-01.csv", b"at,buyer\n2017-01-01,ann\n", "column 'sku' is missing"),
        ("2017-01-01.csv.gz", gzip.compress(log(*[LINE] * 50).encode())[:-9], "Truncated compressed stream"),
    ],
)
def test_the_error_for_a_file_under_a_uri_has_the_uri(tmp_path, name, content, message):
    file = in_memory(tmp_path, content, name)
    with pytest.raises(SourceError) as error:
        read(shop(tmp_path, path=str(file).replace("2017-01-01", "{date:%Y-%m-%d}")))
    assert str(error.value).startswith(f"{file}: ") and message in str(error.value)


def test_an_export_and_a_catalog_can_be_uris(tmp_path):
    export = in_memory(tmp_path, log(LINE, LINE.replace("2017-01-01", "2017-01-02")), "all.csv")
    feed = in_memory(tmp_path, "sku,name\nA1,Tea\n", "products.csv")
    rest = f"catalog: {{path: '{feed}', columns: {{product_id: sku, title: name}}}}"
    source = shop(tmp_path, path=str(export), rest=rest)
    assert list(read_export(source)) == [DAY, DAY + dt.timedelta(days=1)]
    assert read_catalog(source).select(["product_id", "title", "source_file"]).to_pylist() == [
        {"product_id": "A1", "title": "Tea", "source_file": str(feed)}
    ]
