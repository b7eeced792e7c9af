"""Responses to recommendation requests."""

from dataclasses import replace

import numpy as np
import pytest

from rec_assets.recsys.ranking.lists import ALL, DISCOVER
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.recommendation import BUY_AGAIN, RecommendationRequest, RecommendationResponse
from rec_assets.serving.recommender import Recommender, Signal, build_signals
from rec_assets.serving.responder import Responder
from rec_assets_tests.serving import shop

ANN = "c00"
"""Buys tea: p00, p03, p06 …"""


@pytest.fixture(scope="module")
def responder(index: Index) -> Responder:
    return Responder(Recommender(index))


@pytest.fixture(scope="module")
def ranking(index: Index) -> Responder:
    """A responder that ranks for every request."""
    return Responder(Recommender(shop.without_lists(index)))


def ask(responder: Responder, unavailable: frozenset[str] = frozenset(), **request: object) -> RecommendationResponse:
    available = responder.available(unavailable)
    return responder.build_response(RecommendationRequest(**request), available, np.random.default_rng(1))  # type: ignore[arg-type]


def ids(response: RecommendationResponse) -> list[str]:
    return [item.product_id for item in response.items]


def bought_by(customer: str) -> set[str]:
    lines = shop.histories()
    return set(lines.loc[lines["customer_id"] == customer, "product_id"])


def test_stored_lists_and_new_rankings_agree(responder: Responder, ranking: Responder, index: Index) -> None:
    made = shop.lists(index.snapshot, index.ranker)
    for customer in index.histories.customers:
        for mode in (ALL, DISCOVER):
            batch = made[(made["customer_id"] == customer.decode()) & (made["list"] == mode)].head(10)
            for one in (responder, ranking):
                response = ask(one, customer_id=customer.decode(), mode=mode)
                assert ids(response) == batch["product_id"].to_list()
                assert [(item.source, item.reason) for item in response.items] == list(
                    zip(batch["source"], batch["reason"], strict=True)
                )
                assert [item.score for item in response.items] == pytest.approx(batch["score"].to_list())
                assert response.answered_by == "customer"


@pytest.mark.parametrize("which", ["responder", "ranking"])
def test_modes_depend_on_purchases(which: str, request: pytest.FixtureRequest) -> None:
    one: Responder = request.getfixturevalue(which)
    assert not bought_by(ANN) & set(ids(ask(one, customer_id=ANN, mode=DISCOVER)))
    again = ids(ask(one, customer_id=ANN, mode=BUY_AGAIN, k=40))
    assert set(again) == bought_by(ANN)
    assert ask(one, customer_id="nobody", mode=BUY_AGAIN).items == []


@pytest.mark.parametrize("which", ["responder", "ranking"])
def test_filters_apply_to_every_item_and_the_list_stays_full(which: str, request: pytest.FixtureRequest) -> None:
    one: Responder = request.getfixturevalue(which)
    first = ids(ask(one, customer_id=ANN))[0]
    request = {
        "categories": frozenset({"china", "bath"}),
        "price_min": 2.0,
        "price_max": 5.0,
        "exclude": frozenset({"p10"}),
    }
    for customer in (ANN, "nobody"):
        response = ask(one, customer_id=customer, **request)
        assert len(response.items) == 10
        for item in response.items:
            assert item.category in ("china", "bath") and item.price is not None and 2 <= item.price <= 5
        assert "p10" not in ids(response) and len(set(ids(response))) == 10
    assert first not in ids(ask(one, frozenset({first}), customer_id=ANN))
    assert ask(one, customer_id=ANN, categories=frozenset({"no such"})).items == []


def test_a_stored_list_that_filters_make_too_short_is_ranked_again(responder: Responder, ranking: Responder) -> None:
    request = {"customer_id": ANN, "categories": frozenset({"bath"}), "k": 10}
    assert ids(ask(responder, **request)) == ids(ask(ranking, **request))


def test_signals_change_the_response(responder: Responder) -> None:
    clicked = "p31"  # china, which Ann never bought
    scores = [
        {item.product_id: item.score for item in ask(responder, customer_id=ANN, k=60, signals=signals).items}
        for signals in ((), (Signal(clicked, 0.3, "now"),))
    ]
    assert scores[1][clicked] > scores[0][clicked]
    bought = ask(responder, customer_id=ANN, k=60, signals=(Signal(clicked, 1.0, "o1"),), mode=DISCOVER)
    assert clicked not in ids(bought)
    again = ask(responder, customer_id=ANN, k=60, signals=(Signal(clicked, 1.0, "o1"),), mode=BUY_AGAIN)
    assert clicked in ids(again)


def test_an_unknown_customer_gets_session_then_category_then_best_sellers(responder: Responder) -> None:
    session = ask(responder, signals=(Signal("p01", 0.1, "s"),))
    assert session.answered_by == "session"
    assert ask(responder, signals=(Signal("no such", 0.1, "s"),)).answered_by == "popular"
    of_category = ask(responder, customer_id="nobody", fallback_category="bath")
    assert of_category.answered_by == "popular_in_category"
    assert {item.category for item in of_category.items} == {"bath"}
    assert of_category.items[0].reason == "popular in bath" and of_category.items[0].source == "best_sellers"
    popular = ask(responder)
    assert (popular.answered_by, ids(popular)[:2]) == ("popular", ["p00", "p01"])
    filled = ask(responder, fallback_category="bath", k=40)
    assert [item.category for item in filled.items[:20]] == ["bath"] * 20, "the category first, then all products"
    assert len(set(ids(filled))) == 40


def test_diversity_mixes_categories(ranking: Responder) -> None:
    def categories(**request: object) -> list[str]:
        return [item.category for item in ask(ranking, customer_id=ANN, k=12, **request).items]

    assert len(set(categories(diversity=0.9))) > len(set(categories()))
    assert ids(ask(ranking, customer_id=ANN, diversity=0.9))[0] == ids(ask(ranking, customer_id=ANN))[0]


def test_exploration_randomizes_the_order(responder: Responder) -> None:
    available = responder.available(frozenset())
    request = RecommendationRequest(customer_id=ANN, k=5)
    rng = np.random.default_rng(3)
    fixed = {tuple(ids(responder.build_response(request, available, rng))) for _ in range(5)}
    varied = {tuple(ids(responder.build_response(replace(request, exploration=1.0), available, rng))) for _ in range(5)}
    assert len(fixed) == 1 and len(varied) > 1


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
