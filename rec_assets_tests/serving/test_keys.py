"""API keys, customer tokens, rate limits and origins."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from rec_assets.serving.http import dependencies
from rec_assets.serving.http.security import RequestRejected, check_customer_token, customer_token
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_client import ANN, Client, event, now

pytestmark = pytest.mark.integration


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
        "expired": lambda: online.add_key("old", ["read"], now(), expires=now() - dt.timedelta(seconds=1)),
        "events": lambda: online.add_key("shop", ["events"], now()),
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
    headers["X-API-Key"] = client.runtime.online.add_key("pages", ["read", "events"], now(), is_public=True)
    hour = dt.timedelta(hours=1)
    tokens = {
        "": "missing_token",
        "nonsense": "invalid_token",
        customer_token(secret, "c01", now() + hour): "invalid_token",
        customer_token("another secret, as long as the shop's", ANN, now() + hour): "invalid_token",
        customer_token(secret, ANN, now() - hour): "expired_token",
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
    headers["X-Customer-Token"] = customer_token(secret, ANN, now() + hour)
    for call in calls:
        assert call().status_code == 200
    del headers["X-Customer-Token"]
    assert client.recommend(session_id="s"), "a visitor needs no token"
    assert client.http.post("/v1/recommendations", json={"customer_id": "c01"}).status_code == 403


@pytest.mark.parametrize("token", ["²." + 64 * "0", "1.é", "9" * 40 + ".", ".", "-1.a"])
def test_a_malformed_token_is_rejected(token: str) -> None:
    with pytest.raises(RequestRejected, match="not signed for this customer"):
        check_customer_token("a secret of the shop's own servers", ANN, token, now())


def test_without_a_customer_secret_no_token_is_valid(client: Client) -> None:
    key = client.runtime.online.add_key("pages", ["read"], now(), is_public=True)
    client.http.headers.update({"X-API-Key": key, "X-Customer-Token": customer_token("", ANN, now())})
    assert client.get(f"/v1/customers/{ANN}/recommendations").json()["error"] == "missing_token"
    assert client.recommend()


def test_a_revoked_key_is_rejected_at_once(client: Client) -> None:
    assert client.get("/v1/trending").status_code == 200
    client.runtime.online.revoke_key("test")
    assert client.get("/v1/trending").status_code == 401


def test_the_rate_limit_says_how_long_to_wait(start: Callable[..., Client]) -> None:
    client = start(requests_per_second=0.5, burst=3)
    statuses = [client.get("/v1/trending").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert int(client.get("/v1/trending").headers["Retry-After"]) in (1, 2)
    assert client.get("/health/live").status_code == 200


def test_the_rate_limit_counts_costs(start: Callable[..., Client]) -> None:
    client = start(requests_per_second=0.001, burst=20)
    add_key = client.runtime.online.add_key
    keys = [add_key(f"pages {number}", ["read", "events"], now(), is_public=True) for number in range(4)]

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
    server = add_key("server", ["read", "events"], now())
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


def test_an_unknown_proxy_is_logged_once(start: Callable[..., Client], caplog: pytest.LogCaptureFixture) -> None:
    dependencies.warn_of_unknown_proxy.cache_clear()
    client = start()
    for name in ("X-Other", *2 * ["X-Forwarded-For"]):
        assert client.http.get("/v1/trending", headers={name: "203.0.113.7"}).status_code == 200
    assert len([line for line in caplog.messages if "REC_API__TRUSTED_PROXIES" in line]) == 1
