"""Spark's tasks read, clean and write the lines of days exactly as one process does in memory."""

import datetime as dt

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rec_assets.assets import line_cleaning, purchase_files
from rec_assets.recsys.data.cleaning import CLEANED_SCHEMA, CleaningSettings, clean_day
from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.resources import day_files
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.lake import Lake
from rec_assets.settings import FeedbackSettings
from rec_assets.sources import reader
from rec_assets.sources.errors import SourceError
from rec_assets.sources.feedback import FEEDBACK_SCHEMA
from rec_assets_tests.recsys.data.test_large_days import random_day
from rec_assets_tests.sources.reading import HEADER, log, shop, write

FIRST, SECOND, CLOSED, THIRD = days = [dt.date(2017, 1, 1) + dt.timedelta(days=number) for number in range(4)]
NOBODY = ForgottenFile()
REJECTED_SCHEMA = RAW_SCHEMA.append(pa.field("reasons", pa.string()))


def table(lake: Lake, read: purchase_files.ReadDays, files: day_files.DayFiles, day: dt.date) -> pa.Table:
    """Commit a day, and read it from the lake."""
    lake.commit("raw_purchase_logs", {day: lake.stage_files("raw_purchase_logs", files, day, read.written[day])})
    return lake.table("raw_purchase_logs").read([day]).drop_columns("date")


def test_days_whose_file_cannot_be_read_fail_alone(tmp_path, spark):
    source, lake = shop(tmp_path, path="{date:%Y-%m-%d}*.csv"), Lake(tmp_path / "lake")
    write(tmp_path, log("2017-01-01 10:00,ann,A1,r1,2,1.50"))
    write(tmp_path, log("2017-01-01 11:00,bob,A1,r2,2,1.50", "2017-01-01 11:00,ann,A2,r2,1,1"), "2017-01-01-b.csv")
    write(tmp_path, log("2017-01-02 10:00,ann,A1,r1,2,1.50"), "2017-01-02.csv")
    write(tmp_path, "at,buyer\n2017-01-02 10:00,ann\n", "2017-01-02-b.csv")
    write(tmp_path, log("2017-01-04 10:00,ann,A1,r1,2,1.50"), "2017-01-04.csv")
    files = lake.day_files("raw_purchase_logs", RAW_SCHEMA, tmp_path)
    later = dt.date(2017, 1, 9)
    read = purchase_files.read_days(spark, source, [*days, later], files, NOBODY)
    assert set(read.failed) == {SECOND, later}
    assert "2017-01-02-b.csv: column 'sku' is missing" in read.failed[SECOND]
    assert "no files for 2017-01-09" in read.failed[later]
    assert read.written[CLOSED] == []
    for day in (FIRST, CLOSED, THIRD):
        assert table(lake, read, files, day).equals(reader.read_day(source, day))

    forgotten = ForgottenFile(forgotten={customer_digest("ann"): FIRST})
    read = purchase_files.read_days(spark, source, [FIRST, THIRD], files, forgotten)
    assert table(lake, read, files, FIRST)["customer_id"].to_pylist() == ["bob"]
    assert table(lake, read, files, THIRD)["customer_id"].to_pylist() == ["ann"], "a later purchase is kept"


def test_an_export_is_divided_into_days(tmp_path, spark, monkeypatch):
    source, lake = shop(tmp_path, path="export-*.csv", rest="time_zone: Asia/Tokyo"), Lake(tmp_path / "lake")
    write(tmp_path, log("2017-01-04 10:00,ann,A1,r1,2,1.50", "never,bob,A2,r2,1,1", "2017-01-01 10:00,cid,A1,r3,1,1"),
          "export-1.csv")  # fmt: skip
    rows = [f"2017-01-01 10:{number:02},ann,A{number},r{number},1,1" for number in range(60)]
    write(tmp_path, log(*rows, "never,ann,A3,r3,1,1"), "export-2.csv")
    files = lake.day_files("raw_purchase_logs", RAW_SCHEMA, tmp_path)
    expected = reader.read_export(source)
    read = purchase_files.read_export(spark, source, days, files, NOBODY, tmp_path / "disk")
    assert read.written[SECOND] == read.written[CLOSED] == []
    for day in (FIRST, THIRD):
        assert table(lake, read, files, day).equals(expected[day])
    assert expected[THIRD]["order_id"].to_pylist() == ["r1", "r2", "r3"], "lines without a time are in the newest day"
    assert not [*(tmp_path / "disk").iterdir()]

    forgotten = ForgottenFile(forgotten={customer_digest("ann"): FIRST})
    read = purchase_files.read_export(spark, source, days, files, forgotten, tmp_path / "disk")
    assert table(lake, read, files, FIRST)["customer_id"].to_pylist() == ["cid"]
    assert table(lake, read, files, THIRD)["customer_id"].to_pylist() == ["ann", "bob", "ann"]

    monkeypatch.setattr(day_files, "FILE_LINES", 20)
    monkeypatch.setattr(day_files, "_RUN_LINES", 5)
    read = purchase_files.read_export(spark, source, [FIRST], files, NOBODY, tmp_path / "disk")
    assert 1 < len(read.written[FIRST]) <= 4, "a large day has several files"
    by_line = [("source_file", "ascending"), ("source_row", "ascending")]
    assert table(lake, read, files, FIRST).sort_by(by_line).equals(expected[FIRST])

    write(tmp_path, "at,buyer\n", "export-3.csv")
    with pytest.raises(SourceError, match=r"export-3\.csv"):
        purchase_files.read_export(spark, source, days, files, NOBODY, tmp_path / "disk")


@pytest.mark.parametrize("max_lines", [2**19, 90])
def test_days_are_cleaned_as_in_memory(tmp_path, spark, monkeypatch, max_lines):
    monkeypatch.setattr(line_cleaning, "MAX_LINES", max_lines)
    lake, settings = Lake(tmp_path), CleaningSettings("UTC", has_price=True)
    raw = {day: random_day(number) for number, day in enumerate(days[:3])}
    for number, day in enumerate(raw):
        raw[day]["event_time"] += dt.timedelta(days=number)
    raw[THIRD] = raw[FIRST].iloc[:0]
    for day, lines in raw.items():
        lake.write("raw_purchase_logs", pa.Table.from_pandas(lines, RAW_SCHEMA, preserve_index=False), day)
    schemas = {"cleaned_interactions": CLEANED_SCHEMA, "rejected_purchases": REJECTED_SCHEMA}
    files = {name: lake.day_files(name, schema, tmp_path) for name, schema in schemas.items()}
    lines = lake.table("raw_purchase_logs").lazy_rows(spark, days, whole_days=True)
    by_table = line_cleaning.clean_days(lines, settings, files)
    for name, by_day in by_table.items():
        lake.commit(name, {day: lake.stage_files(name, files[name], day, by_day[day]) for day in days})
        for day in days:
            whole = clean_day(raw[day], day, settings)
            expected = whole.cleaned if name == "cleaned_interactions" else whole.rejected
            written = lake.table(name).pandas([day]).drop(columns="date")
            if max_lines == 90 and name == "cleaned_interactions":
                expected, written = (frame.sort_values("line_id", ignore_index=True) for frame in (expected, written))
            pd.testing.assert_frame_equal(written, expected.reset_index(drop=True), check_dtype=len(expected) > 0)


def test_a_header_alone_is_a_day_without_lines(tmp_path, spark):
    source, lake = shop(tmp_path), Lake(tmp_path / "lake")
    write(tmp_path, HEADER + "\n")
    files = lake.day_files("raw_purchase_logs", RAW_SCHEMA, tmp_path)
    read = purchase_files.read_days(spark, source, [FIRST], files, NOBODY)
    assert table(lake, read, files, FIRST).equals(RAW_SCHEMA.empty_table())


def test_clicks_are_a_further_file_of_the_day_and_impressions_are_none(tmp_path, spark):
    lake, at = Lake(tmp_path), pd.Timestamp("2017-01-01 10:00", tz="UTC")
    events = [
        {"event_id": f"e{day}", "time": at, "type": kind, "customer_id": "ann", "session_id": "s", "product_id": "A-M"}
        for day, kind in ((FIRST, "impression"), (SECOND, "click"))
    ]
    for day, event in zip((FIRST, SECOND), events, strict=True):
        lake.write("raw_feedback_events", pa.Table.from_pylist([event], schema=FEEDBACK_SCHEMA), day)
    files = lake.day_files("cleaned_interactions", CLEANED_SCHEMA, tmp_path)
    found = lake.table("raw_feedback_events").lazy_rows(spark, [FIRST, SECOND], whole_days=True)
    by_day = line_cleaning.clean_events(found, FeedbackSettings(), {"A-M": "A"}, files)
    assert by_day.keys() == {SECOND}
    (written,) = by_day[SECOND]
    assert written.rows == 1 and written.path.startswith("date=2017-01-02/part-00001-")
    (row,) = pq.read_table(tmp_path / "cleaned_interactions" / written.path).to_pylist()
    assert (row["product_id"], row["variant_id"], row["event"]) == ("A", "A-M", "click")
