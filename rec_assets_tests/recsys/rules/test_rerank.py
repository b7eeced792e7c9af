"""Rules applied to one customer's products, and the arrays they are made into."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.compiled import CompiledRules, compile_rules, unknown_products
from rec_assets.recsys.rules.rerank import ScoredCandidates, rerank
from rec_assets.recsys.rules.spec import read_rules
from rec_assets_tests.serving import shop

Book = Callable[..., CompiledRules]
STATE: ProductSnapshot = shop.state()
"""p00 … p59 of three categories in turn; p00 sells best and costs least."""


@pytest.fixture
def book(tmp_path: Path) -> Book:
    def make(*rules: str, **files: str) -> CompiledRules:
        for name, content in files.items():
            (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
        path = tmp_path / "rules.yaml"
        path.write_text(f"rule_sets: {{house: [{', '.join(rules)}]}}\n", encoding="utf-8")
        return compile_rules(read_rules(path), "house", STATE)

    return make


def offer(count: int = 40, **given: object) -> ScoredCandidates:
    """p00 … in this order, with falling scores."""
    nothing = np.zeros(count, np.float32)
    whole = ScoredCandidates(
        np.arange(count), np.linspace(0.4, 0.01, count).astype(np.float32), nothing, nothing, np.nan
    )
    return whole._replace(**given)  # type: ignore[arg-type]


def shown(rules: CompiledRules, given: ScoredCandidates | None = None, depth: int = 20) -> list[int]:
    product, place, rule = rerank(rules, given or offer(), depth, lambda _: False)
    assert len(product) == len(place) == len(rule) == len(set(product.tolist()))
    return product.tolist()


def said(rules: CompiledRules, given: ScoredCandidates | None = None, depth: int = 20) -> dict[int, str]:
    product, _, rule = rerank(rules, given or offer(), depth, lambda _: False)
    return {int(each): rules.says[by] for each, by in zip(product, rule, strict=True) if by >= 0}


def test_nothing_changes_without_rules(book: Book) -> None:
    assert not book()
    assert shown(book()) == list(range(20))


def test_never_leaves_out_what_is_named_by_id_list_or_category(book: Book) -> None:
    rules = book("{name: a, kind: never, products: {ids: [p00], file: gone.csv, categories: [china]}}",
                 gone="product_id\np03\nunknown\n")  # fmt: skip
    assert shown(rules)[:6] == [2, 5, 6, 8, 9, 11]  # china is p01, p04 …
    assert said(rules) == {}


def test_a_price_floor_leaves_out_what_is_cheaper(book: Book) -> None:
    assert shown(book("{name: a, kind: price_floor, least: 1.45}"))[0] == 5  # 1.0 + number / 10


def test_weights_multiply_scores_and_say_so_of_what_rose(book: Book) -> None:
    rules = book(
        "{name: margin, kind: weigh, worth: margin.csv, strength: 1}", margin="product_id,worth\np05,8\np07,2\n"
    )
    product = shown(rules)  # the median is 5: p05 counts 1.6 times, p07 .4 times
    assert product[:2] == [5, 0] and 7 not in product
    assert said(rules)[5] == "raised by rule margin"
    assert 0 not in said(rules)


def test_what_comes_back_counts_less(book: Book) -> None:
    given = offer()
    rate = np.where(given.product == 0, 0.5, 0.0).astype(np.float32)
    rules = book("{name: net, kind: returns, cost: 0.5}")
    found = shown(rules, given._replace(return_rate=rate))
    # One comes back for each that is kept: half the price of one is lost for each.
    assert found.index(0) == int((given.score[1:] > given.score[0] * 0.5).sum())
    assert shown(rules, given) == list(range(20))


def test_favored_products_get_the_last_places_of_ten_while_that_is_cheap(book: Book) -> None:
    rule = "{{name: tail, kind: favor, products: {{ids: [p30, p31, p32, p33]}}, places: 3, most_loss: {}}}"
    free = book(rule.format(1))
    assert shown(free, depth=10) == [0, 1, 2, 3, 4, 5, 6, 30, 31, 32]
    assert shown(free)[10:] == [7, 8, 9, 10, 11, 12, 13, 14, 15, 33]  # one is left for the next ten
    assert said(free) == {each: "boosted by rule tail" for each in (30, 31, 32, 33)}
    assert shown(book(rule.format(0))) == list(range(20))
    given, discount = offer(), 1 / np.log2(np.arange(2, 12))
    for most in (0.01, 0.03, 0.06, 0.1):
        ten = shown(book(rule.format(most)), depth=10)
        loss = 1 - (given.score[ten] * discount).sum() / (given.score[:10] * discount).sum()
        assert loss <= most
    assert shown(book(rule.format(0.06)), depth=10) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 30]


def test_what_is_there_anyway_counts_among_the_places(book: Book) -> None:
    rules = book("{name: tail, kind: favor, products: {ids: [p02, p05, p30]}, places: 2, most_loss: 1}")
    assert shown(rules, depth=10) == list(range(10))
    assert said(rules, depth=10) == {}


def test_slow_movers_are_the_worst_sellers_with_a_share_of_the_orders(book: Book) -> None:
    (favor,) = book("{name: a, kind: favor, products: {slow_movers: 0.2}, places: 1}").favors
    slow = favor.weight > 0
    orders, others = STATE.orders[slow], STATE.orders[~slow]
    assert orders.sum() <= 0.2 * STATE.orders.sum() < orders.sum() + others.min()
    assert orders.max() <= others.min()
    assert favor.weight[slow] == pytest.approx(1 / np.sqrt(orders + 1))


def test_of_slow_movers_the_slowest_come_in_before_those_that_score_a_little_more(book: Book) -> None:
    rule = "{{name: tail, kind: favor, products: {{{}}}, places: 1, most_loss: 1}}"
    close = np.full(40, 0.30, np.float32)
    close[:10], close[30] = 0.5, 0.301
    assert shown(book(rule.format("ids: [p30, p39]")), offer(score=close), 10)[-1] == 30
    assert shown(book(rule.format("slow_movers: 0.4")), offer(score=close), 10)[-1] == 39


def test_a_cap_moves_the_rest_of_a_group_down_to_the_next_ten(book: Book) -> None:
    rules = book("{name: a, kind: cap, per: category, most: 2}")  # three categories fill six places of ten
    found = shown(rules)
    assert found[:6] == [0, 1, 2, 3, 4, 5]
    assert found[6:10] == [6, 7, 8, 9]  # there is nothing else
    rules = book("{name: a, kind: cap, per: category, most: 4}")
    given = offer()._replace(product=np.concatenate([np.arange(0, 60, 3), np.arange(1, 60, 3)]))
    assert shown(rules, given, 10) == [0, 3, 6, 9, 1, 4, 7, 10, 12, 15]
    mixed = offer()._replace(product=np.concatenate([np.arange(0, 30, 3), np.arange(1, 31, 3), np.arange(2, 60, 3)]))
    assert [each % 3 for each in shown(rules, mixed, 10)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_favored_products_keep_to_the_caps(book: Book) -> None:
    rules = book("{name: a, kind: cap, per: category, most: 4}",
                 "{name: tail, kind: favor, products: {ids: [p30, p31]}, places: 2, most_loss: 1}")  # fmt: skip
    # Of the first ten four are tea, the last of them too: it makes place for p30, tea again.
    found = shown(rules, depth=10)
    assert {30, 31} <= set(found)
    assert max(sum(each % 3 == group for each in found) for group in range(3)) <= 4


def test_complements_of_a_fresh_purchase_come_first(book: Book) -> None:
    rules = book("{name: with, kind: complements_first, days: 7, places: 2}")
    complement = np.zeros(40)
    complement[[20, 30, 35]] = [0.2, 0.3, 0.1]
    fresh = offer(complement=complement, last_age=3.0)
    assert shown(rules, fresh)[:5] == [30, 20, 0, 1, 2]
    assert said(rules, fresh) == {30: "put first by rule with", 20: "put first by rule with"}
    assert shown(rules, fresh._replace(last_age=8.0)) == list(range(20))
    assert shown(rules, fresh._replace(last_age=np.nan)) == list(range(20))


def test_pins_stand_where_they_should_whoever_asks(book: Book) -> None:
    rules = book("{name: one, kind: pin, product: p09, place: 1}", "{name: two, kind: pin, product: p55, place: 3}")
    assert shown(rules)[:5] == [9, 0, 55, 1, 2]
    assert said(rules) == {9: "pinned by rule one", 55: "pinned by rule two"}
    product, place, _ = rerank(rules, offer(), 5, lambda each: each == 55)
    assert product.tolist() == [9, 0, 1, 2, 3] and place.tolist() == [9, 0, 1, 2, 3]
    assert rerank(rules, offer(), 5, lambda _: False).place.tolist() == [9, 0, -1, 1, 2]


def test_a_pin_further_down_leaves_its_natural_place_and_waits_there(book: Book) -> None:
    rules = book("{name: a, kind: pin, product: p00, place: 15}")
    assert shown(rules, depth=10) == list(range(1, 11))
    assert shown(rules, depth=20).index(0) == 14
    assert shown(rules, offer(3)) == [1, 2, 0]  # there is nothing further down


def test_what_is_never_shown_is_not_pinned(book: Book) -> None:
    rules = book("{name: a, kind: pin, product: p00, place: 1}", "{name: b, kind: never, products: {ids: [p00]}}")
    assert shown(rules)[:2] == [1, 2]
    assert 0 not in shown(rules, offer()._replace(product=np.arange(1, 41)))


def test_two_favors_leave_each_other_s_products(book: Book) -> None:
    rules = book("{name: a, kind: favor, products: {ids: [p08, p30]}, places: 2, most_loss: 1}",
                 "{name: b, kind: favor, products: {ids: [p31, p32]}, places: 2, most_loss: 1}")  # fmt: skip
    assert shown(rules, depth=10) == [0, 1, 2, 3, 4, 5, 8, 30, 31, 32]


EVERYTHING = (
    "{name: never, kind: never, products: {categories: [bath]}}",
    "{name: dear, kind: weigh, strength: 0.7}",
    "{name: net, kind: returns}",
    "{name: with, kind: complements_first, places: 2}",
    "{name: cap, kind: cap, per: category, most: 6}",
    "{name: tail, kind: favor, products: {slow_movers: 0.4}, places: 3, most_loss: 0.2}",
    "{name: promo, kind: favor, products: {ids: [p13, p16, p40]}, places: 1, most_loss: 0.2}",
    "{name: pin, kind: pin, product: p33, place: 2}",
)


@pytest.mark.parametrize("seed", range(30))
def test_the_order_does_not_depend_on_how_many_are_asked_for(book: Book, seed: int) -> None:
    rules, rng = book(*EVERYTHING), np.random.default_rng(seed)
    product = rng.permutation(60)[:50]
    given = offer(
        50, product=product, return_rate=rng.random(50).astype(np.float32) / 3,
        complement=rng.random(50) * (rng.random(50) < 0.2), last_age=2.0,
    )  # fmt: skip
    whole = shown(rules, given, 50)
    for depth in range(1, 50):
        assert shown(rules, given, depth) == whole[:depth]
    assert all(each % 3 != 2 for each in whole) and whole[1] == 33
    assert len(whole) == len({each for each in product.tolist() if each % 3 != 2} | {33})  # none is lost


def test_what_a_rule_names_and_nobody_knows_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    (tmp_path / "list.csv").write_text("product_id\np01\nzzz\n", encoding="utf-8")
    path.write_text(
        "rule_sets: {a: [{name: n, kind: never, products: {file: list.csv, categories: [tea, coffee], brands: [Owm]}},"
        "{name: p, kind: pin, product: p99, place: 1}]}\n",
        encoding="utf-8",
    )
    rules = read_rules(path)
    never, pin = rules.sets["a"]
    assert unknown_products(never, rules, STATE) == ["category coffee", "brand Owm", "listed product zzz"]
    assert unknown_products(pin, rules, STATE) == ["product p99"]
    assert shown(compile_rules(rules, "a", STATE, only="p")) == list(range(20))
