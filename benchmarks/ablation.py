"""`python -m benchmarks.ablation`: the hybrid without one candidate source or feature group, or with another choice.

The loss without a part is what the part adds to all the others. If two parts carry the same information, neither loss
shows it.
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
from benchmarks.tune import read_chosen
from rec_assets.recsys.evaluation.bootstrap import paired_bootstrap_difference
from rec_assets.recsys.evaluation.metrics import ranking_metrics
from rec_assets.recsys.ranking.features import FEATURE_GROUPS
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.sources import SOURCES

RESULTS = Path(__file__).with_name("results") / "ablation.csv"

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
        "histories decayed by days alone": {"candidates.profile_order_decay": 1.0},
        "transitions to the next order alone": {"co_purchase.next_orders": 1},
    },
}
"""Dataset → description of an alternative → the recipe fields that differ."""

METRICS = ("ndcg@10", "hit_rate@10")

CUSTOMERS = 5000
"""Maximum number of customers, a random sample. Paired comparisons need no more."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the hybrid with all parts and with each change, on the reported day and on Amazon Beauty as published."""
    RESULTS.parent.mkdir(exist_ok=True)
    tables: list[pd.DataFrame] = []
    for make in (lambda: journey_splits(*complete_journey(), REPORTED), lambda: [leave_one_out(*amazon_beauty())]):
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
    """Compare each change with the full model.

    Args:
        splits: Splits with the same lines.

    Yields:
        dataset, protocol, changed, metric, value, and what is lost compared with the full model, with its interval.
    """
    dataset, lines, products = splits[0].dataset, splits[0].lines, splits[0].products
    values = read_chosen().get(dataset, {}).get(splits[0].task, {}).get(HYBRID, {})
    splits = [_sample_customers(split) for split in splits]
    wanted = pd.concat([split.truth["customer_id"] for split in splits]).unique()
    model = Hybrid(**values).train(lines, products).find_candidates(wanted)
    full = _measure(model.rank(), splits)
    yield _table("nothing", full, full, splits)
    for group, features in tqdm(FEATURE_GROUPS.items(), desc=f"{dataset}, features"):
        yield _table(f"without features of {group}", _measure(model.rank(without=features), splits), full, splits)
    recipe = Recipe().with_fields(values.get("recipe", {}))
    for source in tqdm(proposing_sources(recipe), desc=f"{dataset}, candidates"):
        metrics = _measure(model.find_candidates(wanted, **{source: 1}).rank(), splits)
        yield _table(f"without candidates of {source}", metrics, full, splits)
    for choice, fields in tqdm(CHOICES[dataset].items(), desc=f"{dataset}, choices"):
        other = Hybrid(**{**values, "recipe": {**values.get("recipe", {}), **fields}}).train(lines, products)
        yield _table(choice, _measure(other.find_candidates(wanted).rank(), splits), full, splits)


def proposing_sources(recipe: Recipe) -> list[str]:
    """The candidate sources to leave out: those that can be reduced to one candidate, the least that recipes allow."""
    return [source.name for source in SOURCES if source.size(recipe) > 1]


def _sample_customers(split: Split) -> Split:
    """The split with a sample of its customers, the same one for all changes."""
    customers = split.truth["customer_id"].drop_duplicates().sort_values()
    chosen = customers.sample(min(CUSTOMERS, len(customers)), random_state=SEED)
    return replace(split, truth=split.truth[split.truth["customer_id"].isin(chosen)].reset_index(drop=True))


def _measure(model: Hybrid, splits: list[Split]) -> list[pd.DataFrame]:
    """The metrics of each customer, by split."""
    return [
        ranking_metrics(
            model.top(np.sort(split.truth["customer_id"].unique()), max(KS[split.task]), split.exclude_bought),
            split.truth,
            KS[split.task],
        )
        for split in splits
    ]


def _table(changed: str, ablated: list[pd.DataFrame], full: list[pd.DataFrame], splits: list[Split]) -> pd.DataFrame:
    rows = []
    for split, without, complete in zip(splits, ablated, full, strict=True):
        for metric in METRICS:
            lost = paired_bootstrap_difference(complete[metric], without[metric], seed=SEED)
            ends = [round(float(end), 5) for end in lost]
            rows.append((split.dataset, split.protocol, changed, metric, round(without[metric].mean(), 5), *ends))
    return pd.DataFrame(
        rows, columns=["dataset", "protocol", "changed", "metric", "value", "lost", "ci_low", "ci_high"]
    )


if __name__ == "__main__":
    main()
