"""Events that clients send to the API: which are stored, rejected or duplicates."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from rec_assets.serving.http.security import customer_token
from rec_assets_tests.serving.api_client import ANN, Client, event, now

pytestmark = pytest.mark.integration


INVALID_EVENTS: list[tuple[Any, str]] = [
    (event(1, "purchase", quantity=-1), "quantity: Input should be greater than 0"),
    (event(1, "purchase", quantity=10_001), "quantity: Input should be less than or equal to 10000"),
    (event(1, "purchase", unit_price=float("1e10")), "unit_price: Input should be less than or equal to 1000000000"),
    (event(1, "return", unit_price=410), "unit_price: 410 is more than 20 times the catalog's price of 4.1; send"),
    ({**event(1), "customer_id": None}, "customer_id or session_id is required"),
    (event(1, "bought"), "type: "),
    (event(1, time="2026-01-01"), "time: "),
    (event(1, time="2000-01-01T00:00:00Z"), "time: must be within the last 30 days"),
    (event(1, product="x" * 513), "product_id: String should have at most 512 characters"),
    (event(1, product="  "), "product_id: "),
    (event(1, surprise=1), "surprise: "),
    ("no event", "valid dictionary"),
    ({"why": "not ours"}, "event_id: Field required"),
]


def test_an_invalid_event_is_rejected_and_the_others_are_stored(client: Client) -> None:
    for number, (invalid, message) in enumerate(INVALID_EVENTS):
        response = client.send(event(2 * number + 10), invalid, event(2 * number + 11))
        assert response.status_code == 200, response.text
        (rejected,) = response.json()["rejected"]
        assert (response.json()["new"], response.json()["duplicates"], rejected["index"]) == (2, 0, 1)
        assert message in rejected["message"] and "x" * 513 not in response.text
        response = client.send(invalid)
        assert (response.status_code, response.json()["error"]) == (422, "invalid_request"), "nothing was stored"
        assert message in response.json()["message"] and response.json()["fields"][0]["field"] == "events.0"


def test_a_unit_price_is_checked_only_against_a_known_price(client: Client) -> None:
    expensive = [event(1, "purchase", unit_price=82), event(2, "purchase", product="unknown", unit_price=1e9)]
    assert client.send(*expensive).json() == {"new": 2, "duplicates": 0, "rejected": []}


def test_an_event_with_a_used_id_is_a_duplicate_only_if_its_content_is_equal(client: Client) -> None:
    other = event(1, product="p05")
    response = client.send(event(1), other, event(1, time=now().isoformat()), event(2)).json()
    assert (response["new"], response["duplicates"], [each["index"] for each in response["rejected"]]) == (2, 1, [1])
    assert "another product_id, and is kept" in response["rejected"][0]["message"]
    invalid = event(3, "bought")
    response = client.send(invalid, event(1), other).json()
    assert (response["new"], response["duplicates"], [each["index"] for each in response["rejected"]]) == (0, 1, [0, 2])
    response = client.send(other)
    assert response.status_code == 422 and response.json()["fields"][0]["field"] == "events.0"


def test_senders_have_separate_event_ids(start: Callable[..., Client]) -> None:
    secret = "a secret of the shop's own servers"
    client, purchase = start(customer_secret=secret), event(1, "purchase", quantity=2, unit_price=4)
    online, shop_key = client.runtime.online, client.http.headers["X-API-Key"]
    client.http.headers["X-API-Key"] = online.add_key("pages", ["read", "events"], now(), is_public=True)
    for session in ("s1", "s2"):
        sent = client.send(event(1, customer_id=None, session_id=session))
        assert sent.json() == {"new": 1, "duplicates": 0, "rejected": []}, (
            "each visitor has a separate namespace of ids"
        )
    token = {"X-Customer-Token": customer_token(secret, ANN, now() + dt.timedelta(hours=1))}
    assert client.http.post("/v1/events", json={"events": [event(1)]}, headers=token).json()["new"] == 1
    client.http.headers["X-API-Key"] = shop_key
    assert client.send(purchase).json() == {"new": 1, "duplicates": 0, "rejected": []}
    client.http.headers["X-API-Key"] = online.add_key("rotated", ["events", "sales"], now())
    assert client.send(purchase).json() == {"new": 0, "duplicates": 1, "rejected": []}, "another key of the shop"


def test_purchases_and_returns_need_a_key_with_the_scope_sales(client: Client) -> None:
    online = client.runtime.online
    batch = [event(1), event(2, "purchase"), event(3, "return"), event(4, "cart")]
    client.http.headers["X-API-Key"] = online.add_key("clicks", ["read", "events"], now())
    response = client.send(*batch).json()
    assert (response["new"], [each["index"] for each in response["rejected"]]) == (2, [1, 2])
    assert "a purchase needs a key with the scope 'sales'" in response["rejected"][0]["message"]
    client.http.headers["X-API-Key"] = online.add_key("pages", ["events", "sales"], now(), is_public=True)
    anonymous = [{**each, "customer_id": None, "session_id": "s1"} for each in batch]
    assert client.send(*anonymous).json() == {"new": 4, "duplicates": 0, "rejected": []}


def test_an_empty_or_too_large_batch_is_rejected_and_a_future_time_becomes_now(client: Client) -> None:
    assert client.send().status_code == 422
    assert client.send(*[event(number) for number in range(1001)]).status_code == 422
    assert client.runtime.online.oldest_event() is None
    assert client.send(event(1, time=(now() + dt.timedelta(days=1)).isoformat())).json()["new"] == 1
    assert client.runtime.online.oldest_event() <= now(), "the client's clock was fast"  # type: ignore[operator]
