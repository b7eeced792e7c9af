"""Baselines: what each single source would have recommended, read back from the candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rec_assets.recsys.ranking.hybrid import ALL, DISCOVER, popular_lists

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

POPULARITY, RECENT = "popularity", "recent popularity"

BASELINES: dict[str, str] = {
    POPULARITY: "The best sellers of the lookback, the same for everybody.",
    RECENT: "The best sellers of the last two weeks, the same for everybody.",
    "own purchases": "What the customer bought before, each order counting less the older it is.",
    "ALS alone": "Matrix factorisation: what customers with a similar history buy.",
    "co-purchase alone": "What is bought on one day with, or in the next order after, the customer's products.",
    "EASE alone": "What the customers of the customer's products buy too, of the products with most buyers.",
    "content alone": "Products whose texts are most like the customer's purchases.",
}
"""Name → one sentence for the reader of a report."""


def _scores(candidates: pd.DataFrame) -> dict[str, pd.Series]:
    return {
        POPULARITY: candidates["popularity"],
        RECENT: candidates["recent_popularity"],
        "own purchases": candidates["own_score"],
        "ALS alone": candidates["als_score"],
        "co-purchase alone": candidates["same_basket"] + candidates["next_basket"],
        "EASE alone": candidates["same_customer"],
        "content alone": candidates["content"],
    }


def baseline_lists(candidates: pd.DataFrame, depth: int) -> pd.DataFrame:
    """Each baseline's lists for the customers in `candidates`; ties go to the better seller, then to the lower id.

    Returns:
        model, list, customer_id, product_id, rank (from 1 to depth). "own purchases" has nothing to discover and
        gives the list "all" only.
    """
    bought = (candidates["own_orders"] > 0).to_numpy()
    customer, _ = pd.factorize(candidates["customer_id"], sort=True)
    product, _ = pd.factorize(candidates["product_id"], sort=True)
    frames = []
    for model, score in _scores(candidates).items():
        value = score.to_numpy()
        order = np.lexsort((product, -candidates["popularity"].to_numpy(), -value, customer))
        order = order[value[order] > 0]
        for name, rows in ((ALL, order), (DISCOVER, order[~bought[order]])):
            starts = np.searchsorted(customer[rows], customer[rows])
            rank = np.arange(len(rows)) - starts
            top = rank < depth
            chosen = candidates.iloc[rows[top]][["customer_id", "product_id"]]
            frames.append(chosen.assign(model=model, list=name, rank=(rank[top] + 1).astype(np.int32)))
    return pd.concat(frames, ignore_index=True)[["model", "list", "customer_id", "product_id", "rank"]]


def baseline_lists_in_spark(candidates: DataFrame, depth: int) -> DataFrame:
    """`baseline_lists` for every customer."""
    from rec_assets.recsys.ranking.scoring import by_customers

    types = "model string, list string, customer_id string, product_id string, rank int"
    return by_customers(candidates, lambda rows: baseline_lists(rows, depth), types).to_spark()


def fallback_lists(statistics: pd.DataFrame, categories: pd.Series, size: int, reference: str) -> pd.DataFrame:
    """What each model shows a customer without history: model, product_id, rank.

    The reference shows what most customers bought lately; the personal baselines have nothing to say and show nothing.
    """
    counts = {reference: None, RECENT: "recent_orders", POPULARITY: "orders"}
    lists = [popular_lists(statistics, categories, size, by=by).assign(model=model) for model, by in counts.items()]
    return pd.concat(lists, ignore_index=True)[["model", "product_id", "rank"]]
