"""Randomized rankings and interleaved lists."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from rec_assets.recsys.experiments.exploration import conditional_propensities, plackett_luce_weights
from rec_assets.recsys.experiments.interleaving import team_draft


def test_propensities_are_the_probabilities_of_the_sampled_orders() -> None:
    weight = plackett_luce_weights([0.5, 0.3, 0.2], 0.5)
    assert weight.max() == 1.0
    assert weight == pytest.approx(np.array([0.25, 0.09, 0.04]) / 0.25)
    chances = {
        order: float(conditional_propensities(weight[list(order)]).prod()) for order in itertools.permutations(range(3))
    }
    assert sum(chances.values()) == pytest.approx(1.0)
    rng, draws = np.random.default_rng(1), 20_000
    noisy = np.log(weight) + rng.gumbel(size=(draws, 3))
    orders, counts = np.unique(np.argsort(-noisy, axis=1), axis=0, return_counts=True)
    for order, count in zip(orders, counts, strict=True):
        expected = chances[tuple(int(each) for each in order)]
        assert count / draws == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / draws))


def test_lower_exploration_is_closer_to_the_order_of_the_scores() -> None:
    firm, loose = (plackett_luce_weights([0.5, 0.4, 0.0], each) for each in (0.01, 1.0))
    assert conditional_propensities(firm)[0] > 0.999
    assert conditional_propensities(loose)[0] == pytest.approx(0.5 / 0.9)
    assert (firm > 0).all()  # no propensity is 0


def draft(one: str, other: str, k: int, coins: list[int]) -> tuple[str, str]:
    tosses = iter(coins)
    found = team_draft([one, other], k, str, lambda: next(tosses))
    return "".join(each.item for each in found), "".join("ab"[each.team] for each in found)


def test_each_ranking_adds_its_best_item_and_the_coin_decides_which_is_first() -> None:
    assert draft("abcd", "badc", 4, [0, 0]) == ("abcd", "abab")
    assert draft("abcd", "badc", 4, [1, 1]) == ("badc", "baba")
    assert draft("abcd", "wxyz", 3, [0, 1]) == ("awx", "abb")


def test_when_one_ranking_is_empty_the_other_continues() -> None:
    assert draft("ab", "abcde", 5, [0] * 5) == ("abcde", "abbbb")
    assert draft("", "", 5, [0]) == ("", "")
    assert draft("a", "", 5, [1, 1]) == ("a", "a")


def test_propensities_of_a_draft_follow_from_its_coins() -> None:
    rng, draws = np.random.default_rng(3), 4_000
    drafts = [team_draft(["abcd", "wxyz"], 4, str, lambda: int(rng.integers(2))) for _ in range(draws)]
    counts = Counter("".join(each.item for each in draft) for draft in drafts)
    chances = {"".join(each.item for each in draft): math.prod(each.propensity for each in draft) for draft in drafts}
    assert chances == {"awbx": 0.25, "awxb": 0.25, "wabx": 0.25, "waxb": 0.25}
    for order, chance in chances.items():
        assert counts[order] / draws == pytest.approx(chance, abs=0.03)
    one_left = team_draft(["a", "bcd"], 4, str, lambda: 0)
    assert [each.propensity for each in one_left] == [0.5, 1, 1, 1]


def test_equal_rankings_add_equally_many_items() -> None:
    rng = np.random.default_rng(2)
    drafts = [team_draft(["abcde"] * 2, 5, str, lambda: int(rng.integers(2))) for _ in range(2000)]
    assert {each.propensity for draft in drafts for each in draft} == {1.0}
    teams = [each.team for draft in drafts for each in draft]
    assert np.mean(teams) == pytest.approx(0.5, abs=0.02)
