"""Each rule kind, compiled for a small shop and applied to the candidates of one customer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.rules.compiled import CompiledRules, compile_rules, unknown_products
from rec_assets.recsys.rules.effects import Boost, ScoredCandidates
from rec_assets.recsys.rules.rerank import rerank
from rec_assets.recsys.rules.rules_file import read_rules
from rec_assets_tests.serving import shop

Compile = Callable[..., CompiledRules]
SNAPSHOT: ProductSnapshot = shop.product_snapshot()
"""p00 … p59 of three categories in turn; p00 sells best and costs least."""


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    def compile_set(*rules: str, **files: str) -> CompiledRules:
        for name, content in files.items():
            (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
        path = tmp_path / "rules.yaml"
        path.write_text(f"rule_sets: {{house: [{', '.join(rules)}]}}\n", encoding="utf-8")
        return compile_rules(read_rules(path), "house", SNAPSHOT)

    return compile_set


def candidates(count: int = 40, **changes: object) -> ScoredCandidates:
    """Candidates p00, p01, … with falling scores."""
    nothing = np.zeros(count, np.float32)
    full = ScoredCandidates(
        np.arange(count), np.linspace(0.4, 0.01, count).astype(np.float32), nothing, nothing, np.nan
    )
    return full._replace(**changes)  # type: ignore[arg-type]


def shown(rules: CompiledRules, scored: ScoredCandidates | None = None, depth: int = 20) -> list[int]:
    product, row, rule = rerank(rules, scored or candidates(), depth, lambda _: False)
    assert len(product) == len(row) == len(rule) == len(set(product.tolist()))
    return product.tolist()


def messages(rules: CompiledRules, scored: ScoredCandidates | None = None, depth: int = 20) -> dict[int, str]:
    product, _, rule = rerank(rules, scored or candidates(), depth, lambda _: False)
    return {int(each): rules.messages[by] for each, by in zip(product, rule, strict=True) if by >= 0}


def test_the_order_does_not_change_without_rules(compiled: Compile) -> None:
    assert not compiled()
    assert shown(compiled()) == list(range(20))


def test_exclude_hides_products_by_id_list_and_category(compiled: Compile) -> None:
    rules = compiled("{name: a, kind: exclude, products: {ids: [p00], file: gone.csv, categories: [china]}}",
                 gone="product_id\np03\nunknown\n")  # fmt: skip
    assert shown(rules)[:6] == [2, 5, 6, 8, 9, 11]  # china is p01, p04 …
    assert messages(rules) == {}


def test_min_price_hides_cheaper_products(compiled: Compile) -> None:
    assert shown(compiled("{name: a, kind: min_price, price: 1.45}"))[0] == 5  # 1.0 + number / 10


def test_weight_multiplies_scores_and_marks_the_products_that_rise(compiled: Compile) -> None:
    rules = compiled(
        "{name: margin, kind: weight, value_file: margin.csv, strength: 1}", margin="product_id,value\np05,8\np07,2\n"
    )
    product = shown(rules)  # the median is 5: p05 counts 1.6 times, p07 .4 times
    assert product[:2] == [5, 0] and 7 not in product
    assert messages(rules)[5] == "raised by rule margin"
    assert 0 not in messages(rules)


def test_returns_penalty_lowers_products_that_are_returned(compiled: Compile) -> None:
    scored = candidates()
    rate = np.where(scored.product == 0, 0.5, 0.0).astype(np.float32)
    rules = compiled("{name: net, kind: returns_penalty, cost: 0.5}")
    found = shown(rules, scored._replace(return_rate=rate))
    # At a return rate of 0.5, one is returned for each that is kept. At a cost of 0.5, half of the score is lost.
    assert found.index(0) == int((scored.score[1:] > scored.score[0] * 0.5).sum())
    assert shown(rules, scored) == list(range(20))


def test_boosted_products_get_the_last_positions_of_a_block_within_the_dcg_loss(compiled: Compile) -> None:
    rule = "{{name: tail, kind: boost, products: {{ids: [p30, p31, p32, p33]}}, slots: 3, max_dcg_loss: {}}}"
    free = compiled(rule.format(1))
    assert shown(free, depth=10) == [0, 1, 2, 3, 4, 5, 6, 30, 31, 32]
    assert shown(free)[10:] == [7, 8, 9, 10, 11, 12, 13, 14, 15, 33]  # one is left for the next block
    assert messages(free) == {each: "boosted by rule tail" for each in (30, 31, 32, 33)}
    assert shown(compiled(rule.format(0))) == list(range(20))
    scored, discount = candidates(), 1 / np.log2(np.arange(2, 12))
    for max_loss in (0.01, 0.03, 0.06, 0.1):
        ten = shown(compiled(rule.format(max_loss)), depth=10)
        loss = 1 - (scored.score[ten] * discount).sum() / (scored.score[:10] * discount).sum()
        assert loss <= max_loss
    assert shown(compiled(rule.format(0.06)), depth=10) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 30]


def test_boosted_products_already_in_the_block_count_toward_the_slots(compiled: Compile) -> None:
    rules = compiled("{name: tail, kind: boost, products: {ids: [p02, p05, p30]}, slots: 2, max_dcg_loss: 1}")
    assert shown(rules, depth=10) == list(range(10))
    assert messages(rules, depth=10) == {}


def test_slow_movers_are_the_worst_sellers_with_a_share_of_the_orders(compiled: Compile) -> None:
    ((_, boost),) = compiled("{name: a, kind: boost, products: {slow_movers: 0.2}, slots: 1}").of_type(Boost)
    slow = boost.weight > 0
    orders, others = SNAPSHOT.order_lines[slow], SNAPSHOT.order_lines[~slow]
    assert orders.sum() <= 0.2 * SNAPSHOT.order_lines.sum() < orders.sum() + others.min()
    assert orders.max() <= others.min()
    assert boost.weight[slow] == pytest.approx(1 / np.sqrt(orders + 1))


def test_slower_movers_enter_before_faster_ones_with_a_slightly_higher_score(compiled: Compile) -> None:
    rule = "{{name: tail, kind: boost, products: {{{}}}, slots: 1, max_dcg_loss: 1}}"
    close = np.full(40, 0.30, np.float32)
    close[:10], close[30] = 0.5, 0.301
    assert shown(compiled(rule.format("ids: [p30, p39]")), candidates(score=close), 10)[-1] == 30
    assert shown(compiled(rule.format("slow_movers: 0.4")), candidates(score=close), 10)[-1] == 39


def test_a_cap_moves_further_products_of_a_group_to_the_next_block(compiled: Compile) -> None:
    rules = compiled("{name: a, kind: cap, per: category, max_items: 2}")  # three categories fill six places of ten
    found = shown(rules)
    assert found[:6] == [0, 1, 2, 3, 4, 5]
    assert found[6:10] == [6, 7, 8, 9]  # there are no others
    rules = compiled("{name: a, kind: cap, per: category, max_items: 4}")
    scored = candidates()._replace(product=np.concatenate([np.arange(0, 60, 3), np.arange(1, 60, 3)]))
    assert shown(rules, scored, 10) == [0, 3, 6, 9, 1, 4, 7, 10, 12, 15]
    mixed = candidates()._replace(
        product=np.concatenate([np.arange(0, 30, 3), np.arange(1, 31, 3), np.arange(2, 60, 3)])
    )
    assert [each % 3 for each in shown(rules, mixed, 10)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_boosted_products_respect_the_caps(compiled: Compile) -> None:
    rules = compiled("{name: a, kind: cap, per: category, max_items: 4}",
                 "{name: tail, kind: boost, products: {ids: [p30, p31]}, slots: 2, max_dcg_loss: 1}")  # fmt: skip
    # Four of the first ten are tea, also the last one: p30, which is tea too, replaces it.
    found = shown(rules, depth=10)
    assert {30, 31} <= set(found)
    assert max(sum(each % 3 == group for each in found) for group in range(3)) <= 4


def test_complements_of_a_recent_purchase_come_first(compiled: Compile) -> None:
    rules = compiled("{name: with, kind: complements_first, days: 7, slots: 2}")
    complement = np.zeros(40)
    complement[[20, 30, 35]] = [0.2, 0.3, 0.1]
    recent = candidates(complement=complement, days_since_order=3.0)
    assert shown(rules, recent)[:5] == [30, 20, 0, 1, 2]
    assert messages(rules, recent) == {30: "put first by rule with", 20: "put first by rule with"}
    assert shown(rules, recent._replace(days_since_order=8.0)) == list(range(20))
    assert shown(rules, recent._replace(days_since_order=np.nan)) == list(range(20))


def test_pins_put_products_at_fixed_ranks_even_if_they_are_no_candidates(compiled: Compile) -> None:
    rules = compiled(
        "{name: one, kind: pin, product_id: p09, rank: 1}", "{name: two, kind: pin, product_id: p55, rank: 3}"
    )
    assert shown(rules)[:5] == [9, 0, 55, 1, 2]
    assert messages(rules) == {9: "pinned by rule one", 55: "pinned by rule two"}
    product, row, _ = rerank(rules, candidates(), 5, lambda each: each == 55)
    assert product.tolist() == [9, 0, 1, 2, 3] and row.tolist() == [9, 0, 1, 2, 3]
    assert rerank(rules, candidates(), 5, lambda _: False).row.tolist() == [9, 0, -1, 1, 2]


def test_a_pin_at_a_lower_rank_moves_a_product_down(compiled: Compile) -> None:
    rules = compiled("{name: a, kind: pin, product_id: p00, rank: 15}")
    assert shown(rules, depth=10) == list(range(1, 11))
    assert shown(rules, depth=20).index(0) == 14
    assert shown(rules, candidates(3)) == [1, 2, 0]  # the list is shorter than the rank


def test_an_excluded_product_is_not_pinned(compiled: Compile) -> None:
    rules = compiled(
        "{name: a, kind: pin, product_id: p00, rank: 1}", "{name: b, kind: exclude, products: {ids: [p00]}}"
    )
    assert shown(rules)[:2] == [1, 2]
    assert 0 not in shown(rules, candidates()._replace(product=np.arange(1, 41)))


def test_two_boosts_keep_the_products_of_each_other(compiled: Compile) -> None:
    rules = compiled("{name: a, kind: boost, products: {ids: [p08, p30]}, slots: 2, max_dcg_loss: 1}",
                 "{name: b, kind: boost, products: {ids: [p31, p32]}, slots: 2, max_dcg_loss: 1}")  # fmt: skip
    assert shown(rules, depth=10) == [0, 1, 2, 3, 4, 5, 8, 30, 31, 32]


ALL_KINDS = (
    "{name: never, kind: exclude, products: {categories: [bath]}}",
    "{name: pricey, kind: weight, strength: 0.7}",
    "{name: net, kind: returns_penalty}",
    "{name: with, kind: complements_first, slots: 2}",
    "{name: cap, kind: cap, per: category, max_items: 6}",
    "{name: tail, kind: boost, products: {slow_movers: 0.4}, slots: 3, max_dcg_loss: 0.2}",
    "{name: promo, kind: boost, products: {ids: [p13, p16, p40]}, slots: 1, max_dcg_loss: 0.2}",
    "{name: pin, kind: pin, product_id: p33, rank: 2}",
)


@pytest.mark.parametrize("seed", range(30))
def test_the_order_does_not_depend_on_the_depth(compiled: Compile, seed: int) -> None:
    rules, rng = compiled(*ALL_KINDS), np.random.default_rng(seed)
    product = rng.permutation(60)[:50]
    scored = candidates(
        50, product=product, return_rate=rng.random(50).astype(np.float32) / 3,
        complement=rng.random(50) * (rng.random(50) < 0.2), days_since_order=2.0,
    )  # fmt: skip
    full = shown(rules, scored, 50)
    for depth in range(1, 50):
        assert shown(rules, scored, depth) == full[:depth]
    assert all(each % 3 != 2 for each in full) and full[1] == 33
    assert len(full) == len({each for each in product.tolist() if each % 3 != 2} | {33})  # no product is lost


def test_names_that_the_snapshot_does_not_know_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    (tmp_path / "list.csv").write_text("product_id\np01\nzzz\n", encoding="utf-8")
    path.write_text(
        "rule_sets: {a: [{name: n, kind: exclude,"
        " products: {file: list.csv, categories: [tea, coffee], brands: [Owm]}},"
        "{name: p, kind: pin, product_id: p99, rank: 1}]}\n",
        encoding="utf-8",
    )
    rules = read_rules(path)
    exclude, pin = rules.sets["a"]
    assert unknown_products(exclude, rules, SNAPSHOT) == ["category coffee", "brand Owm", "listed product zzz"]
    assert unknown_products(pin, rules, SNAPSHOT) == ["product p99"]
    assert shown(compile_rules(rules, "a", SNAPSHOT, only="p")) == list(range(20))
