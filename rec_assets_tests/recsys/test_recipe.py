"""Recipes that an earlier version stored, under its names of hyper-parameters."""

import pytest

from rec_assets.recsys.recipe import Recipe


def test_a_stored_recipe_keeps_renamed_values_and_ignores_unknown_ones() -> None:
    stored = {"candidates": {"same_customer": 5, "own_half_life_days": 9.0, "gone": 1}, "seed": 3, "old": {"x": 1}}
    expected = {"candidates.ease": 5, "candidates.repeat_half_life_days": 9.0, "seed": 3}
    assert Recipe.from_stored(stored) == Recipe().with_fields(expected)
    assert stored["candidates"] == {"same_customer": 5, "own_half_life_days": 9.0, "gone": 1}, "the input is unchanged"


def test_a_stored_value_that_is_not_allowed_any_more_is_named() -> None:
    with pytest.raises(ValueError, match=r"^als\.rank: "):
        Recipe.from_stored({"als": {"rank": 0}})


def test_fields_are_set_by_their_old_names_too() -> None:
    assert Recipe().with_fields({"candidates.history_products": 5}).candidates.profile_items == 5
