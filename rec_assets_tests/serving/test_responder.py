"""What a shopper is shown."""

from dataclasses import replace

import numpy as np
import pytest

from rec_assets.recsys.ranking.hybrid import ALL, DISCOVER
from rec_assets.serving.index import Index
from rec_assets.serving.recommender import Recommender, Signal
from rec_assets.serving.responder import BUY_AGAIN, RecommendationRequest, RecommendationResponse, Responder
from rec_assets_tests.serving import shop

ANN = "c00"
"""Buys tea: p00, p03, p06 …"""


@pytest.fixture(scope="module")
def answerer(index: Index) -> Responder:
    return Responder(Recommender(index))


@pytest.fixture(scope="module")
def live(index: Index) -> Responder:
    """One that works out every answer."""
    return Responder(Recommender(shop.without_lists(index)))


def ask(answerer: Responder, out_of_stock: frozenset[str] = frozenset(), **wish: object) -> RecommendationResponse:
    return answerer.answer(RecommendationRequest(**wish), answerer.available(out_of_stock), np.random.default_rng(1))  # type: ignore[arg-type]


def ids(answer: RecommendationResponse) -> list[str]:
    return [entry.product_id for entry in answer.entries]


def bought_by(customer: str) -> set[str]:
    lines = shop.histories()
    return set(lines.loc[lines["customer_id"] == customer, "product_id"])


def test_the_batch_and_a_ranking_made_now_agree(answerer: Responder, live: Responder, index: Index) -> None:
    made = shop.lists(index.state, index.ranker)
    for customer in index.histories.customers:
        for mode in (ALL, DISCOVER):
            batch = made[(made["customer_id"] == customer.decode()) & (made["list"] == mode)].head(10)
            for one in (answerer, live):
                answer = ask(one, customer_id=customer.decode(), mode=mode)
                assert ids(answer) == batch["product_id"].to_list()
                assert [(entry.source, entry.reason) for entry in answer.entries] == list(
                    zip(batch["source"], batch["reason"], strict=True)
                )
                assert [entry.score for entry in answer.entries] == pytest.approx(batch["score"].to_list())
                assert answer.answered_by == "customer"


@pytest.mark.parametrize("which", ["answerer", "live"])
def test_modes_tell_what_was_bought(which: str, request: pytest.FixtureRequest) -> None:
    one: Responder = request.getfixturevalue(which)
    assert not bought_by(ANN) & set(ids(ask(one, customer_id=ANN, mode=DISCOVER)))
    again = ids(ask(one, customer_id=ANN, mode=BUY_AGAIN, k=40))
    assert set(again) == bought_by(ANN)
    assert ask(one, customer_id="nobody", mode=BUY_AGAIN).entries == []


@pytest.mark.parametrize("which", ["answerer", "live"])
def test_filters_hold_for_every_entry_and_leave_enough(which: str, request: pytest.FixtureRequest) -> None:
    one: Responder = request.getfixturevalue(which)
    first = ids(ask(one, customer_id=ANN))[0]
    wish = {
        "categories": frozenset({"china", "bath"}),
        "price_min": 2.0,
        "price_max": 5.0,
        "exclude": frozenset({"p10"}),
    }
    for customer in (ANN, "nobody"):
        answer = ask(one, customer_id=customer, **wish)
        assert len(answer.entries) == 10
        for entry in answer.entries:
            assert entry.category in ("china", "bath") and entry.price is not None and 2 <= entry.price <= 5
        assert "p10" not in ids(answer) and len(set(ids(answer))) == 10
    assert first not in ids(ask(one, frozenset({first}), customer_id=ANN))
    assert ask(one, customer_id=ANN, categories=frozenset({"no such"})).entries == []


def test_a_list_that_filters_use_up_is_made_anew(answerer: Responder, live: Responder) -> None:
    wish = {"customer_id": ANN, "categories": frozenset({"bath"}), "k": 10}
    assert ids(ask(answerer, **wish)) == ids(ask(live, **wish))


def test_what_was_just_done_changes_the_answer(answerer: Responder) -> None:
    clicked = "p31"  # china, which Ann never bought
    scores = [
        {entry.product_id: entry.score for entry in ask(answerer, customer_id=ANN, k=60, signals=done).entries}
        for done in ((), (Signal(clicked, 0.3, "now"),))
    ]
    assert scores[1][clicked] > scores[0][clicked]
    bought = ask(answerer, customer_id=ANN, k=60, signals=(Signal(clicked, 1.0, "o1"),), mode=DISCOVER)
    assert clicked not in ids(bought)
    again = ask(answerer, customer_id=ANN, k=60, signals=(Signal(clicked, 1.0, "o1"),), mode=BUY_AGAIN)
    assert clicked in ids(again)


def test_someone_unknown_is_answered_by_session_then_segment_then_best_sellers(answerer: Responder) -> None:
    session = ask(answerer, signals=(Signal("p01", 0.1, "s"),))
    assert session.answered_by == "session"
    assert ask(answerer, signals=(Signal("no such", 0.1, "s"),)).answered_by == "popular"
    segment = ask(answerer, customer_id="nobody", segment="bath")
    assert segment.answered_by == "segment"
    assert {entry.category for entry in segment.entries} == {"bath"}
    assert segment.entries[0].reason == "popular in bath" and segment.entries[0].source == "segment"
    popular = ask(answerer)
    assert (popular.answered_by, ids(popular)[:2]) == ("popular", ["p00", "p01"])
    filled = ask(answerer, segment="bath", k=40)
    assert [entry.category for entry in filled.entries[:20]] == ["bath"] * 20, "its segment first, then all"
    assert len(set(ids(filled))) == 40


def test_diversity_mixes_what_is_alike(live: Responder) -> None:
    def categories(**wish: object) -> list[str]:
        return [entry.category for entry in ask(live, customer_id=ANN, k=12, **wish).entries]

    assert len(set(categories(diversity=0.9))) > len(set(categories()))
    assert ids(ask(live, customer_id=ANN, diversity=0.9))[0] == ids(ask(live, customer_id=ANN))[0]


def test_exploration_lets_chance_have_a_say(answerer: Responder) -> None:
    available = answerer.available(frozenset())
    wish = RecommendationRequest(customer_id=ANN, k=5)
    rng = np.random.default_rng(3)
    fixed = {tuple(ids(answerer.answer(wish, available, rng))) for _ in range(5)}
    varied = {tuple(ids(answerer.answer(replace(wish, exploration=1.0), available, rng))) for _ in range(5)}
    assert len(fixed) == 1 and len(varied) > 1
