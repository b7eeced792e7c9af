"""`python -m benchmarks.ablation`: the hybrid without one source of candidates, or one group of features, at a time.

What is missed when a part is taken away is what it adds to all the others; two parts that say the same hide each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.datasets import DatasetMissing, amazon_beauty, complete_journey
from benchmarks.hybrid import Hybrid
from benchmarks.models import HYBRID
from benchmarks.protocols import KS, REPORTED, Split, journey_splits, leave_one_out
from benchmarks.running import SEED
from benchmarks.tuning import read_chosen
from rec_assets.recsys.evaluation.metrics import paired_bootstrap_difference, ranking_metrics
from rec_assets.recsys.features import FEATURE_GROUPS

RESULTS = Path(__file__).with_name("results") / "ablation.csv"

SOURCES: Mapping[str, str] = {
    "als": "als",
    "co_purchase": "co_purchase",
    "same_customer": "same_customer",
    "content": "content",
    "category": "category_popular",
    "popular": "popular",
}
"""Source of candidates → its size in the recipe. Left with one candidate each, the least a recipe allows."""

METRICS = ("ndcg@10", "hit_rate@10")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the hybrid whole and without each part, on the reported day and on Amazon Beauty as published."""
    RESULTS.parent.mkdir(exist_ok=True)
    tables: list[pd.DataFrame] = []
    for make in (
        lambda: journey_splits(*complete_journey(), REPORTED),
        lambda: [leave_one_out(*amazon_beauty())],
    ):
        try:
            splits = make()
        except DatasetMissing as error:
            click.echo(f"skipped: {error}", err=True)
            continue
        for table in ablate(splits):
            tables.append(table)
            pd.concat(tables).to_csv(RESULTS, index=False)
            click.echo(table.to_string(index=False, header=len(tables) == 1))


def ablate(splits: list[Split]) -> Iterator[pd.DataFrame]:
    """Splits with the same lines: dataset, protocol, without, metric, value, and what is lost with its interval."""
    values = read_chosen().get(splits[0].dataset, {}).get(splits[0].task, {}).get(HYBRID, {})
    model = Hybrid(**values).learn(splits[0].lines, splits[0].products).find()
    whole = _measured(model.rank(), splits)
    yield _table("nothing", whole, whole, splits)
    for group, features in tqdm(FEATURE_GROUPS.items(), desc=f"{splits[0].dataset}, features"):
        yield _table(f"features of {group}", _measured(model.rank(without=features), splits), whole, splits)
    for source, size in tqdm(SOURCES.items(), desc=f"{splits[0].dataset}, candidates"):
        yield _table(f"candidates of {source}", _measured(model.find(**{size: 1}).rank(), splits), whole, splits)


def _measured(model: Hybrid, splits: list[Split]) -> list[pd.DataFrame]:
    """By split, the metrics of each customer."""
    return [
        ranking_metrics(
            model.top(np.sort(split.truth["customer_id"].unique()), max(KS[split.task]), split.exclude_bought),
            split.truth,
            KS[split.task],
        )
        for split in splits
    ]


def _table(without: str, found: list[pd.DataFrame], whole: list[pd.DataFrame], splits: list[Split]) -> pd.DataFrame:
    rows = []
    for split, ours, full in zip(splits, found, whole, strict=True):
        for metric in METRICS:
            lost = paired_bootstrap_difference(full[metric], ours[metric], seed=SEED)
            ends = [round(float(end), 5) for end in lost]
            rows.append((split.dataset, split.protocol, without, metric, round(ours[metric].mean(), 5), *ends))
    return pd.DataFrame(
        rows, columns=["dataset", "protocol", "without", "metric", "value", "lost", "ci_low", "ci_high"]
    )


if __name__ == "__main__":
    main()
