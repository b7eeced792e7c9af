"""The blend that ranks where the ranker has nothing to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from rec_assets.recsys.ranking import fixed_blend
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.unlearned import NO_RANKER, unlearned_models


def rows(*values: dict[str, float]) -> np.ndarray:
    """Pairs of which only some features are known."""
    return np.array([[each.get(name, np.nan) for name in FEATURES] for each in values], np.float32)


def best(*values: dict[str, float]) -> int:
    return int(fixed_blend.score(rows(*values)).argmax())


def test_what_is_bought_again_comes_before_what_sells() -> None:
    bought = {"own_orders": 2, "own_score": 2}
    best_seller = {"recent_popularity": np.log1p(100)}
    assert best(bought | {"repeat_share": 0.8}, best_seller) == 0
    assert best(bought | {"customer_repeat": 4}, best_seller) == 0, "of a customer who buys most things again"


def test_what_the_customer_has_and_nobody_buys_twice_comes_last() -> None:
    has_it = {"own_orders": 1, "own_score": 1, "customer_repeat": 1, "repeat_share": 0}
    alike = {"content_relative": 1, "als_relative": 1, "category_taste": 1}
    assert best(has_it | alike, {"popularity": np.log1p(1)}) == 1


def test_a_piece_alike_and_of_a_category_bought_comes_before_any_other_that_sold_once() -> None:
    sold = {"recent_popularity": np.log1p(1), "popularity": np.log1p(1)}
    assert best(sold, sold | {"content_relative": 0.5}, sold | {"content_relative": 0.5, "category_taste": 0.5}) == 2


def test_who_is_told_nothing_of_gets_what_sells_most() -> None:
    assert best({"recent_popularity": 1.0}, {"recent_popularity": 2.0}) == 1


def test_contributions_add_up_to_the_score_which_lies_between_0_and_1() -> None:
    features = np.random.default_rng(1).uniform(-1, 2, (50, len(FEATURES))).astype(np.float32)
    features[::3, ::4] = np.nan
    ranker = Ranker(None, FEATURES)
    score = ranker.score(features).astype(float)
    assert ((score > 0) & (score < 1)).all()
    odds = np.log(score / (1 - score))
    assert ranker.contributions(features).sum(axis=1) + fixed_blend.NOTHING == pytest.approx(odds, abs=1e-3)


def test_one_row_scores_as_it_does_among_others() -> None:
    features = np.random.default_rng(2).random((40, len(FEATURES))).astype(np.float32)
    one_by_one = np.concatenate([fixed_blend.score(features[[row]]) for row in range(40)])
    assert fixed_blend.score(features).tolist() == one_by_one.tolist()


def test_what_was_not_learned_is_said_with_its_reason_and_a_shop_that_taught_all_says_nothing() -> None:
    assert unlearned_models(Recipe(), factors=True, graph=True, texts=True, ranker=True) == []
    said = unlearned_models(Recipe(), factors=False, graph=False, texts=False, ranker=False)
    assert said[0] == "no ALS factors: no product has 5 customers"
    assert "3 baskets or customers" in said[1] and "text" in said[2] and said[3] == NO_RANKER
