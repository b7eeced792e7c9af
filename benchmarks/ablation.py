"""`python -m benchmarks.ablation`: the hybrid without one source of candidates or one group of features, or with one
other choice, at a time.

What is missed when a part is taken away is what it adds to all the others; two parts that say the same hide each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.datasets import BEAUTY, JOURNEY, DatasetMissing, amazon_beauty, complete_journey
from benchmarks.hybrid import Hybrid
from benchmarks.models import HYBRID
from benchmarks.protocols import KS, REPORTED, Split, journey_splits, leave_one_out
from benchmarks.running import SEED
from benchmarks.tuning import read_chosen
from rec_assets.recsys.evaluation.metrics import paired_bootstrap_difference, ranking_metrics
from rec_assets.recsys.ranking.features import FEATURE_GROUPS
from rec_assets.recsys.recipe import Recipe

RESULTS = Path(__file__).with_name("results") / "ablation.csv"

SOURCES: Mapping[str, str] = {
    "als": "als",
    "co_purchase": "co_purchase",
    "same_customer": "same_customer",
    "content": "content",
    "category": "category_popular",
    "popular": "popular",
    "new": "new",
}
"""Source of candidates → its size in the recipe. Left with one candidate each, which is the least that most allow."""

CHOICES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    JOURNEY: {
        "trees of depth 6, rate .06": {
            "ranker.max_depth": 6,
            "ranker.learning_rate": 0.06,
            "ranker.min_child_weight": 20.0,
            "ranker.column_sample": 0.6,
            "ranker.l2": 5.0,
        },
        "ALS with a half-life of 120 days": {"als.half_life_days": 120.0},
    },
    BEAUTY: {
        "histories decayed by days alone": {"candidates.history_order_decay": 1.0},
        "transitions to the next order alone": {"co_purchase.next_orders": 1},
    },
}
"""By dataset, other choices of the recipe that were weighed: in words → the fields that differ."""

METRICS = ("ndcg@10", "hit_rate@10")

CUSTOMERS = 5000
"""So many customers at most, drawn at random, judge the changes: compared in pairs, they are enough."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the hybrid whole and with each change, on the reported day and on Amazon Beauty as published."""
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
    """Splits with the same lines: dataset, protocol, changed, metric, value, and what is lost with its interval."""
    dataset, lines, products = splits[0].dataset, splits[0].lines, splits[0].products
    values = read_chosen().get(dataset, {}).get(splits[0].task, {}).get(HYBRID, {})
    splits = [_of_some(split) for split in splits]
    wanted = pd.concat([split.truth["customer_id"] for split in splits]).unique()
    model = Hybrid(**values).learn(lines, products).find(wanted)
    whole = _measured(model.rank(), splits)
    yield _table("nothing", whole, whole, splits)
    for group, features in tqdm(FEATURE_GROUPS.items(), desc=f"{dataset}, features"):
        yield _table(f"without features of {group}", _measured(model.rank(without=features), splits), whole, splits)
    sizes = Recipe().with_fields(values.get("recipe", {})).candidates
    sources = {source: size for source, size in SOURCES.items() if getattr(sizes, size) > 1}
    for source, size in tqdm(sources.items(), desc=f"{dataset}, candidates"):
        found = _measured(model.find(wanted, **{size: 1}).rank(), splits)
        yield _table(f"without candidates of {source}", found, whole, splits)
    for choice, fields in tqdm(CHOICES[dataset].items(), desc=f"{dataset}, choices"):
        other = Hybrid(**{**values, "recipe": {**values.get("recipe", {}), **fields}}).learn(lines, products)
        yield _table(choice, _measured(other.find(wanted).rank(), splits), whole, splits)


def _of_some(split: Split) -> Split:
    """The question put to a sample of its customers, drawn once for all changes."""
    customers = split.truth["customer_id"].drop_duplicates().sort_values()
    chosen = customers.sample(min(CUSTOMERS, len(customers)), random_state=SEED)
    return replace(split, truth=split.truth[split.truth["customer_id"].isin(chosen)].reset_index(drop=True))


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


def _table(changed: str, found: list[pd.DataFrame], whole: list[pd.DataFrame], splits: list[Split]) -> pd.DataFrame:
    rows = []
    for split, ours, full in zip(splits, found, whole, strict=True):
        for metric in METRICS:
            lost = paired_bootstrap_difference(full[metric], ours[metric], seed=SEED)
            ends = [round(float(end), 5) for end in lost]
            rows.append((split.dataset, split.protocol, changed, metric, round(ours[metric].mean(), 5), *ends))
    return pd.DataFrame(
        rows, columns=["dataset", "protocol", "changed", "metric", "value", "lost", "ci_low", "ci_high"]
    )


if __name__ == "__main__":
    main()
