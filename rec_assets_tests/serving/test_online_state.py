"""The online state on SQLite and, if it is installed, on PostgreSQL."""

import datetime as dt
import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from rec_assets.recsys.data.forgetting import customer_digest
from rec_assets.recsys.events import MAX_ID_LENGTH
from rec_assets.serving.database.events import Event, WriteResult, event_sender
from rec_assets.serving.database.keys import key_digest
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.database.tables import ADMIN, FORGOTTEN, READ, forgotten

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.timezone.utc)
LONG_AGO = NOW - dt.timedelta(days=90)


def click(number: int, product: str = "tea", customer: str | None = "ann", **more: object) -> Event:
    time = NOW + dt.timedelta(seconds=number)
    return Event(f"e{number}", "click", product, time, customer_id=customer, **more)  # type: ignore[arg-type]


@pytest.fixture
def online(url: str) -> Iterator[OnlineState]:
    state = OnlineState(url)
    state.create()
    yield state
    state.close()


def test_events_sent_twice_count_once(online: OnlineState) -> None:
    later = replace(click(1), time=NOW + dt.timedelta(seconds=9))
    assert online.record([click(1), click(2), later], NOW) == WriteResult(2, {})
    assert online.record([click(2), click(3)], NOW) == WriteResult(1, {})
    assert [product for _, product, _ in online.recent_events("ann", None, LONG_AGO)] == ["tea"] * 3
    assert online.record([], NOW) == WriteResult(0, {})


OTHER = {
    "type": "cart", "product_id": "mug", "customer_id": "bob", "session_id": "s9", "order_id": "o9", "quantity": 2.0,
    "unit_price": 3.5, "recommendation_id": "r9", "position": 9,
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
def test_a_different_event_with_a_used_id_is_rejected(online: OnlineState, field: str) -> None:
    other = replace(click(1), **{field: OTHER[field]})
    (rejected,) = online.record([click(1), other, click(2)], NOW).rejected.items()
    assert rejected[0] == 1 and f"has the same id but another {field}, and is kept" in rejected[1]
    assert online.record([other, click(1)], NOW) == WriteResult(0, {0: rejected[1]})
    (stored,) = online.rows_between("events", click(1).time, click(2).time)
    assert stored[field] == getattr(click(1), field)


def test_event_ids_are_per_sender_and_may_have_the_maximum_length(online: OnlineState) -> None:
    longest = "\U0001f484" * MAX_ID_LENGTH
    visitors = [event_sender(None, each, is_public=True) for each in ("s1", longest)]
    ann = event_sender("ann", "s1", is_public=True)
    shop = event_sender("ann", "s1", is_public=False)
    assert shop == "" and len({*visitors, ann, shop}) == 4 and {len(each) for each in (*visitors, ann)} == {32}
    assert event_sender("s1", None, is_public=True) != visitors[0], "a customer and a session with the same id"
    events = [
        replace(click(1, product), event_id=longest, sender=sender)
        for product, sender in zip("abcd", ("", ann, *visitors), strict=True)
    ]
    assert online.record(events, NOW) == WriteResult(4, {})
    assert online.record(events, NOW) == WriteResult(0, {})
    keys = [(longest, ann), (longest, visitors[0])]
    assert online.delete_rows("events", keys) == 2
    assert online.delete_rows("events", [(str(number), "") for number in range(6000)]) == 0
    left = online.rows_between("events", NOW, NOW + dt.timedelta(days=1))
    assert {row["product_id"] for row in left} == {"a", "d"}


def test_an_event_that_arrives_during_an_erasure_is_not_stored(online: OnlineState) -> None:
    written: list[WriteResult] = []
    writer = threading.Thread(target=lambda: written.append(online.record([click(1, customer="ann")], NOW)))
    request = {"customer": customer_digest("ann"), "at": NOW.timestamp() + 1}
    with online._begin_change(FORGOTTEN) as connection:  # as `forget` does
        writer.start()
        time.sleep(0.3)
        connection.execute(sa.insert(forgotten).values(**request))
    writer.join()
    assert written[0].new == 0 and "forgotten" in written[0].rejected[0]


def test_a_session_id_does_not_reveal_events_of_a_signed_in_customer(online: OnlineState) -> None:
    impressions = [
        Event(f"i{customer}{number}", "impression", f"of {customer}", NOW, customer_id=customer, session_id="s1")
        for customer in ("ann", None)
        for number in range(3)
    ]
    online.record(
        [click(1, "mug", session_id="s1"), click(2, "pot", customer=None, session_id="s1"), *impressions], NOW
    )
    assert online.recent_events(None, "s1", LONG_AGO) == [("click", "pot", "s1")]
    assert online.frequency_capped(None, "s1", LONG_AGO, 3) == {"of None"}
    assert [product for _, product, _ in online.recent_events("ann", "s1", LONG_AGO)] == ["mug", "pot"]
    assert online.frequency_capped("ann", "s1", LONG_AGO, 3) == {"of ann", "of None"}


def test_only_owner_and_group_can_read_a_sqlite_file(tmp_path: Path) -> None:
    file = tmp_path / "online.db"
    files = [file, tmp_path / "online.db-wal", tmp_path / "online.db-shm"]

    def modes() -> list[int]:
        return [each.stat().st_mode & 0o777 for each in files]

    state = OnlineState(f"sqlite:///{file}")
    state.create()
    state.record([click(1)], NOW)
    assert modes() == [0o640] * 3
    for each in files:
        each.chmod(0o664)
    state.create()
    assert modes() == [0o660] * 3, "a file of an earlier version keeps the rights of the group"
    state.close()


OLD_EVENTS = """CREATE TABLE events (event_id VARCHAR NOT NULL, type VARCHAR NOT NULL, customer_id VARCHAR,
session_id VARCHAR, product_id VARCHAR NOT NULL, time FLOAT NOT NULL, received FLOAT NOT NULL, order_id VARCHAR,
quantity FLOAT, unit_price FLOAT, recommendation_id VARCHAR, position INTEGER, PRIMARY KEY (event_id))"""
OLD_INSERT = (
    "INSERT INTO events (event_id, type, customer_id, product_id, time, received, quantity) "
    "VALUES ('e{0}', 'click', 'ann', 'tea', {1}, {1}, {0})"
)


def _create_earlier_version(url: str, events: int) -> None:
    """Create the tables of a version without senders, with events and keys."""
    state = OnlineState(url)
    state.create()
    for name, scopes, is_public in (("shop", "events,read", False), ("pages", "events,read", True)):
        state.add_key(name, scopes.split(","), NOW, is_public=is_public)
    state.add_key("reader", ["read"], NOW)
    with state._writer.begin() as connection:
        connection.exec_driver_sql("DROP TABLE events")
        connection.exec_driver_sql(OLD_EVENTS)
        for name, column in (("customer", "customer_id"), ("session", "session_id")):
            connection.exec_driver_sql(f"CREATE INDEX events_of_{name} ON events ({column}, time)")
        connection.exec_driver_sql("CREATE INDEX events_in_time ON events (time)")
        for number in range(events):
            connection.exec_driver_sql(OLD_INSERT.format(number, click(number).time.timestamp()))
    state.close()


def _upgrade_and_write(url: str, first: int) -> None:
    state = OnlineState(url)
    state.create()
    for number in range(first, first + 30):
        state.record([replace(click(number), quantity=float(number))], NOW)
    state.close()


@pytest.mark.integration
def test_several_processes_upgrade_a_database_of_an_earlier_version(url: str) -> None:
    _create_earlier_version(url, 100)
    before = OnlineState(url)
    counters = before.counters()
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_upgrade_and_write, args=(url, first)) for first in (80, 90, 110)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    rows = list(before.rows_between("events", NOW, NOW + dt.timedelta(days=1)))
    assert {(row["event_id"], row["quantity"], row["sender"]) for row in rows} == {
        (f"e{number}", float(number), "") for number in range(140)
    }
    assert before.record([replace(click(7), quantity=7.0), replace(click(7), sender="x")], NOW) == WriteResult(1, {})
    assert before.counters()["keys"] == counters["keys"] + 1, "workers read the keys again"
    assert {key.name: key.scopes for key in before.keys().values()} == {
        "shop": {"read", "events", "sales"}, "pages": {"read", "events"}, "reader": {"read"},
    }  # fmt: skip
    before.add_key("later", ["events"], NOW)
    before.create()
    assert {key.scopes for key in before.keys().values() if key.name == "later"} == {frozenset({"events"})}
    with before._writer.begin() as connection:  # as a process of the earlier version does
        connection.exec_driver_sql(OLD_INSERT.format(999, 0))
    indexes = {each["name"] for each in sa.inspect(before._writer).get_indexes("events")}
    assert indexes >= {"events_of_customer", "events_of_session", "events_in_time"}
    before.close()


def test_a_shoppers_events_are_those_of_the_customer_and_of_the_session(online: OnlineState) -> None:
    online.record(
        [
            click(1, "tea"),
            click(2, "mug", customer=None, session_id="s1"),
            click(3, "pot", customer="bob"),
            Event("e4", "impression", "soap", NOW, customer_id="ann"),
            Event("e5", "purchase", "tea", NOW + dt.timedelta(seconds=9), customer_id="ann", order_id="o1"),
        ],
        NOW,
    )
    assert online.recent_events("ann", "s1", LONG_AGO) == [
        ("click", "tea", ""), ("click", "mug", "s1"), ("purchase", "tea", "o1"),
    ]  # fmt: skip
    assert online.recent_events(None, "s1", LONG_AGO) == [("click", "mug", "s1")]
    assert online.recent_events("ann", None, NOW + dt.timedelta(seconds=5)) == [("purchase", "tea", "o1")]
    assert online.recent_events(None, None, LONG_AGO) == []


def test_each_change_increments_its_counter(online: OnlineState) -> None:
    before = online.counters()
    online.set_available("tea", False)
    online.set_available("tea", False)
    assert online.unavailable() == {"tea"}
    online.set_available("tea", True)
    assert online.unavailable() == frozenset()
    after = online.counters()
    assert after["availability"] == before["availability"] + 3
    assert after["keys"] == before["keys"]


def test_keys_are_stored_as_digests_and_can_be_revoked(online: OnlineState) -> None:
    key = online.add_key("shop", [READ], NOW, expires=NOW + dt.timedelta(days=1))
    other = online.add_key("shop", [READ, ADMIN], NOW)
    found = online.keys()
    assert key not in str(found) and found.keys() == {key_digest(key), key_digest(other)}
    assert found[key_digest(other)].scopes == {READ, ADMIN}
    assert found[key_digest(key)].has_expired(NOW + dt.timedelta(days=1))
    assert not found[key_digest(other)].has_expired(NOW + dt.timedelta(days=999))
    assert online.revoke_key("shop") == 2
    assert online.keys() == {}
    with pytest.raises(ValueError, match="scopes are read, events, sales, admin, simulate, not write"):
        online.add_key("shop", ["write"], NOW)
    with pytest.raises(ValueError, match="not none"):
        online.add_key("shop", [], NOW)
    with pytest.raises(ValueError, match="a public key can't have the scope 'admin'"):
        online.add_key("pages", [READ, ADMIN], NOW, is_public=True)
    pages = online.add_key("pages", [READ], NOW, is_public=True)
    assert online.keys()[key_digest(pages)].is_public


def test_forgetting_deletes_a_customers_events_and_sessions(online: OnlineState) -> None:
    online.record(
        [
            click(1, session_id="s1"),
            click(2, customer=None, session_id="s1"),
            click(3, customer="bob", session_id="s1"),
        ],
        NOW,
    )
    assert online.forget("ann", NOW) == 2
    assert online.recent_events("ann", "s1", LONG_AGO) == []
    assert online.recent_events("bob", None, LONG_AGO) != []
    assert online.forgotten() == {customer_digest("ann"): NOW}
    later = NOW + dt.timedelta(days=3)
    assert online.forget("ann", later) == 0
    assert online.forgotten() == {customer_digest("ann"): later}


def test_rows_of_a_day_are_sorted_and_can_be_deleted(online: OnlineState) -> None:
    assert online.oldest_event() is None
    online.record([click(2), click(1), click(100_000)], NOW)
    day = list(online.rows_between("events", NOW, NOW + dt.timedelta(hours=1)))
    assert [row["event_id"] for row in day] == ["e1", "e2"]
    assert online.oldest_event() == NOW + dt.timedelta(seconds=1)
    assert online.delete_rows("events", [("e1", ""), ("e2", ""), ("e9", "")]) == 2
    assert online.oldest_event() == NOW + dt.timedelta(seconds=100_000)


def _write(url: str, first: int) -> None:
    state = OnlineState(url)
    state.create()
    for number in range(first, first + 50):
        state.record([click(number), click(number + 1)], NOW)
    state.close()


@pytest.mark.integration
def test_several_processes_write_at_once_without_losing_events(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(url, first)) for first in (0, 25, 50)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    state = OnlineState(url)
    end = NOW + dt.timedelta(days=1)
    assert len(list(state.rows_between("events", NOW, end))) == 101
    state.close()
