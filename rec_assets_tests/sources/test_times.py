"""Times in all formats of purchase logs, and the suggested format for unreadable times."""

import datetime as dt

import pandas as pd
import pytest

from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import DataSource
from rec_assets.sources.spec_fields import PurchaseColumns, PurchaseLog
from rec_assets.sources.times import parse_times, suggest_format, suggest_swapped_format

COLUMNS = PurchaseColumns(customer_id="who", product_id="what", time="when")


def source(time_format: str = "iso8601", zone: str = "UTC", path: str = "log.csv") -> DataSource:
    return DataSource(
        name="shop", time_zone=zone, purchases=PurchaseLog(path=path, columns=COLUMNS, time_format=time_format)
    )


def read(text: str, time_format: str, zone: str = "UTC") -> str:
    result = parse_times(pd.Series([text]), time_format, source(time_format, zone)).iloc[0]
    return "" if pd.isna(result) else result.strftime("%Y-%m-%d %H:%M:%S.%f")


@pytest.mark.parametrize(
    ("text", "time_format", "expected"),
    [
        ("1433221332117", "unix_milliseconds", "2015-06-02 05:02:12.117000"),
        ("1433221332117.9999", "unix_milliseconds", "2015-06-02 05:02:12.117999"),
        ("1433221332", "unix_seconds", "2015-06-02 05:02:12.000000"),
        ("1433221332.123456789", "unix_seconds", "2015-06-02 05:02:12.123456"),
        ("1433221332123456", "unix_microseconds", "2015-06-02 05:02:12.123456"),
        ("1433221332123456789", "unix_nanoseconds", "2015-06-02 05:02:12.123456"),
        ("1.433221332E+12", "unix_milliseconds", "2015-06-02 05:02:12.000000"),
        ("-1", "unix_seconds", "1969-12-31 23:59:59.000000"),
        ("0", "unix_nanoseconds", "1970-01-01 00:00:00.000000"),
        ("99999999999999999999", "unix_seconds", ""),
        ("soon", "unix_seconds", ""),
        ("2024-02-01T10:00:00.1234567", "iso8601", "2024-02-01 10:00:00.123456"),
        ("2024-02-01T10:00:00.123456789Z", "iso8601", "2024-02-01 10:00:00.123456"),
        ("2024-02-01T10:00:00.123456789123+02:00", "iso8601", "2024-02-01 08:00:00.123456"),
        ("2024-02-01T10:00:00,1234567Z", "iso8601", "2024-02-01 10:00:00.123456"),
        ("01.02.2024 10:00:00.1234567", "%d.%m.%Y %H:%M:%S.%f", "2024-02-01 10:00:00.123456"),
        ("9999-12-31", "iso8601", ""),
    ],
)
def test_times_are_cut_to_microseconds(text, time_format, expected):
    assert read(text, time_format) == expected


@pytest.mark.parametrize(
    ("text", "zone"), [("2262-04-11 23:00:00", "America/New_York"), ("1677-09-21 01:00:00", "Asia/Tokyo")]
)
def test_a_time_outside_the_supported_range_is_null(text, zone):
    assert read(text, "iso8601", zone) == ""


@pytest.mark.parametrize(
    ("text", "time_format"),
    [
        ("2020-01-01 00:07:00 UTC", "iso8601"),
        ("2020-01-01 00:07:00 GMT", "iso8601"),
        ("2020-01-01 00:07:00 UTC", "%Y-%m-%d %H:%M:%S UTC"),
        ("2020-01-01 00:07:00 UTC", "%Y-%m-%d %H:%M:%S %Z"),
        ("2020-01-01T00:07:00Z", "%Y-%m-%dT%H:%M:%SZ"),
        ("2020-01-01 03:07:00 MSK", "%Y-%m-%d %H:%M:%S MSK"),
        ("2020-01-01 03:07:00", "iso8601"),
    ],
)
def test_a_zone_in_the_text_overrides_the_shops_time_zone(text, time_format):
    assert read(text, time_format, "Europe/Moscow") == "2020-01-01 00:07:00.000000"


def test_a_format_that_ends_in_another_zone_than_the_shops_is_an_error():
    with pytest.raises(ValueError, match="ends in 'MSK', but time_zone is Europe/Berlin"):
        source("%Y-%m-%d %H:%M:%S MSK", "Europe/Berlin")


NOVEMBER = [f"11/{day}/2000" for day in range(1, 13)]


@pytest.mark.parametrize(
    ("values", "day", "suggested"),
    [
        (["1433221332117"], None, "set `time_format: unix_milliseconds`"),
        (["1433221332"], None, "set `time_format: unix_seconds`"),
        (["1433221332117123"], None, "set `time_format: unix_microseconds`"),
        # Both formats parse every value: one gives twelve days in a row, the other the 11th of twelve months.
        (NOVEMBER, None, 'set `time_format: "%m/%d/%Y"`'),
        ([*NOVEMBER, "11/13/2000"], None, 'set `time_format: "%m/%d/%Y"`'),
        # The first lines match both formats, a later line only one of them.
        (["01/02/2000"] * 2000 + ["31/01/2000"], None, 'set `time_format: "%d/%m/%Y"`'),
        (["5/1/2024 8:15"], dt.date(2024, 5, 1), 'set `time_format: "%m/%d/%Y %H:%M"`'),
        (["5/1/2024 8:15"], dt.date(2024, 1, 5), 'set `time_format: "%d/%m/%Y %H:%M"`'),
        (["01/02/2020 10:00 UTC", "13/02/2020 10:00 UTC"], None, 'set `time_format: "%d/%m/%Y %H:%M UTC"`'),
        (["01/02/2000", "02/01/2000"], None, 'set `time_format` to the right one of "%d/%m/%Y" and "%m/%d/%Y"'),
        (["once", "upon"], None, "unknown time format"),
        ([""], None, "unknown time format"),
    ],
)  # fmt: skip
def test_the_most_likely_format_is_suggested(values, day, suggested):
    assert suggest_format(pd.Series(values), source("%Y%m%d"), day).startswith(suggested)


def test_the_current_format_is_never_suggested():
    assert "%m/%d/%Y" not in suggest_format(pd.Series(NOVEMBER), source("%m/%d/%Y"))


@pytest.mark.parametrize(
    ("time_format", "path", "days", "swapped"),
    [
        ("%d/%m/%Y", "log.csv", None, "%m/%d/%Y"),
        ("%m/%d/%Y", "log.csv", None, None),
        ("%d/%m/%Y", "{date:%Y%m%d}.csv", pd.date_range("2000-11-01", periods=12), "%m/%d/%Y"),
        ("%m/%d/%Y", "{date:%Y%m%d}.csv", pd.date_range("2000-11-01", periods=12), None),
        ("iso8601", "log.csv", None, None),
    ],
)
def test_swapped_day_and_month_are_found(time_format, path, days, swapped):
    result = suggest_swapped_format(
        pd.Series(NOVEMBER), source(time_format, path=path), None if days is None else pd.Series(days)
    )
    assert result == swapped


def test_the_suggested_format_matches_the_day_in_the_file_name(tmp_path):
    from rec_assets.sources.reader import read_day
    from rec_assets.sources.spec import load_data_source

    (tmp_path / "2024-05-01.csv").write_text("when,who,what\n5/1/2024 8:15,u,s\n")
    (tmp_path / "shop.yaml").write_text(
        "purchases: {path: '{date:%Y-%m-%d}.csv', columns: {customer_id: who, product_id: what, time: when}}"
    )
    with pytest.raises(SourceError, match='set `time_format: "%m/%d/%Y %H:%M"`'):
        read_day(load_data_source(str(tmp_path / "shop.yaml"), tmp_path), dt.date(2024, 5, 1))
