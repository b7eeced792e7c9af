"""Limits on what one caller can use: memory, work and waiting time of others."""

import asyncio
import gc
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS
from rec_assets.serving.caching import BoundedCache
from rec_assets.serving.engine import Engine, RankingNeeded
from rec_assets.serving.http import schemas
from rec_assets.serving.http.ranking_queue import RankingQueue
from rec_assets.serving.http.rate_limit import RateLimit, caller_name
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.recommendation import RecommendationRequest
from rec_assets.serving.recommender import Signal
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_client import Client

NONE: frozenset[str] = frozenset()


@pytest.fixture
def engine(tmp_path: Path, index: Index) -> Engine:
    return Engine(shop.publish(tmp_path, index), EMPTY_RULE_SETS)


def test_a_cache_keeps_the_last_used_entries_up_to_its_size() -> None:
    cache = BoundedCache[str, bytes](10_000, lambda _, value: len(value))
    for number in range(100):
        cache.put(str(number), b"x" * 500)
        cache.get("0")
    assert cache.bytes <= 10_000 and 5 < len(cache._entries) < 20
    assert cache.get("0") and cache.get("99") and cache.get("1") is None
    assert cache.put("large", b"x" * 5000) == b"x" * 5000 and cache.get("large") is None
    cache.put("0", b"")
    cache.put("0", b"x" * 700)
    assert cache.bytes == sum(len(value) + 200 for value, _ in cache._entries.values())


@pytest.mark.integration
def test_caches_keep_no_strings_of_callers(engine: Engine) -> None:
    def made_up() -> str:
        return "".join(random.choices("abcdef", k=512))

    engine.respond(RecommendationRequest(), NONE)
    responses, rankings = engine._cached_responder.responses._entries, engine._rankings._entries
    sizes = len(responses), len(rankings)
    for _ in range(50):
        request = RecommendationRequest(
            customer_id=made_up(),
            signals=tuple(Signal(made_up(), 0.1, made_up()) for _ in range(100)),
            categories=frozenset(made_up() for _ in range(50)),
            exclude=frozenset(made_up() for _ in range(500)),
            fallback_category=made_up(),
        )
        assert engine.respond(request, NONE).items == []
    assert (len(responses), len(rankings)) == (sizes[0] + 1, sizes[1]), "all of them normalize to one request"
    known = frozenset("".join(["p", "0", str(number)]) for number in range(9))
    engine.respond(RecommendationRequest(exclude=known | {made_up()}, signals=(Signal("p31", 0.1, made_up()),)), NONE)
    (request,) = [request for request in engine._cached_responder.responses._entries if request.exclude]
    ids = engine.recommender.snapshot.product_ids
    assert request.exclude == known and all(any(each is own for own in ids) for each in request.exclude)
    assert [signal.visit for signal in request.signals] == ["0"]


def test_many_different_requests_stay_within_the_size_of_the_caches(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec_assets.serving.engine._RESPONSES", 200_000)
    monkeypatch.setattr("rec_assets.serving.engine._RANKINGS", 200_000)
    engine = Engine(shop.publish(tmp_path, index), EMPTY_RULE_SETS)
    rng = random.Random(1)
    for _ in range(100):
        signals = tuple(Signal(shop.product(rng.randrange(shop.PRODUCTS)), 0.1, "v") for _ in range(5))
        engine.respond(RecommendationRequest(k=20, signals=signals), NONE)
    assert 0 < engine._cached_responder.responses.bytes <= 200_000
    assert 0 < engine._rankings.bytes <= 200_000


def test_unknown_ids_and_names_change_no_response(engine: Engine) -> None:
    for request, with_unknown in (
        (
            RecommendationRequest(customer_id="c00"),
            RecommendationRequest(customer_id="c00", exclude=frozenset({"no such"})),
        ),
        (
            RecommendationRequest(customer_id="c00"),
            RecommendationRequest(customer_id="c00", signals=(Signal("no such", 1.0, "v"),)),
        ),
        (RecommendationRequest(), RecommendationRequest(fallback_category="no such")),
        (
            RecommendationRequest(categories=frozenset({"tea"})),
            RecommendationRequest(categories=frozenset({"tea", "no such"})),
        ),
    ):
        assert engine.respond(request, NONE) == engine.respond(with_unknown, NONE)


def test_a_change_of_availability_changes_cached_responses(engine: Engine) -> None:
    first = engine.respond(RecommendationRequest(customer_id="c00"), NONE).items[0].product_id
    unavailable = frozenset({first})
    assert first not in [
        item.product_id for item in engine.respond(RecommendationRequest(customer_id="c00"), unavailable).items
    ]
    assert engine.respond(RecommendationRequest(customer_id="c00"), NONE).items[0].product_id == first


def test_cached_only_responses_come_without_a_ranking(engine: Engine) -> None:
    click = RecommendationRequest(signals=(Signal("p31", 0.1, "v"),))
    for request in (
        click,
        RecommendationRequest(customer_id="c00", signals=click.signals),
        RecommendationRequest(customer_id="c00", diversity=0.5),
    ):
        with pytest.raises(RankingNeeded):
            engine.respond(request, NONE, cached_only=True)
    assert engine.respond(RecommendationRequest(customer_id="c00"), NONE, cached_only=True).answered_by == "customer"
    assert engine.respond(RecommendationRequest(), NONE, cached_only=True).answered_by == "popular"
    assert engine.respond(click, NONE) is engine.respond(click, NONE, cached_only=True), "cached"


def test_a_stored_list_request_waits_for_at_most_one_ranking() -> None:
    done: list[str] = []

    async def read_stored_list() -> None:
        for _ in range(5):  # rounds of the event loop from socket to response
            await asyncio.sleep(0)
        done.append("stored list")

    async def send_all() -> None:
        queue = RankingQueue()
        rankings = [queue.run(lambda: done.append("ranking")) for _ in range(8)]
        await asyncio.gather(*rankings, read_stored_list())

    asyncio.run(send_all())
    assert done.count("ranking") == 8 and done.index("stored list") <= 1


def test_a_cost_above_the_balance_passes_once_and_leaves_a_debt() -> None:
    limit = RateLimit(per_second=10, burst=20)
    assert limit.take("a", 0.0) == 0
    assert limit.take("a", 0.0, cost=1000, min_balance=0) == 0, "a batch larger than the burst"
    assert limit.take("a", 0.0, cost=1, min_balance=0) == pytest.approx(98.1)
    assert limit.take("a", 0.0) == pytest.approx(98.2)
    assert limit.take("a", 98.3) == 0
    assert limit.take("b", 0.0) == 0, "another caller has its own balance"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("x" * 10_000, "x" * 20_000, True),
    ],
)
def test_a_caller_is_a_key_at_an_address(one: str, other: str, same: bool) -> None:
    assert (caller_name("k", one) == caller_name("k", other)) is same
    assert caller_name("k", one) != caller_name("l", one) and len(caller_name("k", one)) < 100


def test_thousands_of_unknown_fields_are_one_error() -> None:
    with pytest.raises(ValidationError) as found:
        schemas.RecommendationBody.model_validate({f"x{number}": 1 for number in range(10_000)})
    assert found.value.error_count() == 1 and "10000 fields" in str(found.value)


@pytest.mark.integration
def test_the_garbage_collector_leaves_out_what_exists_when_a_worker_starts(start: Callable[..., Client]) -> None:
    start()
    assert gc.get_freeze_count() > 10_000
