import bz2
import datetime as dt
import gzip
import io
import json
import lzma
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from rec_assets.recsys.data.cleaning import CleanedDay, CleaningSettings, clean_day
from rec_assets.recsys.events import MAX_NAME_LENGTH, MAX_TEXT_LENGTH
from rec_assets.sources import formats
from rec_assets.sources.errors import SourceError
from rec_assets.sources.reader import (
    CATALOG_SCHEMA,
    RAW_SCHEMA,
    read_catalog,
    read_day,
    read_export,
)
from rec_assets.sources.spec import DataSource, load_data_source

DAY = dt.date(2017, 1, 1)
COLUMNS = "customer_id: buyer, product_id: sku, time: at, order_id: receipt, quantity: n, unit_price: price"
HEADER = "at,buyer,sku,receipt,n,price"
LINE = "2017-01-01 10:00,ann,A1,r1,2,1.50"


def shop(
    folder: Path,
    *,
    columns: str = COLUMNS,
    path: str = "{date:%Y-%m-%d}.csv",
    purchases: str = "",
    rest: str = "",
) -> DataSource:
    """A data source whose purchase log has COLUMNS, with changes."""
    (folder / "shop.yaml").write_text(
        f"purchases: {{path: '{path}', columns: {{{columns}}}, {purchases}}}\n{rest}\n", encoding="utf-8"
    )
    return load_data_source(str(folder / "shop.yaml"), folder / "home")


def log(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def write(folder: Path, content: str | bytes, name: str = "2017-01-01.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(source: DataSource, day: dt.date = DAY) -> pd.DataFrame:
    table = read_day(source, day)
    assert table.schema.equals(RAW_SCHEMA)
    return table.to_pandas()


def clean(source: DataSource, raw: pd.DataFrame, day: dt.date = DAY) -> CleanedDay:
    cleaned = clean_day(raw, day, CleaningSettings(source.time_zone, source.has_price))
    assert len(raw) == len(cleaned.cleaned) + len(cleaned.rejected)
    return cleaned


def times(source: DataSource, *written: str) -> list[str]:
    """The times that the data source reads, in UTC."""
    write(source.folder, log(*(f"{at},ann,A1,r{n},1,1" for n, at in enumerate(written))))
    result = read(source)["event_time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    return [at if isinstance(at, str) else "unreadable" for at in result]


def in_memory(folder: Path, content: str | bytes, name: str) -> UPath:
    """Land a file in an object store, in a folder of the test."""
    path = UPath(f"memory:/{folder}/store/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


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


# Unusable files

GOOD = log(*[f"2017-01-01 10:{n:02},ann,A{n},r1,1,1.5" for n in range(60)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty, without a header: land it again"),
        ("\n\n", "the file is empty, without a header"),
        (GOOD.replace(",", ";"), "column 'buyer' is missing; the file has 'at;buyer;sku;receipt;n;price' ("),
        (GOOD.replace("1.5", "1,5"), "Row #2: Expected 6 columns, got 7: 2017-01-01 10:00,ann,A0,r1,1,1,5"),
        (GOOD.replace(",", ";").replace("1.5", "1,5"), "check `delimiter` (the header has ';')"),
        (GOOD + "2017-01-01 10:00,ann\n", "Row #62: Expected 6 columns, got 2"),
        (GOOD.replace("A7,", '"A7,'), "each quote is closed"),
        (GOOD.replace("A7,r1,1,1.5", 'A7,r1,1,"1.5'), "a quote is not closed"),
        (GOOD.replace("A7", "Käse").encode("latin-1"), "column 'sku': not utf-8 text; set `encoding`, for"),
        (GOOD.replace("buyer", "Käufer").encode("latin-1"), "not utf-8 text"),
        (GOOD.replace("buyer", "Buyer"), "column 'buyer' is missing; the file has 'at', 'Buyer', 'sku', "),
        (GOOD.replace("buyer", "buyer "), "did you mean 'buyer '?"),
        (GOOD.replace("sku", "buyer"), "two columns have the name 'buyer': rename one"),
        (GOOD.replace(",1.5", ",cheap"), "column 'price': 60 of 60 values are not numbers, for example"),
        (GOOD.replace(",1.5", ',"1,5"'), "for example '1,5' in row 1; set `decimal: \",\"`"),
        (GOOD.replace(",1,", ",one,"), "column 'n': 60 of 60 values are not numbers, for example 'one' in"),
        (GOOD.replace("2017-01-01", "13/01/2017"), "column 'at': 60 of 60 values are not ISO 8601 times, "
         """for example '13/01/2017 10:00' in row 1; set `time_format: "%d/%m/%Y %H:%M"`"""),
        (GOOD.replace("2017-01-01", "01/13/2017"), 'set `time_format: "%m/%d/%Y %H:%M"`'),
        (GOOD.replace("2017-01-01 10:", "14832648"), "set `time_format: unix_seconds`"),
        (GOOD.replace("2017-01-01 10:", "14832648000"), "set `time_format: unix_milliseconds`"),
        (GOOD.replace("2017-01-01 10:", "once upon "), "unknown time format: set `time_format`"),
        (bytes(range(1, 256)), "check `delimiter`"),
        (b"PAR1" + bytes(99), "the file is Parquet: set `format: parquet`"),
        (b"PK\x03\x04" + bytes(99), "the file is a zip archive or an Excel file: unpack it, or save it as CSV"),
        (gzip.compress(GOOD.encode()), "the file is gzipped: give it a name that ends in .gz"),
        (lzma.compress(GOOD.encode()), "the file is packed with xz: unpack it, or pack it as .gz, .bz2 or .zst"),
    ],
)  # fmt: skip
def test_the_error_for_an_unusable_csv_file_has_the_file_the_column_and_the_fix(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(SourceError) as error:
        read(shop(tmp_path))
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(("name", "purchases"), [("2017-01-01.csv.gz", ""), ("2017-01-01.jsonl.gz", "format: jsonl")])
def test_a_file_that_unpacks_to_too_many_bytes_is_an_error(tmp_path, monkeypatch, name, purchases):
    monkeypatch.setattr(formats, "MAX_DECOMPRESSED_BYTES", 1 << 20)
    path = write(tmp_path, gzip.compress(b'{"at": "2017-01-01"}\n' * 100_000), name)
    with pytest.raises(SourceError, match=r"decompresses to more than .* split it into several files") as error:
        read(shop(tmp_path, path="{date:%Y-%m-%d}" + name[10:], purchases=purchases))
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_is_gzipped_twice_is_an_error(tmp_path):
    write(tmp_path, gzip.compress(gzip.compress(GOOD.encode())), "2017-01-01.csv.gz")
    with pytest.raises(SourceError, match="the file is gzipped twice: unpack it once"):
        read(shop(tmp_path, path="{date:%Y-%m-%d}.csv.gz"))


def test_long_texts_are_cut(tmp_path):
    write(tmp_path, log(f'{LINE},"{"A" * 50_000}"', header=HEADER + ",note"))
    line = read(shop(tmp_path, columns=f"{COLUMNS}, title: note")).iloc[0]
    assert (line["title"], line["text"]) == ("A" * MAX_NAME_LENGTH, "a" * MAX_TEXT_LENGTH)
    assert len(json.loads(line["line"])["note"]) == 50_000


@pytest.mark.parametrize("cut", [30, -9, -4, -1])
def test_a_truncated_gzip_file_is_an_error(tmp_path, cut):
    path = write(tmp_path, gzip.compress(GOOD.encode())[:cut], "2017-01-01.csv.gz")
    with pytest.raises(SourceError) as error:
        read(shop(tmp_path, path="{date:%Y-%m-%d}.csv.gz"))
    assert str(error.value).startswith(f"{path}: can't be read as csv: Truncated")
    assert "land it again" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("parquet", b"", "the file is empty"),
        ("parquet", GOOD.encode(), "can't be read as parquet"),
        ("jsonl", b"", "the file is empty"),
        ("jsonl", b"\n\n", "the file has no lines"),
        ("jsonl", GOOD.encode(), "line 1 is not JSON"),
        ("jsonl", b'[{"at": 1},\n{"at": 2}]', "line 1 is not JSON"),
        ("jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("jsonl", b'{"at": "2017-01-01"}\n{"at": "2017', "line 2 is not JSON"),
        ("jsonl", '{"at": "Käse"}'.encode("latin-1"), "not utf-8 text"),
        ("jsonl", b'{"at": "2017-01-01"}', "column 'buyer' is missing; the file has 'at'"),
    ],
)
def test_the_error_for_a_file_of_another_format_says_what_is_wrong(tmp_path, kind, content, message):
    path = write(tmp_path, content, "2017-01-01.x")
    with pytest.raises(SourceError) as error:
        read(shop(tmp_path, path="{date:%Y-%m-%d}.x", purchases=f"format: {kind}"))
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_column_is_an_error_if_most_values_are_unreadable(tmp_path):
    source = shop(tmp_path)
    write(
        tmp_path,
        log(*["2017-01-01,ann,A1,r1,1,1"] * 2, *["2017-01-01,ann,A1,r1,x,1"] * 2, "2017-01-01,ann,A1,r1,,1"),
    )
    assert read(source)["quantity"].notna().sum() == 2
    write(tmp_path, log(*["2017-01-01,ann,A1,r1,1,1"] * 2, *["2017-01-01,ann,A1,r1,x,1"] * 3))
    with pytest.raises(SourceError, match="column 'n': 3 of 5 values"):
        read(source)


@pytest.mark.parametrize("header", [HEADER, HEADER + "\n", "\ufeff" + HEADER + "\r\n"])
def test_a_file_with_only_a_header_is_a_day_without_lines(tmp_path, header):
    source = shop(tmp_path)
    write(tmp_path, header)
    raw = read(source)
    assert raw.empty
    assert clean(source, raw).rejected_by_rule() == {}


# Formats


@pytest.mark.parametrize(
    ("purchases", "name", "content"),
    [
        ("encoding: latin-1", "2017-01-01.csv", log("2017-01-01,Zoë,Käse,r1,2,1.5").encode("latin-1")),
        ("encoding: utf-16", "2017-01-01.csv", log("2017-01-01,Zoë,Käse,r1,2,1.5").encode("utf-16")),
        ("delimiter: ;", "2017-01-01.csv", log("2017-01-01,Zoë,Käse,r1,2,1.5").replace(",", ";").encode()),
        (r"delimiter: \t", "2017-01-01.csv", log("2017-01-01,Zoë,Käse,r1,2,1.5").replace(",", "\t").encode()),
        ("delimiter: ;, decimal: ','", "2017-01-01.csv",
         log("2017-01-01;Zoë;Käse;r1;2;1,5", header=HEADER.replace(",", ";")).encode()),
        ("", "2017-01-01.csv",
         ("\ufeff" + log("2017-01-01,Zoë,Käse,r1,2,1.5")).replace("\n", "\r\n").encode()),
        ("", "2017-01-01.csv.gz", gzip.compress(log("2017-01-01,Zoë,Käse,r1,2,1.5").encode())),
        ("", "2017-01-01.csv", b"\n" + log("2017-01-01,Zo\xeb,K\xe4se,r1,2,1.5").encode()),
    ],
    ids=["latin-1", "utf-16", "semicolon", "tab", "decimal comma", "windows", "gzip", "blank first line"],
)  # fmt: skip
def test_csv_files_can_have_any_encoding_delimiter_and_line_ending(tmp_path, purchases, name, content):
    write(tmp_path, content, name)
    line = read(shop(tmp_path, path=name.replace("2017-01-01", "{date:%Y-%m-%d}"), purchases=purchases)).iloc[0]
    assert (line["customer_id"], line["product_id"], line["quantity"], line["unit_price"]) == (
        "Zoë",
        "Käse",
        2,
        1.5,
    )


@pytest.mark.parametrize(
    ("written", "number"),
    [("1,5", 1.5), ("1.234,50", 1234.5), ("1.234.567", 1234567), ("1.50", 1.5), ("7", 7)],
)
def test_numbers_with_a_decimal_comma_can_group_thousands_with_points(tmp_path, written, number):
    write(tmp_path, log(f'2017-01-01,ann,A1,r1,1,"{written}"'))
    assert read(shop(tmp_path, purchases="decimal: ','"))["unit_price"].iloc[0] == number


def test_json_lines_keep_the_text_of_numbers(tmp_path):
    rows = '{"at": 1483264800, "buyer": 17850, "sku": 1.10, "n": 2, "price": 2.50, "tags": ["x"], "gift": true}'
    guest = '{"sku": "\\ud83d\\ude00", "at": 1483264800.5, "n": "3", "price": null, "buyer": null}'
    write(tmp_path, f"{rows}\n\n{guest}\r\n", "2017-01-01.jsonl")
    columns = COLUMNS.replace(", order_id: receipt", "")
    raw = read(
        shop(
            tmp_path,
            columns=columns,
            path="{date:%Y-%m-%d}.jsonl",
            purchases="format: jsonl, time_format: unix_seconds",
        )
    )
    assert raw["customer_id"].to_list() == ["17850", None]
    assert raw["product_id"].to_list() == ["1.10", "😀"]
    assert raw["quantity"].to_list() == [2, 3]
    assert raw["event_time"].dt.strftime("%H:%M:%S.%f").to_list() == ["10:00:00.000000", "10:00:00.500000"]
    assert json.loads(raw["line"][0])["gift"] == "true"


def test_a_lone_surrogate_in_json_is_replaced(tmp_path):
    line = '{"at": "2017-01-01", "buyer": "\\ud83d", "sku": "A1", "\\ud83d": 1}'
    write(tmp_path, line, "2017-01-01.jsonl")
    source = shop(
        tmp_path, columns="customer_id: buyer, product_id: sku, time: at", path="{date:%Y-%m-%d}.jsonl",
        purchases="format: jsonl",
    )  # fmt: skip
    assert read(source)["customer_id"].to_list() == ["?"]
    assert json.loads(read(source)["line"][0])["?"] == "1"


def test_parquet_columns_of_any_type_are_read(tmp_path):
    at = pd.Timestamp("2017-01-01 10:00:00.25")
    folder = tmp_path / "at=2017-01-01"  # a folder named like a column doesn't add a column
    folder.mkdir()
    table = pa.table(
        {
            "at": pa.array([at, at, None], pa.timestamp("ns", "Europe/Paris")),
            "buyer": pa.array([17850.0, None, float("nan")], pa.float64()),
            "sku": pa.array(["007", "B", "C"]).dictionary_encode(),
            "receipt": pa.array([1, 2, None], pa.int64()),
            "n": pa.array([2.5, 1e20, float("inf")], pa.float64()),
            "price": pa.array([1, 2, 3], pa.decimal128(6, 2)),
            "extra": pa.array([[1], None, []], pa.list_(pa.int32())),
        }
    )
    pq.write_table(table, folder / "part-0.parquet")
    raw = read(shop(tmp_path, path="at={date:%Y-%m-%d}/*.parquet", purchases="format: parquet"))
    assert raw["customer_id"].to_list() == ["17850", None, None]
    assert raw["product_id"].to_list() == ["007", "B", "C"]
    assert raw["order_id"].to_list() == ["1", "2", None]
    assert raw["quantity"].to_list() == [2.5, 1e20, float("inf")]
    assert raw["unit_price"].to_list() == [1, 2, 3]
    assert raw["event_time"].iloc[0] == at.tz_localize("UTC")
    assert json.loads(raw["line"][0])["extra"] == "[1]"


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ns"), pa.date32(), pa.string()])
def test_parquet_times_without_a_zone_are_in_the_shops_time_zone(tmp_path, kind):
    day = pa.array([dt.datetime(2017, 1, 1)], pa.timestamp("s")).cast(kind)
    pq.write_table(pa.table({"at": day, "buyer": ["a"], "sku": ["b"]}), tmp_path / "2017-01-01.parquet")
    source = shop(
        tmp_path, columns="customer_id: buyer, product_id: sku, time: at", path="{date:%Y-%m-%d}.parquet",
        purchases="format: parquet", rest="time_zone: Asia/Tokyo",
    )  # fmt: skip
    assert read(source)["event_time"].iloc[0] == pd.Timestamp("2016-12-31 15:00", tz="UTC")


# Times


@pytest.mark.parametrize(
    ("how", "zone", "written", "utc"),
    [
        ("", "UTC", "2017-01-01T10:00:00", "2017-01-01 10:00:00"),
        ("", "America/New_York", "2017-01-01 06:53:26", "2017-01-01 11:53:26"),
        ("naive_times: utc", "America/New_York", "2017-01-01 11:53:26", "2017-01-01 11:53:26"),
        ("", "Europe/Berlin", "2017-01-01T10:00:00Z", "2017-01-01 10:00:00"),
        ("", "Europe/Berlin", "2017-01-01T10:00:00.123+02:00", "2017-01-01 08:00:00"),
        ("", "Europe/Berlin", "20170101T100000-0500", "2017-01-01 15:00:00"),
        ("", "Europe/Berlin", "2017-01-01 10:00:00+05", "2017-01-01 05:00:00"),
        ("", "Europe/Berlin", "20170101T100000", "2017-01-01 09:00:00"),
        ("", "Europe/Berlin", "2017-01-01", "2016-12-31 23:00:00"),
        ("", "UTC", " 2017-01-01 10:00 ", "2017-01-01 10:00:00"),
        ("time_format: '%d/%m/%Y %H:%M'", "Europe/London", "1/7/2017 8:26", "2017-07-01 07:26:00"),
        (
            "time_format: '%Y-%m-%d %H:%M:%S %z'",
            "Europe/London",
            "2017-01-01 10:00:00 +0300",
            "2017-01-01 07:00:00",
        ),
        ("time_format: '%d.%m.%y'", "UTC", "01.02.17", "2017-02-01 00:00:00"),
        ("time_format: unix_seconds", "Europe/London", "1483264800", "2017-01-01 10:00:00"),
        ("time_format: unix_seconds", "Europe/London", "1483264800.0", "2017-01-01 10:00:00"),
        ("time_format: unix_milliseconds", "Europe/London", "1483264800500", "2017-01-01 10:00:00"),
        # On 26 March clocks skip from 2:00 to 3:00; on 29 October they go back from 3:00 to 2:00.
        ("", "Europe/Berlin", "2017-03-26 02:30", "2017-03-26 01:00:00"),
        ("", "Europe/Berlin", "2017-10-29 02:30", "2017-10-29 00:30:00"),
        ("", "Europe/Berlin", "2017-10-29T02:30+01:00", "2017-10-29 01:30:00"),
    ],
)
def test_times_are_read_with_the_settings_of_the_data_source(tmp_path, how, zone, written, utc):
    assert times(shop(tmp_path, purchases=how, rest=f"time_zone: {zone}"), written) == [utc]


@pytest.mark.parametrize(
    ("how", "written"),
    [
        ("", "1483264800"),
        ("", "10:00"),
        ("", "2017-01-01T25:00"),
        ("", "2017-01"),
        ("", "2017-01-01T10:00+99:00"),
        ("", "today"),
        ("time_format: '%d/%m/%Y'", "now"),
        ("time_format: unix_seconds", "1483264800500000"),
        ("time_format: unix_seconds", "inf"),
        ("time_format: unix_seconds", "1e30"),
        ("time_format: unix_seconds", "2017-01-01"),
        ("time_format: '%d/%m/%Y'", "01/13/2017"),
    ],
)
def test_a_time_of_another_format_is_unreadable_and_the_others_are_read(tmp_path, how, written):
    valid = {"": "2017-01-01"}.get(how, "1483228800" if "unix" in how else "01/01/2017")
    result = times(shop(tmp_path, purchases=how), valid, valid, written)
    assert result == ["2017-01-01 00:00:00", "2017-01-01 00:00:00", "unreadable"]


def test_the_day_of_a_line_is_in_the_shops_time_zone(tmp_path):
    source = shop(tmp_path, rest="time_zone: America/New_York", purchases="naive_times: utc")
    write(tmp_path, log("2017-01-02 04:59,ann,A1,r1,1,1", "2017-01-01 04:59,bob,A1,r2,1,1"))
    result = clean(source, read(source))
    assert result.cleaned["customer_id"].to_list() == ["ann"]
    assert result.rejected_by_rule() == {"outside_day": 1}


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


# The catalog

FIELDS = "{product_id: sku, title: name, price: price}"
CATALOG = f"catalog: {{path: products.csv, columns: {FIELDS}, exclude: {{kind: x}}}}"


def products(folder: Path, content: str | bytes, catalog: str = CATALOG) -> pd.DataFrame:
    write(folder, content, "products.csv")
    table = read_catalog(shop(folder, rest=catalog))
    assert table.schema.equals(CATALOG_SCHEMA)
    return table.to_pandas()


def test_the_catalog_has_one_row_per_product(tmp_path):
    result = products(
        tmp_path, f"sku,name,price,kind\n007,Tea,2.5,a\n008,Fee,,x\n,nothing,1,a\n007,Tea,2.5,a\n{'x' * 513},Long,1,a\n"
    )
    assert result["product_id"].to_list() == ["007", "008"]
    assert result["title"].to_list() == ["Tea", "Fee"]
    assert result["text"].to_list() == ["tea", "fee"]
    assert result["price"].iloc[0] == 2.5 and pd.isna(result["price"].iloc[1])
    assert result["excluded"].to_list() == [False, True]
    assert result["source_row"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "sku,name,price,kind\n7,Tea,1,a\n8,Fee,1,a\n7,Coffee,1,a\n",
            "product '7' is in rows 1, 3 with different",
        ),
        ("sku,name,price,kind\n7,Tea,dear,a\n", "column 'price': 1 of 1 values are not numbers"),
        ("sku,title,price,kind\n", "column 'name' is missing"),
        ("", "the file is empty"),
        ("sku,name,price,kind\n7,Käse,1,a\n".encode("latin-1"), "column 'name': not utf-8 text"),
    ],
)
def test_the_error_for_an_unusable_catalog_has_the_file_and_the_column(tmp_path, content, message):
    with pytest.raises(SourceError, match=r"products\.csv: ") as error:
        products(tmp_path, content)
    assert message in str(error.value)


def test_a_catalog_can_have_the_date_from_which_a_product_is_available(tmp_path):
    catalog = "catalog: {path: products.csv, columns: {product_id: sku, available_from: since}}"
    content = "sku,since\n1,2017-01-05\n2,2017-01-06T23:30:00-05:00\n3,\n4,2017-1\n"
    result = products(tmp_path, content, catalog)["available_from"]
    assert result.to_list()[:3] == [dt.date(2017, 1, 5), dt.date(2017, 1, 6), None]
    with pytest.raises(SourceError, match="column 'since': 1 of 1 values are not ISO dates"):
        products(tmp_path, "sku,since\n1,5.1.2017\n", catalog)


def test_without_a_catalog_the_table_is_empty(tmp_path):
    assert read_catalog(shop(tmp_path)).equals(CATALOG_SCHEMA.empty_table())


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
