"""What the catalog says of products in answers and filters: pictures, links, attributes, variants, stock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rec_assets.recsys.data.attributes import Range
from rec_assets.recsys.events import DISMISSED
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.recommendation import RecommendationRequest
from rec_assets.serving.recommender import Recommender, Signal, build_signals
from rec_assets.serving.responder import Responder
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_client import ANN, Client, event

pytestmark = pytest.mark.integration


def items(client: Client, **body: Any) -> list[dict[str, Any]]:
    response = client.http.post("/v1/recommendations", json={"k": 20, **body})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["items"]
    return found


def number(item: dict[str, Any]) -> int:
    return int(item["product_id"][1:])


def test_answers_have_pictures_links_brands_and_the_attributes_that_shoppers_may_see(client: Client) -> None:
    for item in items(client, customer_id=ANN):
        odd = number(item) % 2
        if item["variant_id"] is None:
            assert item["image"] == (f"/images/{item['product_id']}.jpg" if odd else None)
            assert item["attributes"] == {"color": "red" if odd else "blue"}
        assert item["link"] == "https://shop.example/" and item["brand"] == "Own"


def test_filters_on_attributes_and_brands(client: Client) -> None:
    red = items(client, customer_id=ANN, filters={"attributes": {"color": ["red"]}})
    assert len(red) == 20 and all(number(item) % 2 for item in red)
    cheap = items(client, customer_id=ANN, filters={"attributes": {"color": ["red"], "margin": {"lt": 0.1}}})
    assert {number(item) for item in cheap} == {1, 3, 5, 7, 9}
    assert items(client, customer_id=ANN, filters={"brands": ["Other"]}) == []
    assert items(client, customer_id=ANN, filters={"attributes": {"color": ["green"]}}) == []
    by_url = client.get(f"/v1/customers/{ANN}/recommendations", k=20, attributes='{"color": ["red"]}', brand="Own")
    assert by_url.json()["items"] == red


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"fabric": ["wool"]}, "there is no attribute fabric; there are color, size"),
        ({"color": {"gt": 3}}, "color is no number"),
        ({"margin": ["high"]}, "margin is a number"),
        ({"margin": {}}, "set one of gt, gte, lt, lte"),
        ({"margin": {"gte": "2024-02"}}, "gte"),
        ({"color": []}, "color"),
        ({"color": "red"}, "color"),
    ],
)
def test_a_filter_that_makes_no_sense_is_an_error(client: Client, attributes: dict[str, Any], message: str) -> None:
    response = client.http.post("/v1/recommendations", json={"filters": {"attributes": attributes}})
    assert response.status_code == 422 and message in response.text
    by_url = client.get(f"/v1/customers/{ANN}/recommendations", attributes="{color: red}")
    assert by_url.status_code == 422


def test_the_variant_is_in_the_customers_size(client: Client) -> None:
    for customer, size in ((shop.LARGE, "L"), ("c04", "M"), (ANN, "M")):
        china = items(client, customer_id=customer, filters={"categories": ["china"]}, k=10)
        assert [item["variant_id"] for item in china] == [f"{item['product_id']}-{size}" for item in china]
        assert {item["attributes"]["size"] for item in china} == {size}
    large = items(client, customer_id=shop.LARGE, filters={"categories": ["china"]}, k=1)[0]
    assert large["price"] == pytest.approx(2 + number(large) / 10) and large["image"] == "/images/L.jpg"


def test_a_filter_on_the_size_chooses_the_variant(client: Client) -> None:
    large = items(client, customer_id="c04", filters={"attributes": {"size": ["L"]}})
    assert len(large) == 20 and all(item["variant_id"].endswith("-L") for item in large)
    cheap = items(client, customer_id="c04", filters={"attributes": {"size": ["L"]}, "price_max": 2.15})
    assert [item["product_id"] for item in cheap] == [item["product_id"] for item in large if item["price"] <= 2.15]
    assert cheap


def test_a_variant_that_is_unavailable_is_replaced_and_a_product_without_any_is_not_shown(client: Client) -> None:
    first = items(client, customer_id=shop.LARGE, filters={"categories": ["china"]}, k=1)[0]["product_id"]

    def variant() -> str | None:
        found = items(client, customer_id=shop.LARGE, filters={"categories": ["china"]}, k=20)
        return next((item["variant_id"] for item in found if item["product_id"] == first), None)

    for name, expected in ((f"{first}-L", f"{first}-M"), (f"{first}-M", None)):
        response = client.http.put(f"/v1/products/{name}/availability", json={"available": False})
        assert response.json()["in_catalog"] is True and variant() == expected
    client.http.put(f"/v1/products/{first}-L/availability", json={"available": True})
    assert variant() == f"{first}-L"
    client.http.put(f"/v1/products/{first}/availability", json={"available": False})
    assert variant() is None


def test_what_the_catalog_has_not_in_stock_is_not_shown(index: Index) -> None:
    for request in (RecommendationRequest(k=60, customer_id=ANN), RecommendationRequest(k=60)):
        engine = Responder(Recommender(index))
        first = engine.build_response(request, engine.available(frozenset()), np.random.default_rng(1)).items[0]
        in_stock = index.snapshot.product_ids != first.product_id
        sold_out = replace(index, snapshot=replace(index.snapshot, in_stock=in_stock))
        engine = Responder(Recommender(sold_out))
        found = engine.build_response(request, engine.available(frozenset()), np.random.default_rng(1)).items
        assert len(found) == 59 and first.product_id not in [item.product_id for item in found]


@pytest.mark.parametrize(
    "filters",
    [
        {"attributes": (("color", ("red",)),)},
        {"attributes": (("margin", Range(gte=0.2)), ("color", ("red", "blue")))},
        {"attributes": (("size", ("L",)),)},
        {"brands": frozenset({"Own"}), "price_max": 4.0},
    ],
)
def test_stored_lists_and_new_rankings_agree_under_filters(index: Index, filters: dict[str, Any]) -> None:
    stored, ranking = (Responder(Recommender(each)) for each in (index, shop.without_lists(index)))
    for customer in (ANN, shop.LARGE, "c02"):
        for k in (3, 20):
            request = RecommendationRequest(k=k, customer_id=customer, **filters)
            one, other = (
                each.build_response(request, each.available(frozenset()), np.random.default_rng(1)).items
                for each in (stored, ranking)
            )
            assert [(item.product_id, item.variant_id) for item in one] == [
                (item.product_id, item.variant_id) for item in other
            ]
            assert len(one) == k


def test_events_and_exclusions_can_name_variants(client: Client) -> None:
    by_product = client.recommend(events=[{"type": "click", "product_id": "p31"}])
    assert client.recommend(events=[{"type": "click", "product_id": "p31-L"}]) == by_product
    assert by_product[0] not in client.recommend(exclude=[f"{by_product[0]}-M", by_product[0]])
    similar = client.get("/v1/products/p31-L/similar", k=5).json()["items"]
    assert similar == client.get("/v1/products/p31/similar", k=5).json()["items"]
    assert all(item["variant_id"].endswith("-M") for item in similar)


def test_a_dismissed_product_disappears_until_it_is_bought(client: Client) -> None:
    first = client.recommend(customer_id=ANN, k=5)[0]
    client.send(event(1, "dismissal", first))
    for mode in ("all", "discover", "buy_again"):
        assert first not in client.recommend(customer_id=ANN, k=60, mode=mode)
    assert first in client.recommend(customer_id="c03", k=60)
    client.send(event(2, "purchase", first, order_id="o1"))
    assert first in client.recommend(customer_id=ANN, k=60)


def test_a_product_bought_on_the_as_of_day_can_be_dismissed_today(client: Client, index: Index) -> None:
    histories = index.histories
    row = histories.rows_of(ANN)
    assert row is not None
    product = str(index.snapshot.product_ids[histories.product[row][0]])
    today = replace(histories, age=np.where(np.arange(len(histories.age)) == row.start, 0, histories.age))
    recommender = Recommender(replace(index, histories=today))
    assert recommender.dismissed(ANN, [Signal(product, DISMISSED, "")]).tolist() == [histories.product[row][0]]
    assert (
        client.recommend(customer_id=ANN, events=[{"type": "dismissal", "product_id": product}], k=60).count(product)
        == 0
    )


def test_events_of_variants_count_for_their_product(index: Index) -> None:
    weights = {"view": 0.1, "cart": 0.3}
    events = [("view", "p01-M", "s"), ("view", "p01-L", "s"), ("cart", "p01-M", "s"), ("removal", "p01-L", "s")]
    signals = build_signals(Recommender(index).name_products(events), weights)
    assert [(each.product_id, each.weight) for each in signals] == [("p01", 0.1)]


def test_hidden_attributes_are_unknown_to_public_keys(client: Client, index: Index) -> None:
    attributes, condition = index.snapshot.attributes, [("margin", Range(gte=0.1))]
    assert attributes.problems(condition) == []
    assert attributes.problems(condition, public=True) == ["there is no attribute margin; there are color, size"]


def test_a_visitor_can_dismiss_best_sellers(client: Client) -> None:
    first = client.recommend(k=5)[0]
    assert first not in client.recommend(k=60, events=[{"type": "dismissal", "product_id": first}])


def test_a_removal_takes_the_product_out_of_the_cart_and_a_view_stays(client: Client) -> None:
    def after(*kinds: str) -> list[str]:
        return client.recommend(events=[{"type": kind, "product_id": "p31"} for kind in kinds])

    unknown = client.recommend()
    assert after("cart") != unknown and after("cart", "removal") == unknown
    assert after("view", "cart", "removal") == after("view") != unknown
    assert after("cart", "removal", "cart") == after("cart")
