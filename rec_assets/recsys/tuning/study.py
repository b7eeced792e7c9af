"""A study: the search for a better recipe, trial by trial, kept in a file so that a killed one goes on.

Optuna proposes recipes and remembers what they were worth; what one is worth the caller says. The file may hold many
studies: a study's name has to stand for all that makes its values comparable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.tuning.search_space import Range, suggest
from rec_assets.sqlite import sqlite_url

_STUDIED = (TrialState.COMPLETE, TrialState.PRUNED)
_RETRY = "retry_of"


@dataclass(frozen=True)
class RecipeStudy:
    """One study.

    Attributes:
        study: Optuna's; higher values are better.
        base: The recipe in use. It is judged too, and never given up early, so the best is never below it.
        space: What is searched, around the base.
        seed: Of the sampler. A study that was killed and goes on proposes what it would have proposed.
    """

    study: optuna.Study
    base: Recipe
    space: Mapping[str, Range]
    seed: int

    def recover(self) -> list[FrozenTrial]:
        """Mark the trials of a killed process as failed and put their recipes in line again, once each.

        Only when no other process works on the study.

        Returns:
            The trials that had died.
        """
        dead = self.study.get_trials(states=(TrialState.RUNNING,))
        for trial in dead:
            self.study.tell(trial.number, state=TrialState.FAIL)
            # What died twice may be what kills the process.
            if trial.params.keys() == self.space.keys() and _RETRY not in trial.user_attrs:
                self.study.enqueue_trial(trial.params, user_attrs={_RETRY: trial.number})
        return dead

    def search(
        self,
        judge: Callable[[Trial, Recipe], float | None],
        *,
        trials: int,
        timeout_seconds: float | None = None,
    ) -> int:
        """Judge recipes, the base first, until the study has as many trials as wanted.

        Args:
            judge: What a recipe is worth; None where it gave up on it early (`Trial.should_prune`). What it raises ends
                the search: an error with the trial failed, an interruption with the trial left to `recover`.
            trials: Trials wanted in all, those of earlier calls included.
            timeout_seconds: No trial is started later than this; the base's always is.

        Returns:
            Trials judged by this call.
        """
        started, done = time.monotonic(), 0
        if self._value_of_base() is None and not self._base_waits():
            self.study.enqueue_trial(self._base_params())
        while self._value_of_base() is None or self.studied < trials:
            in_time = timeout_seconds is None or time.monotonic() - started < timeout_seconds
            if not in_time and self._value_of_base() is not None:
                break
            # Seeded for each: that of a process started later would begin again with what was proposed first.
            self.study.sampler = TPESampler(seed=self.seed + self._proposed())
            trial = self.study.ask()
            recipe = suggest(trial, self.base, self.space)
            try:
                value = judge(trial, recipe)
            except Exception:
                self.study.tell(trial, state=TrialState.FAIL)
                raise
            self.study.tell(trial, value, state=TrialState.PRUNED if value is None else None)
            done += 1
        return done

    @property
    def studied(self) -> int:
        """Trials that were judged, or given up early."""
        return len(self.study.get_trials(deepcopy=False, states=_STUDIED))

    @property
    def best(self) -> FrozenTrial:
        """The trial of the highest value; of equal ones the earliest."""
        complete = self.study.get_trials(states=(TrialState.COMPLETE,))
        return max(complete, key=lambda trial: (trial.value, -trial.number))

    @property
    def base_trial(self) -> FrozenTrial:
        """The trial of the recipe in use.

        Raises:
            LookupError: it was not judged yet.
        """
        for trial in self.study.get_trials(states=(TrialState.COMPLETE,)):
            if trial.params == self._base_params():
                return trial
        raise LookupError(f"study {self.study.study_name}: the recipe in use was not judged yet")

    def importance(self) -> pd.Series:
        """Share of each hyper-parameter in what made trials differ, falling; empty with fewer than 5 to compare."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.value for trial in complete}) < 5:
            return pd.Series(dtype=float)
        return pd.Series(optuna.importance.get_param_importances(self.study)).sort_values(ascending=False)

    def is_base(self, trial: Trial | FrozenTrial) -> bool:
        """Whether this is the recipe in use."""
        return trial.params == self._base_params()

    def _proposed(self) -> int:
        """Trials so far, those that died not counted beside their retries."""
        trials = self.study.get_trials(deepcopy=False)
        return len(trials) - sum(_RETRY in trial.user_attrs for trial in trials)

    def _base_params(self) -> dict[str, Any]:
        values = self.base.fields()
        return {name: values[name] for name in self.space}

    def _value_of_base(self) -> float | None:
        try:
            return self.base_trial.value
        except LookupError:
            return None

    def _base_waits(self) -> bool:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return any(trial.system_attrs.get("fixed_params") == self._base_params() for trial in waiting)


def open_study(file: Path, name: str, *, base: Recipe, space: Mapping[str, Range], seed: int) -> RecipeStudy:
    """The study of that name, made if it isn't there, in an SQLite file, made likewise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=sqlite_url(file),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(),
    )
    return RecipeStudy(study, base, space, seed)
