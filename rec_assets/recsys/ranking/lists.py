"""Recommendation lists: candidates ranked by the ranker and by merchandising rules, each item with its reason."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rec_assets.recsys.ranking.features import FEATURES, feature_matrix
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.ranking.reasons import explain
from rec_assets.recsys.retrieval.candidates import ANCHOR_COLUMNS
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.rules.effects import ScoredCandidates
from rec_assets.recsys.rules.rerank import rerank

ALL, DISCOVER = "all", "discover"
LISTS = (ALL, DISCOVER)
"""Names of a customer's lists: the best candidates, and the best of those not bought in the lookback."""

LIST_COLUMNS = ("customer_id", "list", "rank", "product_id", "score", "source", "reason", "rule")

PINNED, PINNED_REASON = "pinned", "a pick of the shop"
"""Source and reason of a product that a rule pins for a customer for whom it is no candidate."""

_FEATURES_OF_LISTS = ("customer_last_age", "repeat_order_lines")


def build_lists(
    candidates: pd.DataFrame,
    ranker: Ranker,
    titles: Mapping[str, str],
    categories: Mapping[str, str],
    size: int,
    rules: CompiledRules | None = None,
) -> pd.DataFrame:
    """Rank candidates into both lists of each customer.

    Args:
        candidates: From `find_candidates`.
        titles, categories: product_id → title, category, for the reasons.
        size: Length of a list.
        rules: Merchandising rules, if any.

    Returns:
        LIST_COLUMNS, sorted by customer, list and rank. `source` is the candidate source that contributed most,
        `reason` explains it (`reasons.explain`), `rule` is the rule that placed the item, if one did.
    """
    scored = score_candidates(candidates, ranker)
    arranged = arrange_lists(scored, size, rules)
    rows = np.unique(arranged["row"][arranged["row"] >= 0])  # an item of both lists is explained once
    chosen = candidates.iloc[scored["candidate"].to_numpy()[rows]]
    sources, reasons = explain(
        chosen["product_id"].to_numpy(),
        feature_matrix(chosen, ranker.features),
        ranker,
        anchors={source: chosen[column].to_numpy() for source, column in ANCHOR_COLUMNS.items()},
        titles=titles,
        categories=categories,
    )
    score = scored["score"].to_numpy()[rows]
    explained = pd.DataFrame({"row": rows, "score": score, "source": sources, "reason": reasons})
    lists = arranged.merge(explained, on="row", how="left")
    if rules:  # an item without a score is pinned
        lists = lists.fillna({"score": 0.0, "source": PINNED, "reason": PINNED_REASON})
    return lists.sort_values(["customer_id", "list", "rank"], ignore_index=True)[[*LIST_COLUMNS]]


def score_candidates(candidates: pd.DataFrame, ranker: Ranker) -> pd.DataFrame:
    """The candidates with their `score`, each customer's in descending order; ties go to the lower id.

    Of the features, only those that lists need are left. `candidate` is the row in `candidates`.
    """
    needed = [name for name in candidates.columns if name not in FEATURES or name in _FEATURES_OF_LISTS]
    score = ranker.score(feature_matrix(candidates, ranker.features))
    scored = candidates[needed].assign(score=score, candidate=np.arange(len(candidates)))
    return scored.sort_values(["customer_id", "score", "product_id"], ascending=[True, False, True], ignore_index=True)


def arrange_lists(scored: pd.DataFrame, size: int, rules: CompiledRules | None) -> pd.DataFrame:
    """Both lists of each customer. With rules, without products that the compiled rules do not contain.

    Args:
        scored: From `score_candidates`. If the rules have a frequency cap, with its column (`with_frequency_capped`).
        size, rules: See `build_lists`.

    Returns:
        customer_id, list, rank, product_id, row (in `scored`; −1 for a pinned product that is no candidate), rule.
    """
    return _arrange_by_rules(scored, size, rules) if rules else _arrange_by_score(scored, size)


def _arrange_by_rules(scored: pd.DataFrame, size: int, rules: CompiledRules) -> pd.DataFrame:
    position = pd.Index(rules.product_ids).get_indexer(pd.Index(scored["product_id"]))
    score, rate, complement, ages, orders = (
        scored[name].to_numpy()
        for name in ("score", "return_rate", "complement", "customer_last_age", "repeat_order_lines")
    )
    bought = orders > 0
    capped = (
        scored[rules.frequency_cap_column].to_numpy(bool) if rules.frequency_cap_column else np.zeros(len(scored), bool)
    )
    allowed = (position >= 0) & ~capped
    customers, starts = np.unique(scored["customer_id"].to_numpy(object), return_index=True)
    spans = list(zip(starts, np.append(starts, len(scored))[1:], strict=True))
    parts = [np.zeros((6, 0), np.int64)]
    for list_number, (wanted, excluded) in enumerate(((allowed, capped), (allowed & ~bought, capped | bought))):
        for customer, (first, end) in enumerate(spans):
            rows = first + np.flatnonzero(wanted[first:end])
            exclude = set(position[first:end][excluded[first:end]])
            ranked = ScoredCandidates(position[rows], score[rows], rate[rows], complement[rows], float(ages[first]))
            product, place, rule = rerank(rules, ranked, size, exclude.__contains__)
            rank, row = np.arange(1, len(product) + 1), np.append(rows, -1)[place]
            parts.append(np.stack(np.broadcast_arrays(customer, list_number, rank, product, row, rule)))
    customer, list_number, rank, product, row, rule = np.concatenate(parts, axis=1)
    return pd.DataFrame(
        {
            "customer_id": customers[customer],
            "list": np.array(LISTS, object)[list_number],
            "rank": rank.astype(np.int32),
            "product_id": rules.product_ids[product],
            "row": row,
            "rule": np.array([*rules.messages, None], object)[rule],
        }
    )


def _arrange_by_score(scored: pd.DataFrame, size: int) -> pd.DataFrame:
    lists = []
    for name, rows in ((ALL, scored), (DISCOVER, scored[~(scored["repeat_order_lines"] > 0)])):
        rank = rows.groupby("customer_id", sort=False).cumcount() + 1
        top = rows.loc[rank <= size, ["customer_id", "product_id"]]
        lists.append(top.assign(list=name, rank=rank[rank <= size].astype(np.int32), row=top.index))
    return pd.concat(lists, ignore_index=True).assign(rule=None)


def popular_lists(products: pd.DataFrame, size: int, *, by: str = "recent_buyers") -> pd.DataFrame:
    """The list for customers without a history: the products with most recent buyers.

    Buyers count, not order lines: otherwise forty lines of one customer make a product popular.

    Args:
        products: product_id, category, order_lines, and the column to rank `by`.

    Returns:
        product_id, rank, score (share of the total), reason.
    """
    rows = products.assign(count=products[by]).sort_values(
        ["count", "order_lines", "product_id"], ascending=[False, False, True]
    )
    total = max(float(rows["count"].sum()), 1.0)
    top = rows.head(size)
    return pd.DataFrame(
        {
            "product_id": top["product_id"].to_numpy(),
            "rank": np.arange(1, len(top) + 1),
            "score": (top["count"] / total).to_numpy(),
            "reason": [f"popular in {name}" if name else "popular right now" for name in top["category"].fillna("")],
        }
    )
