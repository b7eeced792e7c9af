"""Export of events from the online state to the landing zone, and reading them back."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.serving.database.events import Event
from rec_assets.serving.database.landing import forget_landed, land_events
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.sources.errors import SourceError
from rec_assets.sources.feedback import FEEDBACK_SCHEMA, landed_file, read_feedback

NOW = dt.datetime(2026, 3, 10, 12, tzinfo=dt.timezone.utc)
DAY = dt.date(2026, 3, 10)


@pytest.fixture
def online(tmp_path: Path) -> Iterator[OnlineState]:
    state = OnlineState(f"sqlite:///{tmp_path / 'online.db'}")
    state.create()
    yield state
    state.close()


def click(name: str, time: dt.datetime) -> Event:
    return Event(name, "click", "tea", time, customer_id="ann", position=3, recommendation_id="r1")


def land(online: OnlineState, folder: Path, now: dt.datetime = NOW) -> dict[dt.date, int]:
    return land_events(online, folder, time_zone="America/New_York", now=now, keep_days=5)


def test_events_land_on_the_day_in_the_shops_time_zone(online: OnlineState, tmp_path: Path) -> None:
    late = dt.datetime(2026, 3, 10, 3, 59, tzinfo=dt.timezone.utc)  # still the 9th in New York
    online.record([click("b", NOW), click("a", NOW), click("c", late)], NOW)
    assert land(online, tmp_path) == {DAY: 2, DAY - dt.timedelta(days=1): 1}
    table = read_feedback(tmp_path, DAY)
    assert table.schema == FEEDBACK_SCHEMA
    first = table.to_pylist()[0]
    assert first["time"] == NOW and (first["event_id"], first["position"], first["source_row"]) == ("a", 3, 1)
    assert read_feedback(tmp_path, DAY - dt.timedelta(days=1))["event_id"].to_pylist() == ["c"]
    assert read_feedback(tmp_path, DAY - dt.timedelta(days=9)).num_rows == 0


def test_a_day_is_written_again_only_if_its_events_changed(online: OnlineState, tmp_path: Path) -> None:
    online.record([click("a", NOW)], NOW)
    land(online, tmp_path)
    before = landed_file(tmp_path, "raw_feedback_events", DAY).read_bytes()
    assert land(online, tmp_path) == {}
    online.record([click("b", NOW)], NOW)
    assert land(online, tmp_path) == {DAY: 2}
    assert landed_file(tmp_path, "raw_feedback_events", DAY).read_bytes() != before
    online.forget("ann", NOW)
    online.record([Event("z", "click", "tea", NOW - dt.timedelta(days=1), customer_id="bob")], NOW)
    assert land(online, tmp_path) == {DAY: 0, DAY - dt.timedelta(days=1): 1}


def test_events_of_two_senders_with_the_same_id_both_land(online: OnlineState, tmp_path: Path) -> None:
    of_visitor = replace(click("a", NOW), sender="x", product_id="mug")
    online.record([click("a", NOW), of_visitor], NOW)
    assert land(online, tmp_path) == {DAY: 2}
    later = NOW + dt.timedelta(days=6)
    online.record([click("b", NOW)], NOW)
    assert land(online, tmp_path, later) == {DAY: 3}, "two are deleted from the database, and one is added to the file"
    assert online.oldest_event() is None
    rows = read_feedback(tmp_path, DAY).to_pylist()
    assert [(row["event_id"], row["sender"], row["product_id"]) for row in rows] == [
        ("a", None, "tea"), ("a", "x", "mug"), ("b", None, "tea"),
    ]  # fmt: skip


def test_events_of_the_shops_keys_land_as_in_files_without_senders(online: OnlineState, tmp_path: Path) -> None:
    online.record([click("a", NOW)], NOW)
    land(online, tmp_path)
    file = landed_file(tmp_path, "raw_feedback_events", DAY)
    assert "sender" not in file.read_text(), "so that files of earlier versions stay the same"
    line = json.loads(file.read_text())
    file.write_text(json.dumps({**line, "sender": ""}) + "\n")
    assert read_feedback(tmp_path, DAY)["sender"].to_pylist() == [None], "an empty sender means the shop"


def test_only_owner_and_group_can_read_landed_files(online: OnlineState, tmp_path: Path) -> None:
    online.record([click("a", NOW)], NOW)
    land(online, tmp_path / "landing")
    file = landed_file(tmp_path / "landing", "raw_feedback_events", DAY)
    assert file.stat().st_mode & 0o777 == 0o640
    file.chmod(0o644)
    (tmp_path / "landing").chmod(0o755)
    land(online, tmp_path / "landing")
    assert [path.stat().st_mode & 0o777 for path in (file, tmp_path / "landing")] == [0o640, 0o750]


def test_old_events_are_deleted_from_the_database_and_stay_in_the_files(online: OnlineState, tmp_path: Path) -> None:
    online.record([click("a", NOW)], NOW)
    land(online, tmp_path)
    later = NOW + dt.timedelta(days=6)
    online.record([click("b", later)], later)
    assert land(online, tmp_path, later) == {DAY + dt.timedelta(days=6): 1}
    assert online.oldest_event() == later
    assert read_feedback(tmp_path, DAY).num_rows == 1


def test_events_are_deleted_only_after_they_landed(online: OnlineState, tmp_path: Path) -> None:
    long_ago = NOW - dt.timedelta(days=30)
    online.record([click("a", long_ago), click("b", NOW)], NOW)
    assert land(online, tmp_path) == {DAY - dt.timedelta(days=30): 1, DAY: 1}, "no export for a month"
    online.record([click("c", long_ago)], NOW)
    assert land(online, tmp_path) == {DAY - dt.timedelta(days=30): 2}, "a late event is added to the file"
    assert online.oldest_event() == NOW


def test_forgetting_deletes_the_session_before_the_customer_signed_in(online: OnlineState, tmp_path: Path) -> None:
    yesterday = NOW - dt.timedelta(days=1)
    online.record(
        [Event("a", "click", "tea", yesterday, session_id="s"), Event("b", "click", "tea", NOW, "ann", "s"),
         Event("c", "click", "tea", yesterday, session_id="t")], NOW,
    )  # fmt: skip
    land(online, tmp_path)
    assert forget_landed(tmp_path, {customer_digest("ann"): DAY}) == 2
    assert read_feedback(tmp_path, DAY).num_rows == 0
    assert read_feedback(tmp_path, DAY - dt.timedelta(days=1))["event_id"].to_pylist() == ["c"]
    assert forget_landed(tmp_path, {customer_digest("ann"): DAY}) == 0


def test_an_invalid_line_is_named(tmp_path: Path) -> None:
    file = landed_file(tmp_path, "raw_feedback_events", DAY)
    file.parent.mkdir(parents=True)
    file.write_text('{"event_id": "a", "time": "2026-03-10T00:00:00+00:00"}\n{"event_id": ')
    with pytest.raises(SourceError, match=r"events\.jsonl, line 2: not an event"):
        read_feedback(tmp_path, DAY)
