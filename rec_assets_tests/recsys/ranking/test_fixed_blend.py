"""The fixed blend, which ranks if purchases can't train a ranker."""

from __future__ import annotations

import numpy as np
import pytest

from rec_assets.assets.model_loading import NO_RANKER, missing_model_reasons
from rec_assets.recsys.ranking import fixed_blend
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe


def rows(*values: dict[str, float]) -> np.ndarray:
    """Pairs with some known features."""
    return np.array([[row.get(name, np.nan) for name in FEATURES] for row in values], np.float32)


def best(*values: dict[str, float]) -> int:
    return int(fixed_blend.score(rows(*values)).argmax())


def test_a_repeat_purchase_ranks_above_a_best_seller() -> None:
    bought = {"repeat_order_lines": 2, "repeat_score": 2}
    best_seller = {"recent_popularity": np.log1p(100)}
    assert best(bought | {"repeat_share": 0.8}, best_seller) == 0
    assert best(bought | {"customer_repeat": 4}, best_seller) == 0, "the customer buys most products again"


def test_a_bought_product_that_nobody_buys_twice_ranks_last() -> None:
    bought = {"repeat_order_lines": 1, "repeat_score": 1, "customer_repeat": 1, "repeat_share": 0}
    similar = {"text_relative": 1, "als_relative": 1, "category_affinity": 1}
    assert best(bought | similar, {"popularity": np.log1p(1)}) == 1


def test_similarity_and_category_rank_a_product_above_an_equal_seller() -> None:
    sold = {"recent_popularity": np.log1p(1), "popularity": np.log1p(1)}
    assert best(sold, sold | {"text_relative": 0.5}, sold | {"text_relative": 0.5, "category_affinity": 0.5}) == 2


def test_without_other_features_the_best_seller_ranks_first() -> None:
    assert best({"recent_popularity": 1.0}, {"recent_popularity": 2.0}) == 1


def test_contributions_add_up_to_the_score_which_is_between_0_and_1() -> None:
    features = np.random.default_rng(1).uniform(-1, 2, (50, len(FEATURES))).astype(np.float32)
    features[::3, ::4] = np.nan
    ranker = Ranker(None, FEATURES)
    score = ranker.score(features).astype(float)
    assert ((score > 0) & (score < 1)).all()
    odds = np.log(score / (1 - score))
    assert ranker.contributions(features).sum(axis=1) + fixed_blend.INTERCEPT == pytest.approx(odds, abs=1e-3)


def test_the_score_of_a_row_does_not_depend_on_other_rows() -> None:
    features = np.random.default_rng(2).random((40, len(FEATURES))).astype(np.float32)
    one_by_one = np.concatenate([fixed_blend.score(features[[row]]) for row in range(40)])
    assert fixed_blend.score(features).tolist() == one_by_one.tolist()


def test_each_missing_model_has_a_reason() -> None:
    assert missing_model_reasons(Recipe(), factors=True, graph=True, texts=True, ranker=True) == []
    reasons = missing_model_reasons(Recipe(), factors=False, graph=False, texts=False, ranker=False)
    assert reasons[0] == "no ALS factors: no product has 5 customers"
    assert "3 baskets or customers" in reasons[1] and "text" in reasons[2] and reasons[3] == NO_RANKER
