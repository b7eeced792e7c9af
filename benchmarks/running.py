"""A benchmark run: measure every model on every split, and compare the hybrid with the best peer.

Values of single customers are stored in `CACHE`, so that models from different runs can be compared in pairs.
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

from benchmarks.models import HYBRID, UNTUNED, Model
from benchmarks.protocols import KS, Split
from rec_assets.recsys.evaluation.bootstrap import bootstrap_interval, paired_bootstrap_difference
from rec_assets.recsys.evaluation.metrics import ranking_metrics

CACHE = Path(__file__).with_name(".cache") / "customers"
SEED = 1

COMPARED = ("ndcg", "hit_rate")
"""The hybrid is compared with the best peer in these metrics."""

COLUMNS = ["dataset", "protocol", "model", "metric", "k", "value", "ci_low", "ci_high", "customers", "fit_seconds"]
KEY = ["dataset", "protocol", "model"]


def measure(model: Model, splits: Sequence[Split], chosen: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Measure one model, one protocol after the other.

    Args:
        model: The model; it must support all the splits.
        splits: Sorted by protocol.
        chosen: Dataset → task → model → hyper-parameters.

    Yields:
        `COLUMNS`: metrics of `ranking_metrics` for the list lengths of the task, with 95 % bootstrap intervals over
        customers. If a protocol has several splits, the values of each customer are means over them.
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
    """The file of the values of single customers."""
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
    """All results; new ones replace those of the same models and protocols."""
    if results.empty:
        return new
    again = pd.MultiIndex.from_frame(results[KEY]).isin(pd.MultiIndex.from_frame(new[KEY]))
    return pd.concat([results[~again], new], ignore_index=True)


def versus_best_peer(results: pd.DataFrame) -> pd.DataFrame:
    """Hybrid − best peer of each protocol, paired by customer, in NDCG and hit rate.

    The best peer is chosen on the evaluated purchases, which favors it a little.

    Args:
        results: `COLUMNS`. The values of single customers are read from `CACHE`.

    Returns:
        dataset, protocol, peer, metric, k, value (the difference), ci_low, ci_high, relative (value over the peer's
        mean), customers; empty if no protocol has the hybrid and a peer.
    """
    rows = []
    for (dataset, protocol), part in results.groupby(["dataset", "protocol"], sort=False):
        for metric in COMPARED:
            k = 10 if part["k"].max() <= 20 else 50
            means = part[(part["metric"] == metric) & (part["k"] == k)].set_index("model")["value"]
            peers = means.drop([HYBRID, UNTUNED], errors="ignore")
            if peers.empty or HYBRID not in means:
                continue
            best = str(peers.idxmax())
            both = [
                _of_customers(customer_file(str(dataset), str(protocol), model), f"{metric}@{k}", means[model])
                for model in (HYBRID, best)
            ]
            if both[0] is None or both[1] is None:
                tqdm.write(f"not compared: {dataset}, {protocol}: measure hybrid and {best!r} here", file=sys.stderr)
                continue
            interval = paired_bootstrap_difference(both[0], both[1].reindex(both[0].index), seed=SEED)
            value, low, high = (round(float(end), 5) for end in interval)
            relative = round(value / means[best], 4)
            rows.append((dataset, protocol, best, metric, k, value, low, high, relative, len(both[0])))
    columns = ["dataset", "protocol", "peer", "metric", "k", "value", "ci_low", "ci_high", "relative", "customers"]
    return pd.DataFrame(rows, columns=columns)


def _of_customers(file: Path, column: str, mean: float) -> pd.Series | None:
    """Values of single customers; None if they are missing or do not have the mean of the results."""
    if not file.is_file():
        return None
    values = pd.read_parquet(file)[column]
    return values if abs(values.mean() - mean) < 1e-5 else None
