"""Recipes that an earlier version stored."""

import pytest

from rec_assets.recsys.recipe import Recipe


def test_a_stored_recipe_keeps_known_values_and_ignores_unknown_ones() -> None:
    stored = {"candidates": {"ease": 5, "gone": 1}, "seed": 3, "old": {"x": 1}}
    assert Recipe.from_stored(stored) == Recipe().with_fields({"candidates.ease": 5, "seed": 3})


def test_a_stored_value_that_is_not_allowed_any_more_is_named() -> None:
    with pytest.raises(ValueError, match=r"^als\.rank: "):
        Recipe.from_stored({"als": {"rank": 0}})
