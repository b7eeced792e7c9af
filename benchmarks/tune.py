"""`python -m benchmarks.tune`: choose the hyper-parameters of every peer by random search; writes tuned.yaml.

All models get the same number of trials, the first with the values of the literature. With so few trials, an adaptive
sampler would be random, too. Random trials can be evaluated on all tasks with the same lines at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import pandas as pd
import yaml
from optuna.samplers import RandomSampler
from tqdm import tqdm

from benchmarks.datasets import DatasetMissing
from benchmarks.models import HYBRID, MODELS, UNTUNED, Model
from benchmarks.protocols import COLD, TUNING, Split
from rec_assets.recsys.evaluation.metrics import ranking_metrics

TUNED = Path(__file__).with_name("tuned.yaml")
TRIALS = 10
SEED = 2017

CUSTOMERS = {"complete_journey": 500, "amazon_beauty": 3000, "fashion_shop": 2000}
"""Number of sampled customers on which the trials of all models are evaluated."""

Chosen = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""Dataset → task → model → hyper-parameters."""


def read_chosen(path: Path = TUNED) -> Chosen:
    """The chosen hyper-parameters; empty without a file."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_chosen(chosen: Mapping[str, Any], path: Path = TUNED) -> None:
    """Write the chosen hyper-parameters, sorted."""
    head = (
        "# Values of the peers: chosen by `make bench-tune`, on days and items before the reported ones.\n"
        "# Values of the hybrid: chosen by hand, on the validation item.\n"
    )
    path.write_text(head + yaml.safe_dump(chosen, sort_keys=True), encoding="utf-8")


def objective(task: str) -> tuple[str, int]:
    """The column of `ranking_metrics` to maximize, and the length of the lists."""
    return ("hit_rate@50", 50) if task == COLD else ("ndcg@10", 10)


def search(model: Model, splits: Sequence[Split], *, trials: int = TRIALS) -> dict[str, dict[str, Any]]:
    """Task → the best hyper-parameters of one model.

    Args:
        model: Evaluated on the splits that it supports.
        splits: Of one data set, with the same lines.
        trials: Number of trials.
    """
    asked = [split for split in splits if model.runs_on(split)]
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
    for number, split in enumerate(asked):
        value, winner = max(
            ((done.values[number], done) for done in study.trials), key=lambda pair: (pair[0], -pair[1].number)
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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, help="Only this model; can be repeated.")
@click.option("--dataset", "datasets", multiple=True, type=click.Choice(list(TUNING)), help="Only this dataset.")
def main(only: Sequence[str], datasets: Sequence[str]) -> None:
    """Choose the hyper-parameters of every peer. Those of the hybrid are chosen by hand."""
    for dataset in datasets or TUNING:
        try:
            splits = TUNING[dataset]()
        except DatasetMissing as error:
            click.echo(f"skipped: {error}", err=True)
            continue
        for model in MODELS:
            if model.name in (HYBRID, UNTUNED) or (only and model.name not in only):
                continue
            for group in by_lines([split for split in splits if model.runs_on(split)]):
                try:
                    best = search(model, group)
                except ModuleNotFoundError as error:
                    click.echo(f"skipped: {model.name}: {error}", err=True)
                    continue
                chosen = read_chosen()
                for task, values in best.items():
                    chosen.setdefault(dataset, {}).setdefault(task, {})[model.name] = values
                write_chosen(chosen)


def by_lines(splits: Sequence[Split]) -> list[list[Split]]:
    """Groups of splits with the same lines, which share a fitted model."""
    groups: dict[int, list[Split]] = {}
    for split in splits:
        groups.setdefault(id(split.lines), []).append(split)
    return list(groups.values())


if __name__ == "__main__":
    main()
