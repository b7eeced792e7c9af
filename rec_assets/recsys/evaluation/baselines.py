"""Baselines: the lists that each candidate source alone would recommend, read from the candidates."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from rec_assets.recsys.ranking.lists import ALL, DISCOVER, popular_lists
from rec_assets.recsys.retrieval.sources import SOURCES
from rec_assets.recsys.spark.customers import map_customers

_BASELINES = sorted(
    (baseline for source in SOURCES for baseline in source.baselines), key=lambda baseline: not baseline.popular_by
)
"""The ones that are the same for all customers first."""

BASELINES: dict[str, str] = {baseline.name: baseline.description for baseline in _BASELINES}
"""Name → one sentence for the reader of a report."""


def baseline_lists(candidates: pd.DataFrame, depth: int) -> pd.DataFrame:
    """The lists of each baseline for the customers in `candidates`; ties go to the better seller, then the lower id.

    A baseline is left out if the candidates were made before its source existed, and so lack its columns.

    Returns:
        model, list, customer_id, product_id, rank (from 1 to depth). "own purchases" has no list "discover".
    """
    bought = (candidates["repeat_order_lines"] > 0).to_numpy()
    customer, _ = pd.factorize(candidates["customer_id"], sort=True)
    product, _ = pd.factorize(candidates["product_id"], sort=True)
    frames = []
    for baseline in (each for each in _BASELINES if set(each.columns) <= set(candidates)):
        first, *others = baseline.columns
        score = sum((candidates[column] for column in others), candidates[first]).to_numpy()
        order = np.lexsort((product, -candidates["popularity"].to_numpy(), -score, customer))
        order = order[score[order] > 0]
        for name, rows in ((ALL, order), (DISCOVER, order[~bought[order]])):
            rank = np.arange(len(rows)) - np.searchsorted(customer[rows], customer[rows])
            top = rank < depth
            chosen = candidates.iloc[rows[top]][["customer_id", "product_id"]]
            frames.append(chosen.assign(model=baseline.name, list=name, rank=(rank[top] + 1).astype(np.int32)))
    return pd.concat(frames, ignore_index=True)[["model", "list", "customer_id", "product_id", "rank"]]


def baseline_lists_in_spark(candidates: DataFrame, depth: int) -> DataFrame:
    """`baseline_lists` for every customer."""
    types = "model string, list string, customer_id string, product_id string, rank int"
    return map_customers(candidates, lambda rows: baseline_lists(rows, depth), types).to_spark()


def fallback_lists(products: pd.DataFrame, size: int, reference: str) -> pd.DataFrame:
    """The list that each model shows to a customer without a history: model, product_id, rank.

    The model named `reference` shows the products with most recent buyers. Baselines that need a history show nothing.
    `products`: see `popular_lists`.
    """
    ranked_by = {reference: "recent_buyers", **{each.name: each.popular_by for each in _BASELINES if each.popular_by}}
    lists = [popular_lists(products, size, by=by).assign(model=model) for model, by in ranked_by.items()]
    return pd.concat(lists, ignore_index=True)[["model", "product_id", "rank"]]
