"""The active recipe: fields set by the user, then tuned fields, then those of the asset `recipe`, then defaults."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.recipes import Recipes, RecipeUnreadable, TunedRecipe
from rec_assets.settings import Settings

TUNED = TunedRecipe(
    {"als.rank": 64, "ranker.learning_rate": 0.1234567890123456},
    {"study": "shop-2024-01-01-0a1b2c", "trial": 7, "value": 0.4},
)
DAY = dt.date(2024, 1, 10)


def _recipes(home: Path) -> Recipes:
    return Recipes.from_settings(Settings(home=home))


def test_without_a_tuned_recipe_the_settings_are_used(tmp_path: Path) -> None:
    recipes = _recipes(tmp_path)
    assert recipes.active(DAY) == Recipe()
    assert recipes.origin(DAY) == "defaults and settings"


def test_the_tuned_recipe_overrides_defaults_until_its_file_is_deleted(tmp_path: Path) -> None:
    recipes = _recipes(tmp_path)
    recipes.adopt(TUNED)
    assert recipes.file == tmp_path / "tuning" / "recipe.json"
    assert recipes.active(DAY) == Recipe().with_fields(TUNED.fields)
    assert recipes.active(DAY).ranker.learning_rate == 0.1234567890123456
    assert recipes.tuned() == TUNED
    assert recipes.origin(DAY) == "tuned: study shop-2024-01-01-0a1b2c, trial 7"
    recipes.file.unlink()
    assert recipes.active(DAY) == Recipe()


def test_a_field_that_the_user_sets_wins_even_with_the_default_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REC_RECIPE__ALS__RANK", "48")
    monkeypatch.setenv("REC_RECIPE__LIST_SIZE", "30")
    recipes = _recipes(tmp_path)
    recipes.adopt(TUNED)
    found = recipes.active(DAY)
    assert (found.als.rank, found.list_size, found.ranker.learning_rate) == (48, 30, 0.1234567890123456)


def test_the_newest_recipe_of_the_shop_up_to_the_day_comes_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = _recipes(tmp_path)
    for age, rank in ((-1, 30.0), (1, 32.0), (9, 34.0)):
        names = ["als.rank", "als.half_life_days", "ranker.learning_rate", "als.gone"]
        rows = pd.DataFrame({"name": names, "value": [rank, 99.5, 0.3, 1.0], "default": 1.0, "why": "so"})
        recipes.lake.write("recipe", rows, DAY - dt.timedelta(days=age))
    found = recipes.active(DAY)
    assert (found.als.rank, found.als.half_life_days, found.ranker.learning_rate) == (32, 99.5, 0.3)
    assert recipes.origin(DAY) == "purchases up to 2024-01-09"
    assert recipes.active(DAY - dt.timedelta(days=10)) == Recipe(), "nothing is known yet"
    recipes.adopt(TUNED)
    monkeypatch.setenv("REC_RECIPE__ALS__HALF_LIFE_DAYS", "5")
    recipes, found = _recipes(tmp_path), _recipes(tmp_path).active(DAY)
    assert (found.als.rank, found.als.half_life_days, found.ranker.learning_rate) == (64, 5.0, 0.1234567890123456)
    assert recipes.fixed_fields() == {"als.rank", "als.half_life_days", "ranker.learning_rate"}
    assert recipes.origin(DAY) == "tuned: study shop-2024-01-01-0a1b2c, trial 7; purchases up to 2024-01-09"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"recipe": {"als.rank": 6', "Expecting"),
        ("[]", "list indices"),
        ("[" * 100_000, "nested too deeply"),
        ('{"recipe": {"als.rank": 6, "als.rank": 64}}', "duplicate key als.rank"),
        ('{"recipe": {}}', "it has no 'provenance'"),
        ('{"recipe": {}, "provenance": {"study": "a"}}', "its provenance lacks trial"),
        (
            '{"recipe": {"als.ranks": 6}, "provenance": {"study": "a", "trial": 1}}',
            "no hyper-parameter is named 'als.ranks'",
        ),
        ('{"recipe": {"als.rank": -6}, "provenance": {"study": "a", "trial": 1}}', "als.rank: Input should be greater"),
    ],
)
def test_an_invalid_file_is_named_with_the_reason(tmp_path: Path, content: str, why: str) -> None:
    recipes = _recipes(tmp_path)
    recipes.file.parent.mkdir()
    recipes.file.write_text(content)
    with pytest.raises(RecipeUnreadable) as found:
        recipes.active(DAY)
    assert str(recipes.file) in str(found.value) and why in str(found.value)


def test_a_recipe_is_adopted_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = _recipes(tmp_path)
    recipes.adopt(TUNED)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        recipes.adopt(TunedRecipe({"als.rank": 16}, {"study": "b", "trial": 1}))
    assert recipes.tuned() == TUNED
    monkeypatch.undo()
    recipes.adopt(TunedRecipe({"als.rank": 16}, {"study": "b", "trial": 1}))
    assert json.loads(recipes.file.read_text())["recipe"] == {"als.rank": 16}
    assert [path.name for path in recipes.file.parent.iterdir()] == ["recipe.json"]


def test_an_unknown_field_is_not_adopted(tmp_path: Path) -> None:
    recipes = _recipes(tmp_path)
    with pytest.raises(ValueError, match=r"als\.ranks"):
        recipes.adopt(TunedRecipe({"als.ranks": 16}, {"study": "b", "trial": 1}))
    assert recipes.tuned() is None
