"""Recommendations of the API: lists, events, availability, related products, forgotten customers."""

import datetime as dt

import pytest

from rec_assets.serving.index_files.index import Index
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_client import ANN, Client, event, now

pytestmark = pytest.mark.integration


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
    pricier = client.get("/v1/products/p03/upsell", k=5).json()["items"]
    assert all(1.3 * 1.05 <= item["price"] <= 1.3 * 2 for item in pricier) and pricier
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
    again = client.send(event(1, time=(now() - dt.timedelta(seconds=60)).isoformat()), event(3, product="p05"))
    assert again.json()["new"] == 1, "an event from before, sent again by a client that got no response"
    assert "asked to be forgotten after that time" in again.json()["rejected"][0]["message"]
    client.send(event(2))
    assert client.get(f"/v1/customers/{ANN}/recommendations").json()["answered_by"] == "session", "new events count"
    assert client.http.delete("/v1/customers/c01%2F").json()["customer_id"] == "c01/", "another id"
    assert client.get("/v1/customers/c01/recommendations").json()["answered_by"] == "customer"
