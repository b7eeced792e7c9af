"""The API with real requests to the real app, on a small index and SQLite."""

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError
from starlette.routing import compile_path

from rec_assets.serving.api import create_app
from rec_assets.serving.http import dependencies
from rec_assets.serving.http.security import RequestRejected, check_customer_token, customer_token
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.manifest import write_manifest
from rec_assets.serving.recommender import Signal, build_signals
from rec_assets.serving.runtime import ServingRuntime
from rec_assets.settings import ApiSettings, Settings
from rec_assets_tests.serving import shop

pytestmark = pytest.mark.integration

ANN = "c00"


@dataclass
class Client:
    """A client whose key has every scope except `simulate`."""

    http: TestClient
    runtime: ServingRuntime
    home: Path

    def get(self, path: str, **parameters: Any) -> Any:
        return self.http.get(path, params=parameters)

    def recommend(self, **body: Any) -> list[str]:
        response = self.http.post("/v1/recommendations", json=body)
        assert response.status_code == 200, response.text
        return [item["product_id"] for item in response.json()["items"]]

    def send(self, *events: dict[str, Any]) -> Any:
        return self.http.post("/v1/events", json={"events": list(events)})


def event(number: int, kind: str = "click", product: str = "p31", **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "type": kind, "product_id": product, "customer_id": ANN, **more}


@pytest.fixture
def start(tmp_path: Path, index: Index) -> Iterator[Callable[..., Client]]:
    """Starts the app with a new home."""
    running = []

    def run(*, published: bool = True, **api: Any) -> Client:
        settings = Settings(home=tmp_path, api=ApiSettings(**{"requests_per_second": 1e6, "burst": 1_000_000, **api}))
        settings.serving.mkdir(parents=True, exist_ok=True)
        if published:
            shop.publish(settings.serving, index)
        app = create_app(settings)
        http = TestClient(app, raise_server_exceptions=False)
        http.__enter__()
        running.append(http)
        runtime: ServingRuntime = app.state.runtime
        http.headers["X-API-Key"] = runtime.online.add_key("test", ["read", "events", "sales", "admin"], _now())
        return Client(http, runtime, tmp_path)

    yield run
    for http in running:
        http.__exit__(None, None, None)


@pytest.fixture
def client(start: Callable[..., Client]) -> Client:
    return start()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def test_a_customer_gets_the_list_and_reasons_of_the_batch(client: Client, index: Index) -> None:
    made = shop.lists(index.snapshot, index.ranker)
    batch = made[(made["customer_id"] == ANN) & (made["list"] == "all")].head(5)
    response = client.get(f"/v1/customers/{ANN}/recommendations", k=5).json()
    assert [item["product_id"] for item in response["items"]] == batch["product_id"].to_list()
    assert [item["reason"] for item in response["items"]] == batch["reason"].to_list()
    assert [item["rank"] for item in response["items"]] == [1, 2, 3, 4, 5]
    assert (response["answered_by"], response["model_version"], response["as_of"]) == ("customer", 1, str(shop.AS_OF))
    assert len(response["recommendation_id"]) == 32
    assert [item["product_id"] for item in response["items"]] == client.recommend(customer_id=ANN, k=5)


def test_an_event_changes_the_next_response(client: Client) -> None:
    before = client.recommend(customer_id=ANN, k=20)
    assert client.send(event(1), event(2, "purchase", order_id="o1")).json() == {
        "new": 2,
        "duplicates": 0,
        "rejected": [],
    }
    assert client.send(event(1), event(3)).json() == {"new": 1, "duplicates": 1, "rejected": []}
    assert client.recommend(customer_id=ANN, k=20) != before
    assert "p31" not in client.recommend(customer_id=ANN, k=60, mode="discover")
    assert "p31" in client.recommend(customer_id=ANN, k=60, mode="buy_again")
    client.send(event(4, "return", order_id="o1"))
    assert "p31" in client.recommend(customer_id=ANN, k=60, mode="discover")


def test_a_purchase_and_its_return_in_one_batch_keep_their_order(client: Client) -> None:
    for number in range(8):  # ids sort differently each time
        ids = f"{number}{'ab'[number % 2]}", f"{number}{'ba'[number % 2]}"
        client.send({**event(0, "purchase"), "event_id": ids[0]}, {**event(0, "return"), "event_id": ids[1]})
        assert "p31" in client.recommend(customer_id=ANN, k=60, mode="discover")


def test_events_of_a_session_and_events_in_the_request_count(client: Client) -> None:
    unknown = client.recommend(session_id="s1")
    client.send({**event(1), "customer_id": None, "session_id": "s1"})
    seen = client.recommend(session_id="s1")
    assert seen != unknown
    assert client.recommend(events=[{"type": "click", "product_id": "p31"}]) == seen
    assert client.recommend(session_id="s2") == unknown


def test_events_count_from_the_day_after_the_as_of_day(client: Client) -> None:
    since = client.runtime.engine.since  # type: ignore[union-attr]
    assert since == dt.datetime(2026, 3, 1, tzinfo=since.tzinfo) and str(since.tzinfo) == "Europe/Berlin"


def test_an_unavailable_product_disappears_at_once_and_returns_when_available(client: Client) -> None:
    first = client.recommend(customer_id=ANN)[0]
    path = f"/v1/products/{first}/availability"
    assert client.http.put(path, json={"available": False}).json() == {
        "available": False, "product_id": first, "in_catalog": True,
    }  # fmt: skip
    assert first not in client.recommend(customer_id=ANN, k=60)
    for path_of_list in ("/v1/trending", "/v1/products/p03/similar", "/v1/products/p05/complements"):
        assert first not in [item["product_id"] for item in client.get(path_of_list, k=60).json()["items"]]
    assert client.http.put(path, json={"available": True}).status_code == 200
    assert client.recommend(customer_id=ANN)[0] == first
    elsewhere = client.http.put("/v1/products/next season/availability", json={"available": False})
    assert elsewhere.json()["in_catalog"] is False


def test_related_and_trending_products(client: Client) -> None:
    similar = client.get("/v1/products/p03/similar", k=5).json()["items"]
    assert {item["category"] for item in similar} == {"tea"} and "p03" not in [item["product_id"] for item in similar]
    dearer = client.get("/v1/products/p03/upsell", k=5).json()["items"]
    assert all(1.3 * 1.05 <= item["price"] <= 1.3 * 2 for item in dearer) and dearer
    along = client.get("/v1/products/p03/complements", k=5).json()["items"]
    assert along[0]["product_id"] == "p08" and all(item["category"] != "tea" for item in along)
    assert client.get("/v1/products/no such/similar").json()["error"] == "unknown_product"
    rising = client.get("/v1/trending", category="bath").json()["items"]
    assert {item["category"] for item in rising} <= {"bath"}


def test_prices_have_cents_scores_six_decimals_and_filters_use_the_displayed_price(
    client: Client,
) -> None:
    items = client.http.post("/v1/recommendations", json={"customer_id": ANN, "k": 60}).json()["items"]
    assert all(repr(item["price"]) == f"{item['price']:.1f}" for item in items), "1.1 and not 1.100000023841858"
    assert all(item["score"] == round(item["score"], 6) for item in items)
    dearest = max(item["price"] for item in items)
    found = client.http.post("/v1/recommendations", json={"k": 60, "filters": {"price_min": dearest}}).json()["items"]
    assert dearest in [item["price"] for item in found]


def test_a_forgotten_customer_is_unknown_at_once(client: Client) -> None:
    client.send(event(1))
    forgotten = client.http.delete(f"/v1/customers/{ANN}").json()
    assert forgotten == {"customer_id": ANN, "events_deleted": 1, "in_index": True}
    response = client.get(f"/v1/customers/{ANN}/recommendations").json()
    assert response["answered_by"] == "popular"
    assert client.get("/v1/customers/c01/recommendations").json()["answered_by"] == "customer"
    again = client.send(event(1, time=(_now() - dt.timedelta(seconds=60)).isoformat()), event(3, product="p05"))
    assert again.json()["new"] == 1, "an event from before, sent again by a client that got no response"
    assert "asked to be forgotten after that time" in again.json()["rejected"][0]["message"]
    client.send(event(2))
    assert client.get(f"/v1/customers/{ANN}/recommendations").json()["answered_by"] == "session", "new events count"
    assert client.http.delete("/v1/customers/c01%2F").json()["customer_id"] == "c01/", "another id"
    assert client.get("/v1/customers/c01/recommendations").json()["answered_by"] == "customer"


@pytest.mark.parametrize(
    ("key", "status", "error"),
    [
        (None, 401, "missing_key"),
        ("rec_unknown", 401, "invalid_key"),
        ("expired", 401, "expired_key"),
        ("events", 403, "missing_scope"),
    ],
)
def test_a_request_needs_a_valid_key_with_the_scope(client: Client, key: str | None, status: int, error: str) -> None:
    online = client.runtime.online
    keys = {
        "expired": lambda: online.add_key("old", ["read"], _now(), expires=_now() - dt.timedelta(seconds=1)),
        "events": lambda: online.add_key("shop", ["events"], _now()),
    }
    del client.http.headers["X-API-Key"]
    headers = {} if key is None else {"X-API-Key": keys.get(key, lambda: key)()}
    response = client.http.get(f"/v1/customers/{ANN}/recommendations", headers=headers)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["message"]


def test_a_public_key_needs_the_customers_token(start: Callable[..., Client]) -> None:
    secret = "a secret of the shop's own servers"
    client = start(customer_secret=secret)
    headers = client.http.headers
    headers["X-API-Key"] = client.runtime.online.add_key("pages", ["read", "events"], _now(), is_public=True)
    hour = dt.timedelta(hours=1)
    tokens = {
        "": "missing_token",
        "nonsense": "invalid_token",
        customer_token(secret, "c01", _now() + hour): "invalid_token",
        customer_token("another secret, as long as the shop's", ANN, _now() + hour): "invalid_token",
        customer_token(secret, ANN, _now() - hour): "expired_token",
    }
    calls = (
        lambda: client.get(f"/v1/customers/{ANN}/recommendations"),
        lambda: client.http.post("/v1/recommendations", json={"customer_id": ANN}),
        lambda: client.send(event(1, customer_id=None, session_id="s"), event(2)),
    )
    for token, error in tokens.items():
        headers.pop("X-Customer-Token", None)
        if token:
            headers["X-Customer-Token"] = token
        for call in calls:
            response = call()
            assert (response.status_code, response.json()["error"]) == (403, error), token
    headers["X-Customer-Token"] = customer_token(secret, ANN, _now() + hour)
    for call in calls:
        assert call().status_code == 200
    del headers["X-Customer-Token"]
    assert client.recommend(session_id="s"), "a visitor needs no token"
    assert client.http.post("/v1/recommendations", json={"customer_id": "c01"}).status_code == 403


@pytest.mark.parametrize("token", ["²." + 64 * "0", "1.é", "9" * 40 + ".", ".", "-1.a"])
def test_a_malformed_token_is_rejected(token: str) -> None:
    with pytest.raises(RequestRejected, match="not signed for this customer"):
        check_customer_token("a secret of the shop's own servers", ANN, token, _now())


def test_without_a_customer_secret_no_token_is_valid(client: Client) -> None:
    key = client.runtime.online.add_key("pages", ["read"], _now(), is_public=True)
    client.http.headers.update({"X-API-Key": key, "X-Customer-Token": customer_token("", ANN, _now())})
    assert client.get(f"/v1/customers/{ANN}/recommendations").json()["error"] == "missing_token"
    assert client.recommend()


def test_a_revoked_key_is_rejected_at_once(client: Client) -> None:
    assert client.get("/v1/trending").status_code == 200
    client.runtime.online.revoke_key("test")
    assert client.get("/v1/trending").status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{not json", 422, "JSON"),
        (b'{"k": -1}', 422, "greater than or equal to 1"),
        (b'{"k": 1000000000}', 422, "less than or equal to 100"),
        (b'{"k": NaN}', 422, "k"),
        (b'{"diversity": NaN}', 422, "diversity"),
        (b'{"surprise": 1}', 422, "Extra inputs are not permitted"),
        (b'{"customer_id": ""}', 422, "at least 1 character"),
        (b'{"customer_id": "\\u0000"}', 422, "pattern"),
        (b'{"customer_id": "\\ud800"}', 422, "customer_id"),
        (b'{"mode": "everything"}', 422, "'all', 'discover' or 'buy_again'"),
        (b'{"filters": {"price_min": 3, "price_max": 2}}', 422, "price_min must not be above price_max"),
        (b'{"filters": {"price_min": 1e999}}', 422, "price_min"),
        (b'{"exclude": "p01"}', 422, "valid list"),
        (b"[]", 422, "object"),
        (b"", 422, "required"),
        (b'{"customer_id": "\xff"}', 400, "UTF-8"),
        (b"[" * 100_000, 400, "JSON"),
        (b'{"k": ' + b"9" * 100_000 + b"}", 400, "JSON"),
        (b'{"k": 1' + b"".join(b', "x%d": 1' % number for number in range(9_000)) + b"}", 422, "9001 fields"),
    ],
)  # fmt: skip
def test_invalid_bodies_are_rejected_with_a_helpful_message(
    client: Client, body: bytes, status: int, message: str
) -> None:
    response = client.http.post("/v1/recommendations", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert message in response.json()["message"] and len(response.text) < 2000, response.text


def test_a_body_above_the_limit_is_rejected(client: Client) -> None:
    body = b'{"exclude": ["' + b"x" * 10_000_000 + b'"]}'
    response = client.http.post("/v1/recommendations", content=body)
    assert (response.status_code, response.text) == (413, "Content Too Large")
    assert client.http.post("/v1/events", content=iter([body])).status_code == 413, "without a Content-Length"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/customers/c00/recommendations?k=-1", 422),
        ("/v1/customers/c00/recommendations?k=1e9", 422),
        ("/v1/customers/c00/recommendations?k=1000000000", 422),
        ("/v1/customers/c00/recommendations?color=red", 422),
        ("/v1/customers/c00/recommendations?price_min=nan", 422),
        ("/v1/customers/c00/recommendations?price_min=5&price_max=1", 422),
        (f"/v1/customers/{'x' * 513}/recommendations", 422),
        ("/v1/customers/%20/recommendations", 422),
        ("/v1/customers/%00/recommendations", 422),
        ("/v1/customers/M%FCller/recommendations", 422),
        ("/v1/trending/", 404),
        ("/v1/customers/..%2F..%2Fetc%2Fpasswd/recommendations", 200),
        ("/v1/customers/%E6%97%A5%E6%9C%AC%20%F0%9F%92%84/recommendations", 200),
        ("/v1/products/..%2F..%2Fetc%2Fpasswd/similar", 404),
        ("/no/such/page", 404),
        ("/v1/recommendations", 405),
    ],
)
def test_invalid_addresses_are_rejected_and_unusual_ids_are_unknown(client: Client, path: str, status: int) -> None:
    response = client.http.get(path)
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.json()["message"]
    else:
        assert response.json()["answered_by"] == "popular"


def send_raw(client: Client, method: str, path: str, body: Any = None) -> Any:
    raw = client.http.build_request(method, "/", json=body)
    raw.url = raw.url.copy_with(raw_path=path.encode())
    return client.http.send(raw)


def test_an_unencoded_slash_is_not_part_of_an_id(client: Client) -> None:
    for method, path, rest, body in (
        ("DELETE", "/v1/customers/", "", None),
        ("PUT", "/v1/products/", "/availability", {"available": False}),
        ("GET", "/v1/customers/", "/recommendations", None),
        ("GET", "/v1/products/", "/similar", None),
    ):
        for end in (f"p01/{rest}", f"/p01{rest}", f"a/p01{rest}", rest or "/"):
            response = send_raw(client, method, path + end, body)
            assert response.status_code == 404 and "%2F" in response.json()["message"], response.text
    assert send_raw(client, "DELETE", "/v1/customers/c01/recommendations").status_code == 405
    assert client.runtime.online.forgotten() == {} and not client.runtime.online.unavailable()


def test_an_id_in_an_address_is_decoded_once(client: Client) -> None:
    for sent, customer in {
        "1228%2F": "1228/", "1228%252F": "1228%2F", "a%2Fb": "a/b", "%2E%2E": "..", "a;b=c": "a;b=c", "a+b": "a+b",
    }.items():  # fmt: skip
        assert send_raw(client, "DELETE", f"/v1/customers/{sent}?k=1").json()["customer_id"] == customer


def test_relative_segments_are_not_ids() -> None:
    pattern, _, _ = compile_path("/v1/customers/{customer_id:id}/recommendations")
    for segment, matches in {"..": False, ".": False, "...": True, ".a": True, "%2E%2E": True, "": False}.items():
        assert bool(pattern.match(f"/v1/customers/{segment}/recommendations")) is matches


def test_responses_are_not_cached_and_pages_load_nothing_from_other_sites(start: Callable[..., Client]) -> None:
    client = start(allowed_origins=("https://shop.example",), storefront_key="rec_demo")
    origin = {"Origin": "https://shop.example"}
    for path, status in (("/v1/trending", 200), (f"/v1/customers/{ANN}/recommendations", 200), ("/v1/nothing", 404)):
        response = client.http.get(path, headers=origin)
        assert (response.status_code, response.headers["Cache-Control"]) == (status, "private, no-store")
        assert {each.strip() for each in response.headers["Vary"].split(",")} == {
            "X-API-Key",
            "X-Customer-Token",
            "Origin",
        }
    for path in ("/docs", "/storefront/storefront.html", "/widget.js", "/openapi.json", "/health/live", "/v1/trending"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        if not path.startswith("/v1"):
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "://" not in response.headers["Content-Security-Policy"]


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
    response = client.send(event(1), other, event(1, time=_now().isoformat()), event(2)).json()
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
    client.http.headers["X-API-Key"] = online.add_key("pages", ["read", "events"], _now(), is_public=True)
    for session in ("s1", "s2"):
        sent = client.send(event(1, customer_id=None, session_id=session))
        assert sent.json() == {"new": 1, "duplicates": 0, "rejected": []}, (
            "each visitor has a separate namespace of ids"
        )
    token = {"X-Customer-Token": customer_token(secret, ANN, _now() + dt.timedelta(hours=1))}
    assert client.http.post("/v1/events", json={"events": [event(1)]}, headers=token).json()["new"] == 1
    client.http.headers["X-API-Key"] = shop_key
    assert client.send(purchase).json() == {"new": 1, "duplicates": 0, "rejected": []}
    client.http.headers["X-API-Key"] = online.add_key("rotated", ["events", "sales"], _now())
    assert client.send(purchase).json() == {"new": 0, "duplicates": 1, "rejected": []}, "another key of the shop"


def test_purchases_and_returns_need_a_key_with_the_scope_sales(client: Client) -> None:
    online = client.runtime.online
    batch = [event(1), event(2, "purchase"), event(3, "return"), event(4, "cart")]
    client.http.headers["X-API-Key"] = online.add_key("clicks", ["read", "events"], _now())
    response = client.send(*batch).json()
    assert (response["new"], [each["index"] for each in response["rejected"]]) == (2, [1, 2])
    assert "a purchase needs a key with the scope 'sales'" in response["rejected"][0]["message"]
    client.http.headers["X-API-Key"] = online.add_key("pages", ["events", "sales"], _now(), is_public=True)
    anonymous = [{**each, "customer_id": None, "session_id": "s1"} for each in batch]
    assert client.send(*anonymous).json() == {"new": 4, "duplicates": 0, "rejected": []}


def test_an_empty_or_too_large_batch_is_rejected_and_a_future_time_becomes_now(client: Client) -> None:
    assert client.send().status_code == 422
    assert client.send(*[event(number) for number in range(1001)]).status_code == 422
    assert client.runtime.online.oldest_event() is None
    assert client.send(event(1, time=(_now() + dt.timedelta(days=1)).isoformat())).json()["new"] == 1
    assert client.runtime.online.oldest_event() <= _now(), "the client's clock was fast"  # type: ignore[operator]


UNUSUAL_IDS = (
    "x" * 512,
    "\U0001f484" * 512,
    "a/b/../c",
    "50% off?&#",
    " padded ",
    "tab\tand\nline",
    "日本",
    "Ünï+cödé",
)


def test_addresses_and_bodies_accept_every_id_that_a_purchase_log_can_have(client: Client) -> None:
    for number, unusual in enumerate(UNUSUAL_IDS):
        sent = client.send(
            event(2 * number, customer_id=unusual, session_id=unusual, order_id=unusual),
            event(2 * number + 1, product=unusual),
        )
        assert sent.json() == {"new": 2, "duplicates": 0, "rejected": []}
        response = client.http.get(f"/v1/customers/{quote(unusual, safe='')}/recommendations")
        assert response.json().get("answered_by") == "session", response.text
        assert client.recommend(customer_id=unusual, exclude=[unusual])
        path = f"/v1/products/{quote(unusual, safe='')}"
        assert client.http.put(f"{path}/availability", json={"available": False}).json()["product_id"] == unusual
        assert client.http.get(f"{path}/similar").json()["error"] == "unknown_product"
        forgotten = client.http.delete(f"/v1/customers/{quote(unusual, safe='')}").json()
        assert forgotten == {"customer_id": unusual, "events_deleted": 1, "in_index": False}


def test_integer_ids_become_text_and_other_types_are_rejected(client: Client) -> None:
    assert client.send(event(1, product=31, customer_id=1228)).json()["new"] == 1  # type: ignore[arg-type]
    assert client.runtime.online.recent_events("1228", None, _now() - dt.timedelta(days=1)) == [("click", "31", "")]
    for invalid in (1.0, True, ["1228"], {}):
        assert client.http.post("/v1/recommendations", json={"customer_id": invalid}).status_code == 422


def test_the_rate_limit_says_how_long_to_wait(start: Callable[..., Client]) -> None:
    client = start(requests_per_second=0.5, burst=3)
    statuses = [client.get("/v1/trending").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert int(client.get("/v1/trending").headers["Retry-After"]) in (1, 2)
    assert client.get("/health/live").status_code == 200


def test_the_rate_limit_counts_costs(start: Callable[..., Client]) -> None:
    client = start(requests_per_second=0.001, burst=20)
    add_key = client.runtime.online.add_key
    keys = [add_key(f"pages {number}", ["read", "events"], _now(), is_public=True) for number in range(4)]

    def count_until_rejected(key: str, ask: Callable[[], Any]) -> int:
        client.http.headers["X-API-Key"] = key
        return next(number for number in range(100) if ask().status_code == 429)

    def batch() -> Any:
        return client.send(*[event(number, customer_id=None, session_id="s") for number in range(8)])

    def click() -> Any:
        click = {"type": "click", "product_id": shop.product(len(clicks))}
        clicks.append(click)
        return client.http.post("/v1/recommendations", json={"events": [click]})

    clicks: list[Any] = []
    assert count_until_rejected(keys[0], lambda: client.get("/v1/trending")) == 20
    assert count_until_rejected(keys[1], batch) == 3
    assert count_until_rejected(keys[2], click) == 2, "each needs a ranking"
    server = add_key("server", ["read", "events"], _now())
    assert count_until_rejected(server, batch) == 11, "the shop's own keys pay a tenth"
    client.http.headers["X-API-Key"] = keys[3]
    everything = [event(number, customer_id=None, session_id="s") for number in range(1000)]
    assert client.send(*everything).status_code == 200, "a cost above the balance passes"
    assert int(client.send(*everything).headers["Retry-After"]) > 900_000, "and leaves a debt"


def test_a_full_ranking_queue_rejects_only_rankings(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rec_assets.serving.http.ranking_queue.MAX_QUEUED", 0)
    rejected = client.http.post("/v1/recommendations", json={"events": [{"type": "click", "product_id": "p31"}]})
    assert (rejected.status_code, rejected.json()["error"], rejected.headers["Retry-After"]) == (503, "busy", "1")
    assert client.recommend(customer_id=ANN)


def test_only_allowed_origins_may_call_from_browsers(start: Callable[..., Client]) -> None:
    client = start(allowed_origins=("https://shop.example",))
    for origin, allowed in (("https://shop.example", "https://shop.example"), ("https://evil.example", None)):
        response = client.http.get("/v1/trending", headers={"Origin": origin})
        assert response.headers.get("access-control-allow-origin") == allowed


def test_a_missing_home_is_created_and_readiness_says_what_to_do(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "new"))
    with TestClient(app) as http:
        ready = http.get("/health/ready")
    assert ready.status_code == 503 and set(ready.json()["missing"]) == {"index"}
    assert "rec-assets bootstrap" in ready.json()["missing"]["index"]
    assert (tmp_path / "new" / "serving" / "online.db").exists()


def test_an_unknown_proxy_is_logged_once(start: Callable[..., Client], caplog: pytest.LogCaptureFixture) -> None:
    dependencies.warn_of_unknown_proxy.cache_clear()
    client = start()
    for name in ("X-Other", *2 * ["X-Forwarded-For"]):
        assert client.http.get("/v1/trending", headers={name: "203.0.113.7"}).status_code == 200
    assert len([line for line in caplog.messages if "REC_API__TRUSTED_PROXIES" in line]) == 1


def test_a_broken_database_is_not_reported_as_an_invalid_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "serving" / "online.db").mkdir(parents=True)
    with TestClient(create_app(Settings(home=tmp_path))) as http:
        response = http.get("/v1/trending", headers={"X-API-Key": "rec_some"})
        missing = http.get("/health/ready").json()["missing"]
    assert (response.status_code, response.json()["error"]) == (503, "database_unavailable")
    assert "must be writable" in missing["online_state"]
    assert any("unable to open database file" in line and "\n" not in line for line in caplog.messages)


def test_without_an_index_the_api_reports_it_and_accepts_events(start: Callable[..., Client], index: Index) -> None:
    client = start(published=False)
    ready = client.get("/health/ready")
    assert ready.status_code == 503 and "serving_index" in ready.json()["missing"]["index"]
    assert client.get("/v1/trending").json()["error"] == "no_index"
    assert client.send(event(1)).json()["new"] == 1
    shop.publish(client.runtime.indexes.folder.root, index)
    deadline = time.monotonic() + 10
    while client.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.get("/health/ready").json()["model_version"] == 1
    assert client.get("/health/live").json()["status"] == "ok"


def test_a_new_index_is_loaded_while_requests_continue(client: Client, index: Index) -> None:
    responses, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            responses.append(client.get(f"/v1/customers/{ANN}/recommendations", k=3))

    thread = threading.Thread(target=ask)
    thread.start()
    for version in (2, 3, 2):
        shop.publish(client.runtime.indexes.folder.root, index, version)
        deadline = time.monotonic() + 10
        while client.get("/health/ready").json()["model_version"] != version and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.get("/health/ready").json()["model_version"] == version
    stop.set()
    thread.join()
    assert {response.status_code for response in responses} == {200}
    assert {response.json()["model_version"] for response in responses} >= {2, 3}


def test_an_unreadable_index_is_skipped_and_retried(
    client: Client, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec_assets.serving.index_loader.RETRY_SECONDS", 0.0)

    def write_without_ranker(folder: Path) -> None:
        index.save(folder)
        (folder / "ranker.ubj").unlink()
        write_manifest(folder)

    broken = client.runtime.indexes.folder.add(9, shop.AS_OF, write_without_ranker)
    client.runtime.indexes.folder.make_current(broken)
    client.runtime.refresh()
    assert client.get("/v1/trending").json()["model_version"] == 1
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["missing"], ready.json()["model_version"]) == (200, {}, 1)
    assert "can't be read" in ready.json()["warnings"]["index"]
    index.save(broken.path)
    client.runtime.refresh()
    assert client.get("/v1/trending").json()["model_version"] == 9
    assert client.get("/health/ready").json()["warnings"] == {}


def test_an_unavailable_database_stops_only_events(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/v1/trending").status_code == 200
    online, calls = client.runtime.online, []

    def fail(*_: Any) -> None:
        calls.append(1)
        raise OperationalError("", {}, Exception("no response"))

    with monkeypatch.context() as patched:
        for name in ("create", "counters", "recent_events", "record"):
            patched.setattr(online, name, fail)
        for _ in range(5):
            assert client.recommend(customer_id=ANN)
            response = client.send(event(1))
            assert (response.status_code, response.json()["error"]) == (503, "database_unavailable")
        assert client.get("/health/ready").status_code == 503
        assert len(calls) <= 3, "after a failure, no request waits for the database"
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert client.send(event(1)).json() == {"new": 1, "duplicates": 0, "rejected": []}


def test_a_full_disk_rejects_events_until_there_is_space(client: Client) -> None:
    online, limit = client.runtime.online, {"pages": 1}  # SQLite raises it to the size of the file

    @sa.event.listens_for(online._writer, "checkout")
    def set_limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={limit['pages']}")

    client.send({**event(0), "customer_id": None, "session_id": "s1"})
    seen = client.recommend(session_id="s1")
    large = [event(number, order_id="\U0001f484" * 512) for number in range(1, 200)]
    assert client.send(*large).json()["error"] == "database_unavailable"
    for _ in range(12):  # more than a second
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ok"), "recommendations continue"
        assert "not writable" in ready.json()["warnings"]["events"]
        assert client.send(event(1)).status_code == 503
        assert client.recommend(session_id="s1") == seen, "stored events still count"
        time.sleep(0.1)
    limit["pages"] = 10**6
    wait_until(lambda: not client.get("/health/ready").json()["warnings"])
    assert client.send(*large).json()["new"] == 199


def test_a_probe_detects_an_unwritable_database_before_an_event_is_lost(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec_assets.serving.runtime.PROBE_SECONDS", 0.1)
    connection = client.runtime.online._writer.raw_connection()
    connection.cursor().execute("PRAGMA query_only=ON")
    connection.close()
    wait_until(lambda: "events" in client.get("/health/ready").json()["warnings"])
    assert client.get("/health/ready").status_code == 200 and client.recommend(customer_id=ANN)


def test_keys_that_were_never_read_are_not_invalid(start: Callable[..., Client]) -> None:
    client = start()
    with client.runtime.online._writer.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE keys RENAME TO hidden")
    app = create_app(Settings(home=client.home))
    app.state.runtime.online.create = lambda: None  # it would create an empty table
    with TestClient(app) as http:
        response = http.get("/v1/trending", headers={"X-API-Key": client.http.headers["X-API-Key"]})
        ready = http.get("/health/ready")
        assert (response.status_code, response.json()["error"]) == (503, "database_unavailable"), (
            "the counters can be read but the keys can't"
        )
        assert ready.status_code == 503 and set(ready.json()["missing"]) == {"online_state"}
        with client.runtime.online._writer.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS keys")
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO keys")
        wait_until(lambda: http.get("/health/ready").status_code == 200)
        headers = {"X-API-Key": client.http.headers["X-API-Key"]}
        assert http.get("/v1/trending", headers=headers).status_code == 200


def test_the_tables_of_an_emptied_database_are_created_again(start: Callable[..., Client], url: str) -> None:
    client = start(database_url=url)
    with client.runtime.online._writer.begin() as connection:
        connection.exec_driver_sql("DROP TABLE events")
    assert client.send(event(1)).status_code == 503
    wait_until(lambda: client.send(event(1)).status_code == 200)


def test_logs_and_metrics_contain_no_customer_id(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        client.get("/v1/customers/very-secret-id/recommendations")
        client.get("/v1/customers/very-secret-id/nothing")
        client.send(event(1, customer_id="very-secret-id"))
        client.http.delete("/v1/customers/very-secret-id")
    metrics = client.get("/metrics").text
    messages = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert any("/v1/events 200" in line for line in messages)
    assert "very-secret-id" not in metrics + " ".join(messages)
    assert 'rec_assets_answers_total{answered_by="popular"} 1.0' in metrics
    assert "rec_assets_model_version 1.0" in metrics


def test_many_rejected_requests_do_not_flood_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    del client.http.headers["X-API-Key"]
    with caplog.at_level("INFO", "rec_assets.access"):
        for _ in range(200):
            client.get("/v1/trending")
        client.get("/health/live")
    lines = [record.getMessage() for record in caplog.records if record.name == "rec_assets.access"]
    assert 60 <= sum("401" in line for line in lines) < 150 and any("/health/live 200" in line for line in lines)
    assert (
        'rec_assets_requests_total{method="GET",route="/v1/trending",status="401"} 200.0' in client.get("/metrics").text
    )


def test_an_internal_error_reveals_no_details(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.runtime.database, "snapshot", lambda: 1 / 0)
    response = client.get("/v1/trending")
    assert (response.status_code, response.json()["error"]) == (
        500,
        "internal_error",
    ) and "division" not in response.text


def test_a_return_cancels_a_purchase() -> None:
    weights = {"click": 0.1, "cart": 0.0, "purchase": 1.0}
    events = [
        ("purchase", "a", "1"),
        ("click", "a", "2"),
        ("return", "a", "3"),
        ("cart", "b", "3"),
        ("return", "b", "3"),
    ]
    assert build_signals(events, weights) == (Signal("a", 0.1, "2"),)


def test_a_visits_events_for_a_product_count_once_with_the_largest_weight() -> None:
    weights = {"click": 0.1, "cart": 0.3, "purchase": 1.0}
    events = [("click", "a", "1"), ("cart", "a", "1"), ("click", "b", "1"), ("click", "a", "1"), ("click", "a", "2")]
    assert build_signals(events, weights) == (Signal("b", 0.1, "1"), Signal("a", 0.3, "1"), Signal("a", 0.1, "2"))
    twice = [("purchase", "a", "1"), ("purchase", "a", "1")]
    assert len(build_signals(twice, weights)) == 2, "two purchases"


def test_no_request_that_the_schema_allows_causes_an_internal_error(client: Client) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    headers = {"X-API-Key": client.http.headers["X-API-Key"]}
    failures = []
    for operation in schema.get_all_operations():
        cases = operation.ok().as_strategy()
        for case in _examples(cases, 60):
            response = client.http.request(**_request(case, headers))
            if response.status_code >= 500 and response.status_code != 503:
                failures.append((case.method, case.formatted_path, response.text))
    assert not failures


def _examples(strategy: Any, count: int) -> list[Any]:
    from hypothesis import HealthCheck, Phase, given, seed, settings

    found: list[Any] = []

    @seed(1)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found


def _request(case: Any, headers: dict[str, str]) -> dict[str, Any]:
    body = case.body if isinstance(case.body, dict | list | str | int | float | bool) else None
    return {
        "method": case.method,
        "url": case.formatted_path,
        "params": case.query or None,
        "headers": headers,
        "content": None if body is None else json.dumps(body).encode("utf-8", "surrogatepass"),
    }
