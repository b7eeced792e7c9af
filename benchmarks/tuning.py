"""The search for each peer's hyper-parameters, and the file that holds what was chosen.

All models get the same number of trials. So few are drawn at random (seeded), the first being the literature's
values: an adaptive sampler would do the same before it has ten trials to learn from. Random trials can be judged on
all tasks that share their lines at once, and each task takes the best of them for itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import yaml
from optuna.samplers import RandomSampler
from tqdm import tqdm

from benchmarks.models import Model
from benchmarks.protocols import COLD, Split
from rec_assets.recsys.evaluation.metrics import ranking_metrics

TUNED = Path(__file__).with_name("tuned.yaml")
TRIALS = 10
SEED = 2017

CUSTOMERS = {"complete_journey": 500, "amazon_beauty": 3000}
"""So many customers, drawn once, judge the trials of all models."""

Chosen = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""Dataset → task → model → hyper-parameters."""


def read_chosen(path: Path = TUNED) -> Chosen:
    """What was chosen so far; empty without a file."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_chosen(chosen: Mapping[str, Any], path: Path = TUNED) -> None:
    """Write all that was chosen, sorted."""
    head = (
        "# The peers' values: chosen by `make bench-tune`, on days and items before those that are reported.\n"
        "# The hybrid's: by hand, on the validation item.\n"
    )
    path.write_text(head + yaml.safe_dump(chosen, sort_keys=True), encoding="utf-8")


def objective(task: str) -> tuple[str, int]:
    """The column of `ranking_metrics` to be raised, and the depth of the lists."""
    return ("hit_rate@50", 50) if task == COLD else ("ndcg@10", 10)


def search(model: Model, splits: Sequence[Split], *, trials: int = TRIALS) -> dict[str, dict[str, Any]]:
    """The best hyper-parameters of one model by task.

    Args:
        model: Judged on those of the splits that it answers.
        splits: All of one dataset and with the same lines.
        trials: How many sets of values are judged.
    """
    asked = [split for split in splits if model.answers(split)]
    cls = model.load()
    space = cls.space(asked[0].dataset)
    if not space:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=SEED), directions=["maximize"] * len(asked))
    built = model.build(asked[0].dataset, {})
    study.enqueue_trial({name: getattr(built, name) for name in space})
    for _ in tqdm(range(trials), desc=model.name, mininterval=1):
        trial = study.ask(dict(space))
        peer = model.build(asked[0].dataset, trial.params).fit(asked[0].lines, asked[0].products)
        study.tell(trial, [_value(peer, split) for split in asked])
    best = {}
    for place, split in enumerate(asked):
        value, winner = max(
            ((done.values[place], done) for done in study.trials), key=lambda pair: (pair[0], -pair[1].number)
        )
        best[split.task] = {name: _rounded(chosen) for name, chosen in winner.params.items()}
        tqdm.write(f"{split.dataset}, {split.task}, {model.name}: {value:.4f} {best[split.task]}", file=sys.stderr)
    return best


def _value(peer: Any, split: Split) -> float:
    column, depth = objective(split.task)
    customers = np.sort(split.truth["customer_id"].unique())
    size = min(CUSTOMERS[split.dataset], len(customers))
    sample = np.random.default_rng(SEED).choice(customers, size, replace=False)
    truth: pd.DataFrame = split.truth[split.truth["customer_id"].isin(sample)]
    lists = peer.top(sample, depth, split.exclude_bought)
    return float(ranking_metrics(lists, truth, [depth])[column].mean())


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
