"""What one caller can take of the API: memory, work and the others' time."""

import asyncio
import random
from pathlib import Path

import pytest
from pydantic import ValidationError

from rec_assets.recsys.rules.spec import NO_RULES
from rec_assets.serving import schemas
from rec_assets.serving.caching import BoundedCache
from rec_assets.serving.costs import RankingQueue
from rec_assets.serving.engine import Engine, RankingNeeded
from rec_assets.serving.index import Index
from rec_assets.serving.recommender import Signal
from rec_assets.serving.responder import RecommendationRequest
from rec_assets.serving.security import RateLimit, caller_name
from rec_assets_tests.serving import shop

NONE: frozenset[str] = frozenset()


@pytest.fixture
def engine(tmp_path: Path, index: Index) -> Engine:
    return Engine(shop.publish(tmp_path, index), NO_RULES)


def test_a_cache_keeps_what_was_used_last_up_to_its_bytes() -> None:
    cache = BoundedCache[str, bytes](10_000, lambda _, value: len(value))
    for number in range(100):
        cache.put(str(number), b"x" * 500)
        cache.get("0")
    assert cache.bytes <= 10_000 and 5 < len(cache) < 20
    assert cache.get("0") and cache.get("99") and cache.get("1") is None
    assert cache.put("large", b"x" * 5000) == b"x" * 5000 and cache.get("large") is None
    cache.put("0", b"")
    cache.put("0", b"x" * 700)
    assert cache.bytes == sum(len(value) + 200 for value, _ in cache._entries.values())


def test_a_flood_of_large_requests_keeps_nothing_that_callers_made_up(engine: Engine) -> None:
    def made_up() -> str:
        return "".join(random.choices("abcdef", k=512))

    engine.answer(RecommendationRequest(), NONE)
    kept, ranked = len(engine._asked.answers), len(engine._rankings)
    for _ in range(50):
        wish = RecommendationRequest(
            customer_id=made_up(),
            signals=tuple(Signal(made_up(), 0.1, made_up()) for _ in range(100)),
            categories=frozenset(made_up() for _ in range(50)),
            exclude=frozenset(made_up() for _ in range(500)),
            segment=made_up(),
        )
        assert engine.answer(wish, NONE).entries == []
    assert (len(engine._asked.answers), len(engine._rankings)) == (kept + 1, ranked), "all of them are one request"
    known = frozenset("".join(["p", "0", str(number)]) for number in range(9))
    engine.answer(RecommendationRequest(exclude=known | {made_up()}, signals=(Signal("p31", 0.1, made_up()),)), NONE)
    (wish,) = [wish for wish in engine._asked.answers._entries if wish.exclude]
    ids = engine.recommender.state.product_ids
    assert wish.exclude == known and all(any(each is own for own in ids) for each in wish.exclude)
    assert [signal.visit for signal in wish.signals] == ["0"]


def test_a_flood_of_different_requests_stays_within_the_caches_bytes(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec_assets.serving.engine._ANSWERS", 200_000)
    monkeypatch.setattr("rec_assets.serving.engine._RANKINGS", 200_000)
    engine = Engine(shop.publish(tmp_path, index), NO_RULES)
    chance = random.Random(1)
    for _ in range(100):
        signals = tuple(Signal(shop.product(chance.randrange(shop.PRODUCTS)), 0.1, "v") for _ in range(5))
        engine.answer(RecommendationRequest(k=20, signals=signals), NONE)
    assert 0 < engine._asked.answers.bytes <= 200_000
    assert 0 < engine._rankings.bytes <= 200_000


def test_what_an_index_does_not_know_changes_no_answer(engine: Engine) -> None:
    for wish, more in (
        (
            RecommendationRequest(customer_id="c00"),
            RecommendationRequest(customer_id="c00", exclude=frozenset({"no such"})),
        ),
        (
            RecommendationRequest(customer_id="c00"),
            RecommendationRequest(customer_id="c00", signals=(Signal("no such", 1.0, "v"),)),
        ),
        (RecommendationRequest(), RecommendationRequest(segment="no such")),
        (
            RecommendationRequest(categories=frozenset({"tea"})),
            RecommendationRequest(categories=frozenset({"tea", "no such"})),
        ),
    ):
        assert engine.answer(wish, NONE) == engine.answer(more, NONE)


def test_a_change_of_stock_changes_what_was_answered_before(engine: Engine) -> None:
    first = engine.answer(RecommendationRequest(customer_id="c00"), NONE).entries[0].product_id
    gone = frozenset({first})
    assert first not in [
        entry.product_id for entry in engine.answer(RecommendationRequest(customer_id="c00"), gone).entries
    ]
    assert engine.answer(RecommendationRequest(customer_id="c00"), NONE).entries[0].product_id == first


def test_only_what_is_looked_up_is_answered_at_once(engine: Engine) -> None:
    click = RecommendationRequest(signals=(Signal("p31", 0.1, "v"),))
    for slow in (
        click,
        RecommendationRequest(customer_id="c00", signals=click.signals),
        RecommendationRequest(customer_id="c00", diversity=0.5),
    ):
        with pytest.raises(RankingNeeded):
            engine.answer(slow, NONE, at_once=True)
    assert engine.answer(RecommendationRequest(customer_id="c00"), NONE, at_once=True).answered_by == "customer"
    assert engine.answer(RecommendationRequest(), NONE, at_once=True).answered_by == "popular"
    assert engine.answer(click, NONE) is engine.answer(click, NONE, at_once=True), "answered before"


def test_what_is_looked_up_waits_for_one_ranking_at_most() -> None:
    done: list[str] = []

    async def looked_up() -> None:
        for _ in range(5):  # from the socket to its answer
            await asyncio.sleep(0)
        done.append("looked up")

    async def all_at_once() -> None:
        turns = RankingQueue()
        rankings = [turns.run(lambda: done.append("ranking")) for _ in range(8)]
        await asyncio.gather(*rankings, looked_up())

    asyncio.run(all_at_once())
    assert done.count("ranking") == 8 and done.index("looked up") <= 1


def test_who_spends_more_than_is_left_passes_once_and_waits_for_it() -> None:
    limit = RateLimit(per_second=10, burst=20)
    assert limit.take("a", 0.0) == 0
    assert limit.take("a", 0.0, cost=1000, least=0) == 0, "a batch larger than the burst"
    assert limit.take("a", 0.0, cost=1, least=0) == pytest.approx(98.1)
    assert limit.take("a", 0.0) == pytest.approx(98.2)
    assert limit.take("a", 98.3) == 0
    assert limit.take("b", 0.0) == 0, "another caller's"


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


def test_thousands_of_wrong_fields_are_one_error() -> None:
    with pytest.raises(ValidationError) as found:
        schemas.RecommendationBody.model_validate({f"x{number}": 1 for number in range(10_000)})
    assert found.value.error_count() == 1 and "10000 fields" in str(found.value)
