"""A study: the base first, the best never below it, and a killed one goes on as if nothing had happened."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import Trial, TrialState

from rec_assets.recsys.recipe import RankerRecipe, Recipe
from rec_assets.recsys.tuning.search_space import space_around
from rec_assets.recsys.tuning.study import RecipeStudy, open_study

BASE = Recipe(ranker=RankerRecipe(learning_rate=0.04, rounds=300))
SPACE = space_around(BASE, parts=["ranker"])


def _open(folder: Path, base: Recipe = BASE) -> RecipeStudy:
    return open_study(folder / "study.db", "shop", base=base, space=SPACE, seed=7)


def _worth(recipe: Recipe) -> float:
    """Best at a learning rate of 0.1 and 200 rounds."""
    ranker = recipe.ranker
    return -(math.log(ranker.learning_rate / 0.1) ** 2) - math.log(ranker.rounds / 200) ** 2


def _judge(trial: Trial, recipe: Recipe) -> float:
    return _worth(recipe)


def _judged(study: RecipeStudy) -> list[dict[str, Any]]:
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    return [trial.params for trial in study.study.get_trials(states=done)]


def test_the_recipe_in_use_comes_first_and_the_best_is_never_below_it(tmp_path: Path) -> None:
    study = _open(tmp_path)
    assert study.search(_judge, trials=12) == 12
    first = study.study.trials[0]
    assert study.is_base(first) and first.value == _worth(BASE)
    assert study.base_trial.number == 0
    assert study.best.value is not None and study.best.value > _worth(BASE)
    assert study.best.value == max(trial.value for trial in study.study.trials if trial.value is not None)
    assert study.importance().index[0] in ("ranker.learning_rate", "ranker.rounds")


def test_where_nothing_is_better_the_recipe_in_use_is_the_best(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(lambda trial, recipe: 1.0, trials=4)
    assert study.is_base(study.best)
    assert study.importance().empty


@pytest.mark.parametrize("death", [1, 5])
def test_a_killed_study_goes_on_as_if_it_had_not_been(tmp_path: Path, death: int) -> None:
    (tmp_path / "whole").mkdir()
    whole = _open(tmp_path / "whole")
    whole.search(_judge, trials=13)

    def dies(trial: Trial, recipe: Recipe) -> float:
        if trial.number == death - 1:
            raise KeyboardInterrupt
        return _worth(recipe)

    with pytest.raises(KeyboardInterrupt):
        _open(tmp_path).search(dies, trials=13)
    again = _open(tmp_path)
    assert again.studied == death - 1
    (dead,) = again.recover()
    assert again.search(_judge, trials=13) == 13 - (death - 1)
    assert _judged(again) == _judged(whole)
    assert again.study.trials[dead.number].state == TrialState.FAIL


def test_a_recipe_that_kills_twice_is_not_tried_again(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(_judge, trials=2)

    def kill(trial: Trial, recipe: Recipe) -> float:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            study.search(kill, trials=3)
        study.recover()
    deadly = study.study.trials[2].params
    assert study.study.trials[3].params == deadly
    study.search(_judge, trials=4)
    assert deadly not in _judged(study) and study.studied == 4


def test_a_trial_that_fails_ends_the_search_and_does_not_count(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(_judge, trials=2)

    def fail(trial: Trial, recipe: Recipe) -> float:
        raise RuntimeError("no such factor")

    with pytest.raises(RuntimeError, match="no such factor"):
        study.search(fail, trials=3)
    failed = study.study.trials[-1]
    assert failed.state == TrialState.FAIL and study.recover() == [] and study.studied == 2
    study.search(_judge, trials=3)
    assert failed.params not in _judged(study)


def test_a_study_has_no_more_trials_than_wanted_and_more_when_more_are_wanted(tmp_path: Path) -> None:
    _open(tmp_path).search(_judge, trials=3)
    assert _open(tmp_path).search(_judge, trials=3) == 0
    assert _open(tmp_path).search(_judge, trials=5) == 2


def test_trials_given_up_early_count_but_are_never_the_best(tmp_path: Path) -> None:
    def gives_up(trial: Trial, recipe: Recipe) -> float | None:
        trial.report(5.0, 0)
        return _worth(recipe) if trial.number == 0 else None

    study = _open(tmp_path)
    study.search(gives_up, trials=3)
    assert study.studied == 3 and study.best.number == 0


def test_a_found_recipe_that_came_into_use_is_not_judged_again(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(_judge, trials=12)
    better = BASE.with_fields(study.best.params)
    assert better != BASE
    later = _open(tmp_path, better)
    assert later.search(_judge, trials=12) == 0
    assert later.base_trial.number == study.best.number


def test_out_of_time_only_the_recipe_in_use_is_judged(tmp_path: Path) -> None:
    study = _open(tmp_path)
    assert study.search(_judge, trials=5, timeout_seconds=0) == 1
    assert study.is_base(study.best)
