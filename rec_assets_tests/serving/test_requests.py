"""What the API accepts and rejects: bodies, addresses, ids and headers."""

import datetime as dt
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from starlette.routing import compile_path

from rec_assets_tests.serving.api_client import ANN, Client, event, now

pytestmark = pytest.mark.integration


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
    assert client.runtime.online.recent_events("1228", None, now() - dt.timedelta(days=1)) == [("click", "31", "")]
    for invalid in (1.0, True, ["1228"], {}):
        assert client.http.post("/v1/recommendations", json={"customer_id": invalid}).status_code == 422


def test_an_internal_error_reveals_no_details(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.runtime.database_guard, "snapshot", lambda: 1 / 0)
    response = client.get("/v1/trending")
    assert (response.status_code, response.json()["error"]) == (
        500,
        "internal_error",
    ) and "division" not in response.text


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
