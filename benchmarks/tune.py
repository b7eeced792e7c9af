"""`python -m benchmarks.tune`: choose the hyper-parameters of every peer and write them to tuned.yaml."""

from __future__ import annotations

from collections.abc import Sequence

import click

from benchmarks.datasets import DatasetMissing
from benchmarks.models import HYBRID, MODELS
from benchmarks.protocols import TUNING, Split
from benchmarks.tuning import read_chosen, search, write_chosen


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
            if model.name == HYBRID or (only and model.name not in only):
                continue
            for group in by_lines([split for split in splits if model.answers(split)]):
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
