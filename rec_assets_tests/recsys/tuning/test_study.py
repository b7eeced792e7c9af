"""A study evaluates the base first, is never worse than it, and resumes after a crash."""

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


def _value(recipe: Recipe) -> float:
    """Best at a learning rate of 0.1 and 200 rounds."""
    ranker = recipe.ranker
    return -(math.log(ranker.learning_rate / 0.1) ** 2) - math.log(ranker.rounds / 200) ** 2


def _evaluate(trial: Trial, recipe: Recipe) -> float:
    return _value(recipe)


def _finished_params(study: RecipeStudy) -> list[dict[str, Any]]:
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    return [trial.params for trial in study.study.get_trials(states=done)]


def test_the_current_recipe_comes_first_and_the_best_is_not_worse(tmp_path: Path) -> None:
    study = _open(tmp_path)
    assert study.search(_evaluate, trials=12) == 12
    first = study.study.trials[0]
    assert study.is_base(first) and first.value == _value(BASE)
    assert study.base_trial.number == 0
    assert study.best.value is not None and study.best.value > _value(BASE)
    assert study.best.value == max(trial.value for trial in study.study.trials if trial.value is not None)
    assert study.importance().index[0] in ("ranker.learning_rate", "ranker.rounds")


def test_if_no_recipe_is_better_the_current_one_is_the_best(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(lambda trial, recipe: 1.0, trials=4)
    assert study.is_base(study.best)
    assert study.importance().empty


@pytest.mark.integration
@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_killed_study_resumes_with_the_same_recipes(tmp_path: Path, killed_at: int) -> None:
    (tmp_path / "complete").mkdir()
    complete = _open(tmp_path / "complete")
    complete.search(_evaluate, trials=13)

    def interrupted(trial: Trial, recipe: Recipe) -> float:
        if trial.number == killed_at - 1:
            raise KeyboardInterrupt
        return _value(recipe)

    with pytest.raises(KeyboardInterrupt):
        _open(tmp_path).search(interrupted, trials=13)
    again = _open(tmp_path)
    assert again.finished == killed_at - 1
    (failed,) = again.recover()
    assert again.search(_evaluate, trials=13) == 13 - (killed_at - 1)
    assert _finished_params(again) == _finished_params(complete)
    assert again.study.trials[failed.number].state == TrialState.FAIL


def test_a_recipe_that_fails_twice_is_not_tried_again(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(_evaluate, trials=2)

    def kill(trial: Trial, recipe: Recipe) -> float:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            study.search(kill, trials=3)
        study.recover()
    twice_failed = study.study.trials[2].params
    assert study.study.trials[3].params == twice_failed
    study.search(_evaluate, trials=4)
    assert twice_failed not in _finished_params(study) and study.finished == 4


def test_a_trial_that_fails_ends_the_search_and_does_not_count(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(_evaluate, trials=2)

    def fail(trial: Trial, recipe: Recipe) -> float:
        raise RuntimeError("no such factor")

    with pytest.raises(RuntimeError, match="no such factor"):
        study.search(fail, trials=3)
    failed = study.study.trials[-1]
    assert failed.state == TrialState.FAIL and study.recover() == [] and study.finished == 2
    study.search(_evaluate, trials=3)
    assert failed.params not in _finished_params(study)


def test_a_study_stops_at_the_number_of_trials_and_continues_for_a_larger_number(tmp_path: Path) -> None:
    _open(tmp_path).search(_evaluate, trials=3)
    assert _open(tmp_path).search(_evaluate, trials=3) == 0
    assert _open(tmp_path).search(_evaluate, trials=5) == 2


def test_pruned_trials_count_but_are_never_the_best(tmp_path: Path) -> None:
    def prunes(trial: Trial, recipe: Recipe) -> float | None:
        trial.report(5.0, 0)
        return _value(recipe) if trial.number == 0 else None

    study = _open(tmp_path)
    study.search(prunes, trials=3)
    assert study.finished == 3 and study.best.number == 0


def test_an_adopted_recipe_is_not_evaluated_again(tmp_path: Path) -> None:
    study = _open(tmp_path)
    study.search(_evaluate, trials=12)
    better = BASE.with_fields(study.best.params)
    assert better != BASE
    later = _open(tmp_path, better)
    assert later.search(_evaluate, trials=12) == 0
    assert later.base_trial.number == study.best.number


def test_after_the_timeout_only_the_current_recipe_is_evaluated(tmp_path: Path) -> None:
    study = _open(tmp_path)
    assert study.search(_evaluate, trials=5, timeout_seconds=0) == 1
    assert study.is_base(study.best)
