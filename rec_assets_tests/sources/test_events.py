"""Event logs of a shop: what they become, what is wrong with them, and what check-source says."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.sources.batches import WHOLE
from rec_assets.sources.check import check_source
from rec_assets.sources.errors import SourceError
from rec_assets.sources.event_log import read_events
from rec_assets.sources.feedback import FEEDBACK_SCHEMA
from rec_assets.sources.landing import file_fingerprints, scan
from rec_assets.sources.spec import DataSource
from rec_assets_tests.sources.reading import DAY, LINE, log, shop, write

COLUMNS = "{product_id: item, time: at, customer_id: user, session_id: visit, type: name}"
TYPES = "{view: [view_item, page_view], cart: add_to_cart, dismissal: hide}"
EVENTS = f"events: {{path: 'ev_{{date:%Y-%m-%d}}.csv', columns: {COLUMNS}, types: {TYPES}}}"
HEADER = "name,user,visit,item,at"


def source(folder: Path, events: str = EVENTS) -> DataSource:
    write(folder, log(LINE))
    return shop(folder, rest=events)


def read(of: DataSource, day: dt.date | None = DAY) -> pd.DataFrame:
    (event_source,) = of.event_sources
    tables = [table for path in event_source.files(day) for table in read_events(event_source, path, day, WHOLE)]
    assert all(table.schema.equals(FEEDBACK_SCHEMA) for table in tables)
    return pd.concat([table.to_pandas() for table in tables], ignore_index=True)


def test_events_get_the_types_of_their_names(tmp_path: Path) -> None:
    content = log(
        "view_item,ann,s1,A1,2017-01-01 10:00",
        "page_view,,s2,A2,2017-01-01 11:00",
        "add_to_cart,ann,,A1,2017-01-01 12:00",
        "scroll,ann,s1,A1,2017-01-01 12:00",
        "hide,ann,s1,,2017-01-01 12:00",
        "hide,,,A1,2017-01-01 12:00",
        "hide,ann,s1,A1,never",
        header=HEADER,
    )
    write(tmp_path, content, "ev_2017-01-01.csv")
    found = read(source(tmp_path))
    kept = found[["event_id", "type", "customer_id", "session_id", "product_id"]].astype(object)
    assert kept.where(kept.notna(), None).to_numpy().tolist() == [
        ["ev_2017-01-01.csv#1", "view", "ann", "s1", "A1"],
        ["ev_2017-01-01.csv#2", "view", None, "s2", "A2"],
        ["ev_2017-01-01.csv#3", "cart", "ann", None, "A1"],
    ]
    assert found["time"].iloc[0] == pd.Timestamp("2017-01-01 10:00", tz="UTC") and found["sender"].isna().all()


def test_nested_events_in_the_manner_of_ga4(tmp_path: Path) -> None:
    event = {
        "event_name": "view_item_list", "event_timestamp": "1483261200000000", "user_id": "ann",
        "items": [{"item_id": "A1"}, {"item_id": "A2"}],
    }  # fmt: skip
    write(tmp_path, json.dumps(event) + "\n", "ev_2017-01-01.jsonl")
    events = (
        "events: {path: 'ev_{date:%Y-%m-%d}.jsonl', format: jsonl, explode: items, time_format: unix_microseconds, "
        "columns: {product_id: items.item_id, time: event_timestamp, customer_id: user_id, type: event_name}, "
        "types: {view: view_item_list}}"
    )
    found = read(source(tmp_path, events))
    assert found["product_id"].to_list() == ["A1", "A2"] and found["event_id"].is_unique
    assert found["time"].iloc[0] == pd.Timestamp("2017-01-01 09:00", tz="UTC")


def test_a_file_can_have_events_of_one_type(tmp_path: Path) -> None:
    write(tmp_path, "user,item,at\nann,A1,2017-01-01\n", "ev_2017-01-01.csv")
    events = (
        "events: [{path: 'ev_{date:%Y-%m-%d}.csv', type: wishlist, columns: {product_id: item, time: at, "
        "customer_id: user}}]"
    )
    assert read(source(tmp_path, events))["type"].to_list() == ["wishlist"]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (EVENTS.replace("types:", "kinds:"), "unknown field"),
        (EVENTS.replace("dismissal: hide", "hidden: hide"), "events.0.types"),
        (EVENTS.replace("customer_id: user, session_id: visit, ", ""), "set customer_id or session_id, or both"),
        (EVENTS.replace(", type: name", ""), "`types` needs `columns.type`"),
        (EVENTS.replace(f", types: {TYPES}", ""), "set `types` (type: names) or, for files of one type, `type`"),
        (EVENTS.replace("hide", "add_to_cart"), "'add_to_cart' is the name of two types"),
        (EVENTS.replace("ev_{date:%Y-%m-%d}.csv", "all.csv"), "must both have a date, or neither"),
    ],
)
def test_a_wrong_description_is_an_error(tmp_path: Path, events: str, message: str) -> None:
    with pytest.raises(SourceError) as error:
        source(tmp_path, events)
    assert message in str(error.value)


def test_a_missing_column_is_an_error_with_the_file(tmp_path: Path) -> None:
    write(tmp_path, "name,user,visit,product,at\nview_item,ann,s1,A1,2017-01-01\n", "ev_2017-01-01.csv")
    with pytest.raises(SourceError, match=r"ev_2017-01-01\.csv: column 'item' is missing"):
        read(source(tmp_path))


def test_event_files_belong_to_the_files_of_their_day(tmp_path: Path) -> None:
    of = source(tmp_path)
    before = scan(of, {}, now=2e9, settle_seconds=60)
    write(tmp_path, log("view_item,ann,s1,A1,2017-01-01 10:00", header=HEADER), "ev_2017-01-01.csv")
    after = scan(of, {}, now=2e9, settle_seconds=60)
    assert before[DAY].fingerprint != after[DAY].fingerprint
    assert file_fingerprints(of, DAY).keys() == {"2017-01-01.csv", "ev_2017-01-01.csv"}
    assert not scan(of, {}, now=0, settle_seconds=60)[DAY].is_complete


def test_check_source_describes_the_events(tmp_path: Path) -> None:
    content = log(
        "view_item,ann,s1,A1,2017-01-01 10:00", "view_item,,s2,A1,2017-01-01 10:00", "scroll,ann,s1,A1,2017-01-01",
        header=HEADER,
    )  # fmt: skip
    write(tmp_path, content, "ev_2017-01-01.csv")
    text = check_source(source(tmp_path)).to_text()
    assert "view: 2" in text and "ignored, because `types` does not name them: 'scroll' (1)" in text
    assert "with a customer: 50.0%" in text and "of known products: all" in text
    assert "not in the sample: 'page_view', 'add_to_cart', 'hide'" in text


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["View,ann,s1,A1,2017-01-01"], "column 'name' has none of the names in `types`"),
        (["hide,ann,s1,B7,2017-01-01"], "events are of products that neither the log nor the catalog has, such as"),
        (["hide,,s1,A1,2017-01-01"], "no event has a customer"),
    ],
)
def test_check_source_finds_events_that_teach_nothing(tmp_path: Path, lines: list[str], problem: str) -> None:
    write(tmp_path, log(*lines, header=HEADER), "ev_2017-01-01.csv")
    check = check_source(source(tmp_path))
    assert problem in "\n".join([*check.warnings, *check.errors])


def test_check_source_warns_about_missing_event_files(tmp_path: Path) -> None:
    assert "no event file matches" in "\n".join(check_source(source(tmp_path)).warnings)
