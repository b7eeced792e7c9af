"""The API as a client sees it: real requests to the real application, on a small index and SQLite."""

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

from rec_assets.serving import api
from rec_assets.serving.api import create_app
from rec_assets.serving.index import Index
from rec_assets.serving.recommender import Signal, signals_of
from rec_assets.serving.runtime import ServingRuntime
from rec_assets.serving.security import Refused, check_customer_token, customer_token
from rec_assets.settings import Api, Settings
from rec_assets_tests.serving import shop

ANN = "c00"


@dataclass
class Client:
    """A caller with a key of every scope."""

    http: TestClient
    live: ServingRuntime
    home: Path

    def get(self, path: str, **parameters: Any) -> Any:
        return self.http.get(path, params=parameters)

    def recommend(self, **question: Any) -> list[str]:
        answer = self.http.post("/v1/recommendations", json=question)
        assert answer.status_code == 200, answer.text
        return [item["product_id"] for item in answer.json()["items"]]

    def send(self, *events: dict[str, Any]) -> Any:
        return self.http.post("/v1/events", json={"events": list(events)})


def event(number: int, kind: str = "click", product: str = "p31", **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "type": kind, "product_id": product, "customer_id": ANN, **more}


@pytest.fixture
def start(tmp_path: Path, index: Index) -> Iterator[Callable[..., Client]]:
    """Starts the application on a fresh home."""
    running = []

    def run(*, published: bool = True, **api: Any) -> Client:
        settings = Settings(home=tmp_path, api=Api(**{"requests_per_second": 1e6, "burst": 1_000_000, **api}))
        settings.serving.mkdir(parents=True, exist_ok=True)
        if published:
            shop.publish(settings.serving, index)
        app = create_app(settings)
        http = TestClient(app, raise_server_exceptions=False)
        http.__enter__()
        running.append(http)
        live: ServingRuntime = app.state.live
        http.headers["X-API-Key"] = live.online.add_key("test", ["read", "events", "sales", "admin"], _now())
        return Client(http, live, tmp_path)

    yield run
    for http in running:
        http.__exit__(None, None, None)


@pytest.fixture
def client(start: Callable[..., Client]) -> Client:
    return start()


def wait_until(holds: Callable[[], bool], patience: float = 20) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def test_a_customer_gets_the_batch_s_list_with_reasons(client: Client, index: Index) -> None:
    made = shop.lists(index.state, index.ranker)
    batch = made[(made["customer_id"] == ANN) & (made["list"] == "all")].head(5)
    answer = client.get(f"/v1/customers/{ANN}/recommendations", k=5).json()
    assert [item["product_id"] for item in answer["items"]] == batch["product_id"].to_list()
    assert [item["reason"] for item in answer["items"]] == batch["reason"].to_list()
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    assert (answer["answered_by"], answer["model_version"], answer["as_of"]) == ("customer", 1, str(shop.AS_OF))
    assert len(answer["recommendation_id"]) == 32
    assert [item["product_id"] for item in answer["items"]] == client.recommend(customer_id=ANN, k=5)


def test_an_event_changes_the_next_answer(client: Client) -> None:
    before = client.recommend(customer_id=ANN, k=20)
    assert client.send(event(1), event(2, "purchase", order_id="o1")).json() == {"new": 2, "known": 0, "refused": []}
    assert client.send(event(1), event(3)).json() == {"new": 1, "known": 1, "refused": []}
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


def test_events_of_a_session_and_those_said_with_the_question_count(client: Client) -> None:
    unknown = client.recommend(session_id="s1")
    client.send({**event(1), "customer_id": None, "session_id": "s1"})
    seen = client.recommend(session_id="s1")
    assert seen != unknown
    assert client.recommend(events=[{"type": "click", "product_id": "p31"}]) == seen
    assert client.recommend(session_id="s2") == unknown


def test_events_before_the_index_s_last_day_are_in_it_already(client: Client) -> None:
    since = client.live.engine.since  # type: ignore[union-attr]
    assert since == dt.datetime(2026, 3, 1, tzinfo=since.tzinfo) and str(since.tzinfo) == "Europe/Berlin"


def test_a_product_out_of_stock_is_gone_at_once_and_comes_back(client: Client) -> None:
    first = client.recommend(customer_id=ANN)[0]
    path = f"/v1/products/{first}/availability"
    assert client.http.put(path, json={"available": False}).json() == {
        "available": False, "product_id": first, "in_catalog": True,
    }  # fmt: skip
    assert first not in client.recommend(customer_id=ANN, k=60)
    for question in ("/v1/trending", "/v1/products/p03/similar", "/v1/products/p05/complements"):
        assert first not in [item["product_id"] for item in client.get(question, k=60).json()["items"]]
    assert client.http.put(path, json={"available": True}).status_code == 200
    assert client.recommend(customer_id=ANN)[0] == first
    elsewhere = client.http.put("/v1/products/next season/availability", json={"available": False})
    assert elsewhere.json()["in_catalog"] is False


def test_what_goes_with_a_product(client: Client) -> None:
    similar = client.get("/v1/products/p03/similar", k=5).json()["items"]
    assert {item["category"] for item in similar} == {"tea"} and "p03" not in [item["product_id"] for item in similar]
    dearer = client.get("/v1/products/p03/upsell", k=5).json()["items"]
    assert all(1.3 * 1.05 <= item["price"] <= 1.3 * 2 for item in dearer) and dearer
    along = client.get("/v1/products/p03/complements", k=5).json()["items"]
    assert along[0]["product_id"] == "p08" and all(item["category"] != "tea" for item in along)
    assert client.get("/v1/products/no such/similar").json()["error"] == "unknown_product"
    rising = client.get("/v1/trending", category="bath").json()["items"]
    assert {item["category"] for item in rising} <= {"bath"}


def test_prices_are_money_and_scores_have_six_decimals_and_filters_go_by_the_price_that_is_shown(
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
    answer = client.get(f"/v1/customers/{ANN}/recommendations").json()
    assert answer["answered_by"] == "popular"
    assert client.get("/v1/customers/c01/recommendations").json()["answered_by"] == "customer"
    again = client.send(event(1, time=(_now() - dt.timedelta(seconds=60)).isoformat()), event(3, product="p05"))
    assert again.json()["new"] == 1, "sent before, and again by a client that had no answer"
    assert "asked to be forgotten after that time" in again.json()["refused"][0]["message"]
    client.send(event(2))
    assert client.get(f"/v1/customers/{ANN}/recommendations").json()["answered_by"] == "session", "a new beginning"
    assert client.http.delete("/v1/customers/c01%2F").json()["customer_id"] == "c01/", "another id"
    assert client.get("/v1/customers/c01/recommendations").json()["answered_by"] == "customer"


@pytest.mark.parametrize(
    ("key", "status", "error"),
    [
        (None, 401, "no_key"),
        ("rec_wrong", 401, "wrong_key"),
        ("expired", 401, "expired_key"),
        ("events", 403, "wrong_scope"),
    ],
)
def test_only_a_key_with_the_scope_may_ask(client: Client, key: str | None, status: int, error: str) -> None:
    online = client.live.online
    keys = {
        "expired": lambda: online.add_key("old", ["read"], _now(), expires=_now() - dt.timedelta(seconds=1)),
        "events": lambda: online.add_key("shop", ["events"], _now()),
    }
    del client.http.headers["X-API-Key"]
    headers = {} if key is None else {"X-API-Key": keys.get(key, lambda: key)()}
    answer = client.http.get(f"/v1/customers/{ANN}/recommendations", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json()["message"]


def test_a_public_key_speaks_of_a_customer_with_their_token_only(start: Callable[..., Client]) -> None:
    secret = "a secret of the shop's own servers"
    client = start(customer_secret=secret)
    headers = client.http.headers
    headers["X-API-Key"] = client.live.online.add_key("pages", ["read", "events"], _now(), is_public=True)
    hour = dt.timedelta(hours=1)
    tokens = {
        "": "no_token",
        "nonsense": "wrong_token",
        customer_token(secret, "c01", _now() + hour): "wrong_token",
        customer_token("another secret, as long as the shop's", ANN, _now() + hour): "wrong_token",
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
            answer = call()
            assert (answer.status_code, answer.json()["error"]) == (403, error), token
    headers["X-Customer-Token"] = customer_token(secret, ANN, _now() + hour)
    for call in calls:
        assert call().status_code == 200
    del headers["X-Customer-Token"]
    assert client.recommend(session_id="s"), "a visitor needs no token"
    assert client.http.post("/v1/recommendations", json={"customer_id": "c01"}).status_code == 403


@pytest.mark.parametrize("token", ["²." + 64 * "0", "1.é", "9" * 40 + ".", ".", "-1.a"])
def test_a_token_of_nonsense_is_refused(token: str) -> None:
    with pytest.raises(Refused, match="not made for this customer"):
        check_customer_token("a secret of the shop's own servers", ANN, token, _now())


def test_without_a_secret_a_public_key_speaks_of_nobody(client: Client) -> None:
    key = client.live.online.add_key("pages", ["read"], _now(), is_public=True)
    client.http.headers.update({"X-API-Key": key, "X-Customer-Token": customer_token("", ANN, _now())})
    assert client.get(f"/v1/customers/{ANN}/recommendations").json()["error"] == "no_token"
    assert client.recommend()


def test_a_key_that_is_taken_back_is_refused_at_once(client: Client) -> None:
    assert client.get("/v1/trending").status_code == 200
    client.live.online.revoke_key("test")
    assert client.get("/v1/trending").status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "says"),
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
def test_bad_bodies_are_refused_with_a_helpful_answer(client: Client, body: bytes, status: int, says: str) -> None:
    answer = client.http.post("/v1/recommendations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert says in problem["message"] and len(answer.text) < 2000, answer.text


def test_a_body_that_is_too_long_is_not_read_to_its_end(client: Client) -> None:
    body = b'{"exclude": ["' + b"x" * 10_000_000 + b'"]}'
    answer = client.http.post("/v1/recommendations", content=body)
    assert (answer.status_code, answer.text) == (413, "Content Too Large")
    assert client.http.post("/v1/events", content=iter([body])).status_code == 413, "its length not announced"


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
def test_bad_addresses_are_refused_and_odd_ids_are_just_unknown(client: Client, path: str, status: int) -> None:
    answer = client.http.get(path)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.json()["message"]
    else:
        assert answer.json()["answered_by"] == "popular"


def send_raw(client: Client, method: str, path: str, body: Any = None) -> Any:
    raw = client.http.build_request(method, "/", json=body)
    raw.url = raw.url.copy_with(raw_path=path.encode())
    return client.http.send(raw)


def test_a_slash_that_is_not_encoded_is_part_of_no_id(client: Client) -> None:
    for method, path, rest, body in (
        ("DELETE", "/v1/customers/", "", None),
        ("PUT", "/v1/products/", "/availability", {"available": False}),
        ("GET", "/v1/customers/", "/recommendations", None),
        ("GET", "/v1/products/", "/similar", None),
    ):
        for end in (f"p01/{rest}", f"/p01{rest}", f"a/p01{rest}", rest or "/"):
            answer = send_raw(client, method, path + end, body)
            assert answer.status_code == 404 and "%2F" in answer.json()["message"], answer.text
    assert send_raw(client, "DELETE", "/v1/customers/c01/recommendations").status_code == 405
    assert client.live.online.forgotten() == {} and not client.live.online.unavailable()


def test_an_id_in_an_address_is_decoded_once(client: Client) -> None:
    for sent, meant in {
        "1228%2F": "1228/", "1228%252F": "1228%2F", "a%2Fb": "a/b", "%2E%2E": "..", "a;b=c": "a;b=c", "a+b": "a+b",
    }.items():  # fmt: skip
        assert send_raw(client, "DELETE", f"/v1/customers/{sent}?k=1").json()["customer_id"] == meant


def test_relative_segments_are_no_ids() -> None:
    pattern, _, _ = compile_path("/v1/customers/{customer_id:id}/recommendations")
    for segment, matches in {"..": False, ".": False, "...": True, ".a": True, "%2E%2E": True, "": False}.items():
        assert bool(pattern.match(f"/v1/customers/{segment}/recommendations")) is matches


def test_answers_are_kept_by_nobody_and_pages_load_nothing_from_elsewhere(start: Callable[..., Client]) -> None:
    client = start(allowed_origins=("https://shop.example",), storefront_key="rec_demo")
    origin = {"Origin": "https://shop.example"}
    for path, status in (("/v1/trending", 200), (f"/v1/customers/{ANN}/recommendations", 200), ("/v1/nothing", 404)):
        answer = client.http.get(path, headers=origin)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (status, "private, no-store")
        assert {each.strip() for each in answer.headers["Vary"].split(",")} == {
            "X-API-Key",
            "X-Customer-Token",
            "Origin",
        }
    for path in ("/docs", "/storefront/storefront.html", "/widget.js", "/openapi.json", "/health/live", "/v1/trending"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        if not path.startswith("/v1"):
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "://" not in answer.headers["Content-Security-Policy"]


WRONG_EVENTS: list[tuple[Any, str]] = [
    (event(1, "purchase", quantity=-1), "quantity: Input should be greater than 0"),
    (event(1, "purchase", quantity=10_001), "quantity: Input should be less than or equal to 10000"),
    (event(1, "purchase", unit_price=float("1e10")), "unit_price: Input should be less than or equal to 1000000000"),
    (event(1, "return", unit_price=410), "unit_price: 410 is more than 20 times the catalog's price of 4.1; send"),
    ({**event(1), "customer_id": None}, "customer_id or session_id must say whose event it is"),
    (event(1, "bought"), "type: "),
    (event(1, time="2026-01-01"), "time: "),
    (event(1, time="2000-01-01T00:00:00Z"), "time: must lie within the last 30 days"),
    (event(1, product="x" * 513), "product_id: String should have at most 512 characters"),
    (event(1, product="  "), "product_id: "),
    (event(1, surprise=1), "surprise: "),
    ("no event", "valid dictionary"),
    ({"why": "not ours"}, "event_id: Field required"),
]


def test_a_wrong_event_is_refused_and_takes_no_other_along(client: Client) -> None:
    for number, (wrong, says) in enumerate(WRONG_EVENTS):
        answer = client.send(event(2 * number + 10), wrong, event(2 * number + 11))
        assert answer.status_code == 200, answer.text
        (refused,) = answer.json().pop("refused")
        assert (answer.json()["new"], answer.json()["known"], refused["number"]) == (2, 0, 1)
        assert says in refused["message"] and "x" * 513 not in answer.text
        answer = client.send(wrong)
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid"), "nothing was taken"
        assert says in answer.json()["message"] and answer.json()["fields"][0]["field"] == "events.0"


def test_a_price_is_compared_where_the_catalog_has_one(client: Client) -> None:
    dear = [event(1, "purchase", unit_price=82), event(2, "purchase", product="unheard of", unit_price=1e9)]
    assert client.send(*dear).json() == {"new": 2, "known": 0, "refused": []}


def test_the_same_id_with_other_content_is_refused_and_known_is_only_what_is_equal(client: Client) -> None:
    other = event(1, product="p05")
    answer = client.send(event(1), other, event(1, time=_now().isoformat()), event(2)).json()
    assert (answer["new"], answer["known"], [each["number"] for each in answer["refused"]]) == (2, 1, [1])
    assert "with other product_id; what was sent first counts" in answer["refused"][0]["message"]
    wrong = event(3, "bought")
    answer = client.send(wrong, event(1), other).json()
    assert (answer["new"], answer["known"], [each["number"] for each in answer["refused"]]) == (0, 1, [0, 2])
    answer = client.send(other)
    assert answer.status_code == 422 and answer.json()["fields"][0]["field"] == "events.0"


def test_nobody_takes_an_id_away_from_another_sender(start: Callable[..., Client]) -> None:
    secret = "a secret of the shop's own servers"
    client, sold = start(customer_secret=secret), event(1, "purchase", quantity=2, unit_price=4)
    online, shop_s = client.live.online, client.http.headers["X-API-Key"]
    client.http.headers["X-API-Key"] = online.add_key("pages", ["read", "events"], _now(), is_public=True)
    for session in ("s1", "s2"):
        sent = client.send(event(1, customer_id=None, session_id=session))
        assert sent.json() == {"new": 1, "known": 0, "refused": []}, "each visitor has ids of their own"
    token = {"X-Customer-Token": customer_token(secret, ANN, _now() + dt.timedelta(hours=1))}
    assert client.http.post("/v1/events", json={"events": [event(1)]}, headers=token).json()["new"] == 1
    client.http.headers["X-API-Key"] = shop_s
    assert client.send(sold).json() == {"new": 1, "known": 0, "refused": []}
    client.http.headers["X-API-Key"] = online.add_key("rotated", ["events", "sales"], _now())
    assert client.send(sold).json() == {"new": 0, "known": 1, "refused": []}, "a new key of the same shop"


def test_purchases_and_returns_take_a_key_that_may_report_them(client: Client) -> None:
    online = client.live.online
    batch = [event(1), event(2, "purchase"), event(3, "return"), event(4, "cart")]
    client.http.headers["X-API-Key"] = online.add_key("clicks", ["read", "events"], _now())
    answer = client.send(*batch).json()
    assert (answer["new"], [each["number"] for each in answer["refused"]]) == (2, [1, 2])
    assert "a purchase takes a key with the scope 'sales'" in answer["refused"][0]["message"]
    client.http.headers["X-API-Key"] = online.add_key("pages", ["events", "sales"], _now(), is_public=True)
    mine = [{**each, "customer_id": None, "session_id": "s1"} for each in batch]
    assert client.send(*mine).json() == {"new": 4, "known": 0, "refused": []}


def test_a_batch_that_is_none_is_refused_whole_and_a_fast_clock_is_now(client: Client) -> None:
    assert client.send().status_code == 422
    assert client.send(*[event(number) for number in range(1001)]).status_code == 422
    assert client.live.online.oldest_event() is None
    assert client.send(event(1, time=(_now() + dt.timedelta(days=1)).isoformat())).json()["new"] == 1
    assert client.live.online.oldest_event() <= _now(), "a clock that is fast"  # type: ignore[operator]


ODD_IDS = ("x" * 512, "\U0001f484" * 512, "a/b/../c", "50% off?&#", " padded ", "tab\tand\nline", "日本", "Ünï+cödé")


def test_every_id_that_a_log_can_hold_is_taken_in_addresses_and_bodies(client: Client) -> None:
    for number, odd in enumerate(ODD_IDS):
        sent = client.send(
            event(2 * number, customer_id=odd, session_id=odd, order_id=odd), event(2 * number + 1, product=odd)
        )
        assert sent.json() == {"new": 2, "known": 0, "refused": []}
        answer = client.http.get(f"/v1/customers/{quote(odd, safe='')}/recommendations")
        assert answer.json().get("answered_by") == "session", answer.text
        assert client.recommend(customer_id=odd, exclude=[odd])
        path = f"/v1/products/{quote(odd, safe='')}"
        assert client.http.put(f"{path}/availability", json={"available": False}).json()["product_id"] == odd
        assert client.http.get(f"{path}/similar").json()["error"] == "unknown_product"
        forgotten = client.http.delete(f"/v1/customers/{quote(odd, safe='')}").json()
        assert forgotten == {"customer_id": odd, "events_deleted": 1, "in_index": False}


def test_whole_numbers_as_ids_are_taken_by_their_digits_and_nothing_else_is(client: Client) -> None:
    assert client.send(event(1, product=31, customer_id=1228)).json()["new"] == 1  # type: ignore[arg-type]
    assert client.live.online.events_of("1228", None, _now() - dt.timedelta(days=1)) == [("click", "31", "")]
    for wrong in (1.0, True, ["1228"], {}):
        assert client.http.post("/v1/recommendations", json={"customer_id": wrong}).status_code == 422


def test_who_asks_too_often_is_told_to_wait(start: Callable[..., Client]) -> None:
    client = start(requests_per_second=0.5, burst=3)
    statuses = [client.get("/v1/trending").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert int(client.get("/v1/trending").headers["Retry-After"]) in (1, 2)
    assert client.get("/health/live").status_code == 200


def test_work_counts_and_not_requests(start: Callable[..., Client]) -> None:
    client = start(requests_per_second=0.001, burst=20)
    add_key = client.live.online.add_key
    keys = [add_key(f"pages {number}", ["read", "events"], _now(), is_public=True) for number in range(4)]

    def until_refused(key: str, ask: Callable[[], Any]) -> int:
        client.http.headers["X-API-Key"] = key
        return next(number for number in range(100) if ask().status_code == 429)

    def batch() -> Any:
        return client.send(*[event(number, customer_id=None, session_id="s") for number in range(8)])

    def click() -> Any:
        click = {"type": "click", "product_id": shop.product(len(asked))}
        asked.append(click)
        return client.http.post("/v1/recommendations", json={"events": [click]})

    asked: list[Any] = []
    assert until_refused(keys[0], lambda: client.get("/v1/trending")) == 20
    assert until_refused(keys[1], batch) == 3
    assert until_refused(keys[2], click) == 2, "rankings made anew"
    server = add_key("server", ["read", "events"], _now())
    assert until_refused(server, batch) == 11, "a tenth for the shop's own"
    client.http.headers["X-API-Key"] = keys[3]
    everything = [event(number, customer_id=None, session_id="s") for number in range(1000)]
    assert client.send(*everything).status_code == 200, "more than all at once passes"
    assert int(client.send(*everything).headers["Retry-After"]) > 900_000, "and is waited for"


def test_where_too_many_rankings_wait_only_these_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rec_assets.serving.costs.MOST_WAITING", 0)
    refused = client.http.post("/v1/recommendations", json={"events": [{"type": "click", "product_id": "p31"}]})
    assert (refused.status_code, refused.json()["error"], refused.headers["Retry-After"]) == (503, "busy", "1")
    assert client.recommend(customer_id=ANN)


def test_only_allowed_sites_may_call_from_their_pages(start: Callable[..., Client]) -> None:
    client = start(allowed_origins=("https://shop.example",))
    for origin, allowed in (("https://shop.example", "https://shop.example"), ("https://evil.example", None)):
        answer = client.http.get("/v1/trending", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_a_home_that_isn_t_there_is_made_and_says_what_to_do(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "new"))
    with TestClient(app) as http:
        ready = http.get("/health/ready")
    assert ready.status_code == 503 and set(ready.json()["missing"]) == {"index"}
    assert "rec-assets bootstrap" in ready.json()["missing"]["index"]
    assert (tmp_path / "new" / "serving" / "online.db").exists()


def test_a_proxy_that_is_not_trusted_is_said_once(
    start: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    api._say_that_a_proxy_is_unknown.cache_clear()
    client = start()
    for name in ("X-Other", *2 * ["X-Forwarded-For"]):
        assert client.http.get("/v1/trending", headers={name: "203.0.113.7"}).status_code == 200
    assert len([line for line in caplog.messages if "REC_API__TRUSTED_PROXIES" in line]) == 1


def test_a_database_that_never_answered_is_no_wrong_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "serving" / "online.db").mkdir(parents=True)
    with TestClient(create_app(Settings(home=tmp_path))) as http:
        answer = http.get("/v1/trending", headers={"X-API-Key": "rec_some"})
        missing = http.get("/health/ready").json()["missing"]
    assert (answer.status_code, answer.json()["error"]) == (503, "database")
    assert "must be writable" in missing["online_state"]
    assert any("unable to open database file" in line and "\n" not in line for line in caplog.messages)


def test_before_anything_is_published_it_says_so_and_takes_events(start: Callable[..., Client], index: Index) -> None:
    client = start(published=False)
    ready = client.get("/health/ready")
    assert ready.status_code == 503 and "serving_index" in ready.json()["missing"]["index"]
    assert client.get("/v1/trending").json()["error"] == "no_index"
    assert client.send(event(1)).json()["new"] == 1
    shop.publish(client.live.folder.root, index)
    deadline = time.monotonic() + 10
    while client.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.get("/health/ready").json()["model_version"] == 1
    assert client.get("/health/live").json()["status"] == "ok"


def test_a_new_index_is_taken_up_while_requests_go_on_and_no_answer_mixes_two(client: Client, index: Index) -> None:
    answers, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(client.get(f"/v1/customers/{ANN}/recommendations", k=3))

    asking = threading.Thread(target=ask)
    asking.start()
    for version in (2, 3, 2):
        shop.publish(client.live.folder.root, index, version)
        deadline = time.monotonic() + 10
        while client.get("/health/ready").json()["model_version"] != version and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.get("/health/ready").json()["model_version"] == version
    stop.set()
    asking.join()
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_version"] for answer in answers} >= {2, 3}


def test_an_index_that_can_t_be_read_leaves_the_one_before_and_is_tried_again(
    client: Client, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec_assets.serving.runtime._AGAIN_SECONDS", 0.0)
    broken = client.live.folder.add(9, shop.AS_OF, lambda folder: folder.mkdir())  # as of no version at all
    client.live.folder.point(broken)
    client.live.look()
    assert client.get("/v1/trending").json()["model_version"] == 1
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["missing"], ready.json()["model_version"]) == (200, {}, 1)
    assert "can't be read" in ready.json()["warnings"]["index"]
    index.save(broken.path)
    client.live.look()
    assert client.get("/v1/trending").json()["model_version"] == 9
    assert client.get("/health/ready").json()["warnings"] == {}


def test_a_database_that_does_not_answer_stops_events_and_nothing_else(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/v1/trending").status_code == 200
    online, asked = client.live.online, []

    def silent(*_: Any) -> None:
        asked.append(1)
        raise OperationalError("", {}, Exception("no answer"))

    with monkeypatch.context() as patched:
        for name in ("create", "counters", "events_of", "record"):
            patched.setattr(online, name, silent)
        for _ in range(5):
            assert client.recommend(customer_id=ANN)
            answer = client.send(event(1))
            assert (answer.status_code, answer.json()["error"]) == (503, "database")
        assert client.get("/health/ready").status_code == 503
        assert len(asked) <= 3, "nobody waits for a database that was silent a moment ago"
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert client.send(event(1)).json() == {"new": 1, "known": 0, "refused": []}


def test_a_full_disk_refuses_events_and_ready_says_so_until_there_is_room(client: Client) -> None:
    online, room = client.live.online, {"pages": 1}  # the least: SQLite makes it what the file has

    @sa.event.listens_for(online.engine, "checkout")
    def limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={room['pages']}")

    client.send({**event(0), "customer_id": None, "session_id": "s1"})
    seen = client.recommend(session_id="s1")
    large = [event(number, order_id="\U0001f484" * 512) for number in range(1, 200)]
    assert client.send(*large).json()["error"] == "database"
    for _ in range(12):  # more than a second: it stays said
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ok"), "recommendations are answered"
        assert "can't be written to" in ready.json()["warnings"]["events"]
        assert client.send(event(1)).status_code == 503
        assert client.recommend(session_id="s1") == seen, "what can be read goes on to count"
        time.sleep(0.1)
    room["pages"] = 10**6
    wait_until(lambda: not client.get("/health/ready").json()["warnings"])
    assert client.send(*large).json()["new"] == 199


def test_what_can_t_be_written_is_seen_before_an_event_is_lost(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rec_assets.serving.runtime.PROBE_SECONDS", 0.1)
    connection = client.live.online.engine.raw_connection()
    connection.cursor().execute("PRAGMA query_only=ON")
    connection.close()
    wait_until(lambda: "events" in client.get("/health/ready").json()["warnings"])
    assert client.get("/health/ready").status_code == 200 and client.recommend(customer_id=ANN)


def test_keys_that_were_never_read_are_no_wrong_keys(start: Callable[..., Client]) -> None:
    client = start()
    with client.live.online.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE keys RENAME TO hidden")
    app = create_app(Settings(home=client.home))
    app.state.live.online.create = lambda: None  # it would make an empty table
    with TestClient(app) as http:
        answer = http.get("/v1/trending", headers={"X-API-Key": client.http.headers["X-API-Key"]})
        ready = http.get("/health/ready")
        assert (answer.status_code, answer.json()["error"]) == (503, "database"), "counters alone are no keys"
        assert ready.status_code == 503 and set(ready.json()["missing"]) == {"online_state"}
        with client.live.online.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS keys")
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO keys")
        wait_until(lambda: http.get("/health/ready").status_code == 200)
        headers = {"X-API-Key": client.http.headers["X-API-Key"]}
        assert http.get("/v1/trending", headers=headers).status_code == 200


def test_a_database_that_comes_back_empty_is_made_again(start: Callable[..., Client], url: str) -> None:
    client = start(database_url=url)
    with client.live.online.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE events")
    assert client.send(event(1)).status_code == 503
    wait_until(lambda: client.send(event(1)).status_code == 200)


def test_neither_logs_nor_metrics_name_a_customer(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        client.get("/v1/customers/very-secret-id/recommendations")
        client.get("/v1/customers/very-secret-id/nothing")
        client.send(event(1, customer_id="very-secret-id"))
        client.http.delete("/v1/customers/very-secret-id")
    metrics = client.get("/metrics").text
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert any("/v1/events 200" in line for line in ours)
    assert "very-secret-id" not in metrics + " ".join(ours)
    assert 'rec_assets_answers_total{answered_by="popular"} 1.0' in metrics
    assert "rec_assets_model_version 1.0" in metrics


def test_a_flood_of_refused_requests_does_not_flood_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
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


def test_an_error_of_ours_is_a_problem_that_tells_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.live, "kept", lambda: 1 / 0)
    answer = client.get("/v1/trending")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal") and "division" not in answer.text


def test_what_was_given_back_was_not_bought() -> None:
    weights = {"click": 0.1, "cart": 0.0, "purchase": 1.0}
    done = [("purchase", "a", "1"), ("click", "a", "2"), ("return", "a", "3"), ("cart", "b", "3"), ("return", "b", "3")]
    assert signals_of(done, weights) == (Signal("a", 0.1, "2"),)


def test_a_visit_s_interest_in_a_product_counts_once_with_its_strongest_sign() -> None:
    weights = {"click": 0.1, "cart": 0.3, "purchase": 1.0}
    done = [("click", "a", "1"), ("cart", "a", "1"), ("click", "b", "1"), ("click", "a", "1"), ("click", "a", "2")]
    assert signals_of(done, weights) == (Signal("b", 0.1, "1"), Signal("a", 0.3, "1"), Signal("a", 0.1, "2"))
    twice = [("purchase", "a", "1"), ("purchase", "a", "1")]
    assert len(signals_of(twice, weights)) == 2, "two pieces are two purchases"


def test_nothing_that_the_schema_allows_breaks_the_server(client: Client) -> None:
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    headers = {"X-API-Key": client.http.headers["X-API-Key"]}
    broken = []
    for operation in schema.get_all_operations():
        cases = operation.ok().as_strategy()
        for case in _examples(cases, 60):
            answer = client.http.request(**_request(case, headers))
            if answer.status_code >= 500 and answer.status_code != 503:
                broken.append((case.method, case.formatted_path, answer.text))
    assert not broken


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
