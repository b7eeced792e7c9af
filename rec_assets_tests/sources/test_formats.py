"""Files of each format: CSV, JSON Lines and Parquet, the times in them, and files that are unusable."""

import datetime as dt
import gzip
import json
import lzma

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rec_assets.recsys.events import MAX_NAME_LENGTH, MAX_TEXT_LENGTH
from rec_assets.sources import formats
from rec_assets.sources.errors import SourceError
from rec_assets_tests.sources.reading import COLUMNS, GOOD, HEADER, LINE, clean, log, read, shop, times, write

# Unusable files


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


@pytest.mark.integration
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
    assert [each for each in raw["line"] if "NaN" in each] == [], "nulls are null: NaN is no JSON"
    assert json.loads(raw["line"][1])["price"] is None


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
