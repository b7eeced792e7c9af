"""The search space agrees with the recipe and always includes the base recipe."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import FixedTrial

from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.tuning.search_space import SPACE, Range, space_around, suggest

BASE = Recipe()


@pytest.mark.parametrize("end", ["low", "high"])
def test_the_recipe_takes_both_ends_of_every_range(end: str) -> None:
    values = {name: getattr(bounds, end) for name, bounds in SPACE.items()}
    recipe = suggest(FixedTrial(values), BASE)
    assert {name: recipe.fields()[name] for name in values} == values


@pytest.mark.parametrize("name", sorted(SPACE))
def test_a_range_includes_the_default_and_has_its_type(name: str) -> None:
    bounds, value = SPACE[name], BASE.fields()[name]
    assert bounds.low <= value <= bounds.high
    assert bounds.is_integer == isinstance(value, int)
    assert bounds.low > 0 or not bounds.log


def test_hyper_parameters_outside_the_space_do_not_change() -> None:
    base = BASE.with_fields({"als.iterations": 3, "seed": 11})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    fields = suggest(study.ask(), base).fields()
    assert {name for name, value in fields.items() if value != base.fields()[name]} <= set(SPACE)
    assert any(fields[name] != base.fields()[name] for name in SPACE)


def test_ranges_are_extended_to_the_base_and_are_not_logarithmic_if_they_include_zero() -> None:
    base = BASE.with_fields({"als.rank": 200, "ranker.min_child_weight": 0.0})
    around = space_around(base)
    assert around["als.rank"] == Range(SPACE["als.rank"].low, 200, log=True)
    assert around["ranker.min_child_weight"] == Range(0.0, SPACE["ranker.min_child_weight"].high, log=False)
    assert around["als.alpha"] == SPACE["als.alpha"]
    assert suggest(FixedTrial({name: base.fields()[name] for name in around}), base, around) == base


def test_parts_can_be_chosen_and_fields_fixed() -> None:
    around = space_around(BASE, parts=["als", "candidates"], fixed=["als.rank"])
    assert set(around) == {
        "als.alpha", "als.regularization", "als.half_life_days",
        "candidates.profile_half_life_days", "candidates.profile_order_decay",
    }  # fmt: skip
    with pytest.raises(ValueError, match="unknown parts tress: choose from als, co_purchase"):
        space_around(BASE, parts=["tress"])
    with pytest.raises(ValueError, match="nothing is left to tune"):
        space_around(BASE, parts=["candidates"], fixed=[name for name in SPACE if name.startswith("candidates.")])


def test_only_the_regularization_of_the_active_solver_is_searched() -> None:
    ours = space_around(BASE.with_fields({"als.solver": "implicit"}))
    assert set(SPACE) - set(ours) == {"als.regularization"}
    assert set(SPACE) - set(space_around(BASE)) == {"als.implicit_regularization"}


def test_recipes_refuse_unknown_names_and_invalid_values() -> None:
    with pytest.raises(ValueError, match=r"no hyper-parameter is named 'als\.ranks'"):
        BASE.with_fields({"als.ranks": 3})
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        BASE.with_fields({"als.rank": 0})


def test_a_recipe_knows_which_fields_were_set() -> None:
    recipe = Recipe.model_validate({"als": {"rank": 48}, "seed": 3})
    assert recipe.chosen_fields() == {"als.rank": 48, "seed": 3}
    assert Recipe().chosen_fields() == {}
    assert recipe.fields()["ranker.rounds"] == Recipe().ranker.rounds
