"""The Optuna study: searches for a better recipe and resumes after a crash, because trials are stored in a file.

The caller evaluates the recipes. One file can have many studies; the values of a study must be comparable, so its name
must identify everything that they depend on.
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

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_RETRY = "retry_of"


@dataclass(frozen=True)
class RecipeStudy:
    """A study of recipes.

    Attributes:
        study: Higher values are better.
        base: The active recipe. It is evaluated first and never pruned, so the best recipe is never worse.
        space: Ranges to search, around the base.
        seed: Of the sampler. A resumed study suggests the same recipes as one that was not interrupted.
    """

    study: optuna.Study
    base: Recipe
    space: Mapping[str, Range]
    seed: int

    def recover(self) -> list[FrozenTrial]:
        """Mark the trials of a killed process as failed, and enqueue each of their recipes once more.

        Call it only if no other process uses the study.

        Returns:
            The failed trials.
        """
        failed = self.study.get_trials(states=(TrialState.RUNNING,))
        for trial in failed:
            self.study.tell(trial.number, state=TrialState.FAIL)
            # A trial that failed twice can be the cause of the crash.
            if trial.params.keys() == self.space.keys() and _RETRY not in trial.user_attrs:
                self.study.enqueue_trial(trial.params, user_attrs={_RETRY: trial.number})
        return failed

    def search(
        self, evaluate: Callable[[Trial, Recipe], float | None], *, trials: int, timeout_seconds: float | None = None
    ) -> int:
        """Evaluate recipes, the base first, until the study has `trials` trials.

        Args:
            evaluate: Returns the value of a recipe, or None if it pruned the trial (`Trial.should_prune`). An exception
                ends the search: an error fails the trial, an interruption leaves it to `recover`.
            trials: Total number of trials, including earlier calls.
            timeout_seconds: After this time, no trial starts, except that of the base.

        Returns:
            Number of trials of this call.
        """
        started, done, base = time.monotonic(), 0, self._base_params()
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not self._has_base() and not any(trial.system_attrs.get("fixed_params") == base for trial in waiting):
            self.study.enqueue_trial(base)
        while not (has_base := self._has_base()) or self.finished < trials:
            if has_base and timeout_seconds is not None and time.monotonic() - started >= timeout_seconds:
                break
            # A seed for each trial: with one seed, a resumed process would repeat its first suggestions.
            retries = sum(_RETRY in trial.user_attrs for trial in self.study.trials)
            self.study.sampler = TPESampler(seed=self.seed + len(self.study.trials) - retries)
            trial = self.study.ask()
            recipe = suggest(trial, self.base, self.space)
            try:
                value = evaluate(trial, recipe)
            except Exception:
                self.study.tell(trial, state=TrialState.FAIL)
                raise
            self.study.tell(trial, value, state=TrialState.PRUNED if value is None else None)
            done += 1
        return done

    @property
    def finished(self) -> int:
        """Number of completed and pruned trials."""
        return len(self.study.get_trials(deepcopy=False, states=_FINISHED))

    @property
    def best(self) -> FrozenTrial:
        """The trial with the highest value; the earliest of equal ones."""
        complete = self.study.get_trials(states=(TrialState.COMPLETE,))
        return max(complete, key=lambda trial: (trial.value, -trial.number))

    @property
    def base_trial(self) -> FrozenTrial:
        """The trial of the active recipe.

        Raises:
            LookupError: There is no such trial yet.
        """
        for trial in self.study.get_trials(states=(TrialState.COMPLETE,)):
            if self.is_base(trial):
                return trial
        raise LookupError(f"study {self.study.study_name}: the active recipe has no trial yet")

    def importance(self) -> pd.Series:
        """Importance of each hyper-parameter, descending, as shares; empty with fewer than 5 different values."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.value for trial in complete}) < 5:
            return pd.Series(dtype=float)
        return pd.Series(optuna.importance.get_param_importances(self.study)).sort_values(ascending=False)

    def is_base(self, trial: Trial | FrozenTrial) -> bool:
        """Whether this is the trial of the active recipe."""
        return trial.params == self._base_params()

    def _base_params(self) -> dict[str, Any]:
        values = self.base.fields()
        return {name: values[name] for name in self.space}

    def _has_base(self) -> bool:
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return any(map(self.is_base, complete))


def open_study(file: Path, name: str, *, base: Recipe, space: Mapping[str, Range], seed: int) -> RecipeStudy:
    """Open a study in an SQLite file; creates the study and the file if needed."""
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
