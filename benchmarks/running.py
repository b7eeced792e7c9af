"""One run of the benchmark: every model on every split, means with intervals, and the hybrid against the best peer.

Values of single customers are kept in `CACHE`, so that models measured in different runs can be compared in pairs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.models import HYBRID, Model
from benchmarks.protocols import KS, Split
from rec_assets.recsys.evaluation.metrics import bootstrap_interval, paired_bootstrap_difference, ranking_metrics

CACHE = Path(__file__).with_name(".cache") / "customers"
SEED = 1

COMPARED = ("ndcg", "hit_rate")
"""The hybrid is compared with the best peer in these metrics."""

COLUMNS = ["dataset", "protocol", "model", "metric", "k", "value", "ci_low", "ci_high", "customers", "fit_seconds"]
KEY = ["dataset", "protocol", "model"]


def measure(model: Model, splits: Sequence[Split], chosen: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Results of one model, protocol by protocol, as soon as each is there.

    Args:
        model: Asked for all the splits.
        splits: Those of one protocol stand together.
        chosen: Dataset → task → model → hyper-parameters.

    Yields:
        `COLUMNS`: metrics of `ranking_metrics` at the depths of the task, with 95 % bootstrap intervals over customers.
        Where a protocol has several splits, values are means over them, customer by customer.
    """
    fitted: tuple[Any, ...] = ()
    peer, seconds = None, 0.0
    for (dataset, protocol), members in groupby(
        tqdm(splits, desc=model.name, mininterval=1), key=lambda split: (split.dataset, split.protocol)
    ):
        tables, times = [], []
        for split in members:
            values = chosen.get(dataset, {}).get(split.task, {}).get(model.name, {})
            if fitted != (id(split.lines), values):
                start = time.perf_counter()
                peer = model.build(dataset, values).fit(split.lines, split.products)
                seconds, fitted = time.perf_counter() - start, (id(split.lines), values)
            assert peer is not None
            customers = np.sort(split.truth["customer_id"].unique())
            lists = peer.top(customers, max(KS[split.task]), split.exclude_bought)
            tables.append(ranking_metrics(lists, split.truth, KS[split.task]))
            times.append(seconds)
        by_customer = pd.concat(tables).groupby(level=0).mean() if len(tables) > 1 else tables[0]
        file = customer_file(dataset, protocol, model.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        by_customer.to_parquet(file)
        yield _summary(by_customer).assign(
            dataset=dataset, protocol=protocol, model=model.name, fit_seconds=round(float(np.mean(times)), 1)
        )[COLUMNS]


def customer_file(dataset: str, protocol: str, model: str) -> Path:
    """Where the values of single customers are kept."""
    return CACHE / dataset / protocol / f"{model}.parquet"


def _summary(by_customer: pd.DataFrame) -> pd.DataFrame:
    mean, low, high = bootstrap_interval(by_customer, seed=SEED)
    names = by_customer.columns.str.split("@")
    return pd.DataFrame(
        {
            "metric": names.str[0],
            "k": names.str[1].astype(int),
            "value": mean.round(5),
            "ci_low": low.round(5),
            "ci_high": high.round(5),
            "customers": len(by_customer),
        }
    )


def merge(results: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """All results, in which those of the models and protocols measured again are replaced."""
    if results.empty:
        return new
    again = pd.MultiIndex.from_frame(results[KEY]).isin(pd.MultiIndex.from_frame(new[KEY]))
    return pd.concat([results[~again], new], ignore_index=True)


def versus_best_peer(results: pd.DataFrame) -> pd.DataFrame:
    """Hybrid − best peer of each protocol, paired by customer, in NDCG and hit rate at the depth of the headline.

    The best peer is the one that turned out best on the very purchases that are judged: a little luck is on its side.

    Args:
        results: `COLUMNS`, measured here; the customers' values are read from `CACHE`.

    Returns:
        dataset, protocol, peer, metric, k, value (the difference), ci_low, ci_high, relative (value over the peer's
        mean), customers; empty where no protocol has the hybrid and a peer.
    """
    rows = []
    for (dataset, protocol), part in results.groupby(["dataset", "protocol"], sort=False):
        for metric in COMPARED:
            k = 10 if part["k"].max() <= 20 else 50
            means = part[(part["metric"] == metric) & (part["k"] == k)].set_index("model")["value"]
            peers = means.drop(HYBRID, errors="ignore")
            if peers.empty or HYBRID not in means:
                continue
            best = str(peers.idxmax())
            both = [
                _of_customers(customer_file(str(dataset), str(protocol), model), f"{metric}@{k}", means[model])
                for model in (HYBRID, best)
            ]
            if both[0] is None or both[1] is None:
                tqdm.write(f"not compared, {dataset}, {protocol}: measure hybrid and {best!r} here", file=sys.stderr)
                continue
            interval = paired_bootstrap_difference(both[0], both[1].reindex(both[0].index), seed=SEED)
            value, low, high = (round(float(end), 5) for end in interval)
            relative = round(value / means[best], 4)
            rows.append((dataset, protocol, best, metric, k, value, low, high, relative, len(both[0])))
    columns = ["dataset", "protocol", "peer", "metric", "k", "value", "ci_low", "ci_high", "relative", "customers"]
    return pd.DataFrame(rows, columns=columns)


def _of_customers(file: Path, column: str, mean: float) -> pd.Series | None:
    """Values of single customers; None if they are not there or not those of the mean in the results."""
    if not file.is_file():
        return None
    values = pd.read_parquet(file)[column]
    return values if abs(values.mean() - mean) < 1e-5 else None
