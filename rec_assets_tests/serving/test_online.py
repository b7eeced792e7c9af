"""The online state, on SQLite and, where it is installed, on PostgreSQL."""

import datetime as dt
import multiprocessing
from collections.abc import Iterator

import pytest

from rec_assets.recsys.forgetting import customer_digest
from rec_assets.serving.online import ADMIN, READ, Event, OnlineState, key_digest

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
    assert online.record([click(1), click(2), click(1, "mug")], NOW) == 2
    assert online.record([click(2), click(3)], NOW) == 1
    assert [product for _, product, _ in online.events_of("ann", None, LONG_AGO)] == ["tea"] * 3
    assert online.record([], NOW) == 0


def test_a_shopper_s_events_are_those_of_the_customer_and_of_the_session(online: OnlineState) -> None:
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
    assert online.events_of("ann", "s1", LONG_AGO) == [
        ("click", "tea", ""), ("click", "mug", "s1"), ("purchase", "tea", "o1"),
    ]  # fmt: skip
    assert online.events_of(None, "s1", LONG_AGO) == [("click", "mug", "s1")]
    assert online.events_of("ann", None, NOW + dt.timedelta(seconds=5)) == [("purchase", "tea", "o1")]
    assert online.events_of(None, None, LONG_AGO) == []


def test_counters_tell_that_something_changed(online: OnlineState) -> None:
    before = online.counters()
    online.set_available("tea", False)
    online.set_available("tea", False)
    assert online.unavailable() == {"tea"}
    online.set_available("tea", True)
    assert online.unavailable() == frozenset()
    after = online.counters()
    assert after["availability"] == before["availability"] + 3
    assert after["keys"] == before["keys"]


def test_keys_are_kept_as_digests_and_can_be_taken_back(online: OnlineState) -> None:
    key = online.add_key("shop", [READ], NOW, expires=NOW + dt.timedelta(days=1))
    other = online.add_key("shop", [READ, ADMIN], NOW)
    found = online.keys()
    assert key not in str(found) and found.keys() == {key_digest(key), key_digest(other)}
    assert found[key_digest(other)].scopes == {READ, ADMIN}
    assert found[key_digest(key)].has_expired(NOW + dt.timedelta(days=1))
    assert not found[key_digest(other)].has_expired(NOW + dt.timedelta(days=999))
    assert online.revoke_key("shop") == 2
    assert online.keys() == {}
    with pytest.raises(ValueError, match="scopes are read, events, admin, simulate, not write"):
        online.add_key("shop", ["write"], NOW)
    with pytest.raises(ValueError, match="not none"):
        online.add_key("shop", [], NOW)
    with pytest.raises(ValueError, match="a public key can't have the scope 'admin'"):
        online.add_key("pages", [READ, ADMIN], NOW, is_public=True)
    pages = online.add_key("pages", [READ], NOW, is_public=True)
    assert online.keys()[key_digest(pages)].is_public


def test_a_customer_s_events_and_sessions_are_forgotten(online: OnlineState) -> None:
    online.record(
        [
            click(1, session_id="s1"),
            click(2, customer=None, session_id="s1"),
            click(3, customer="bob", session_id="s1"),
        ],
        NOW,
    )
    assert online.forget("ann", NOW) == 2
    assert online.events_of("ann", "s1", LONG_AGO) == []
    assert online.events_of("bob", None, LONG_AGO) != []
    assert online.forgotten() == {customer_digest("ann"): NOW}
    later = NOW + dt.timedelta(days=3)
    assert online.forget("ann", later) == 0
    assert online.forgotten() == {customer_digest("ann"): later}


def test_events_of_a_day_are_read_in_one_order_and_old_ones_let_go(online: OnlineState) -> None:
    assert online.oldest_event() is None
    online.record([click(2), click(1), click(100_000)], NOW)
    day = list(online.rows_between("events", NOW, NOW + dt.timedelta(hours=1)))
    assert [row["event_id"] for row in day] == ["e1", "e2"]
    assert online.oldest_event() == NOW + dt.timedelta(seconds=1)
    assert online.let_go("events", ["e1", "e2", "e9"]) == 2
    assert online.oldest_event() == NOW + dt.timedelta(seconds=100_000)


def _write(url: str, first: int) -> None:
    state = OnlineState(url)
    state.create()
    for number in range(first, first + 50):
        state.record([click(number), click(number + 1)], NOW)
    state.close()


def test_several_processes_write_at_once_and_nothing_is_lost(url: str) -> None:
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
