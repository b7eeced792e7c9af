"""What rules would have cost and gained: past candidates arranged by each, held against what was bought since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rec_assets.recsys.evaluation.evaluate import ALL as ALL_PURCHASES
from rec_assets.recsys.evaluation.evaluate import NOVEL, Slice
from rec_assets.recsys.evaluation.metrics import catalog_coverage, paired_bootstrap_difference, ranking_metrics
from rec_assets.recsys.ranking.hybrid import ALL, DISCOVER, arrange_lists, score_candidates
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.ranking.scoring import by_customers
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.rules.spec import NONE, TEN
from rec_assets.recsys.spark.arrow_rows import collect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PLACES = (1, 2, 3, 5)
LOSSES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
"""What a favoring rule's `places` and `most_loss` are varied over for its trade-off curve."""

_TYPES = "rules string, customer_id string, list string, rank int, product_id string, score double, rule string"


def trade_offs(book: CompiledRules) -> dict[tuple[int, float], CompiledRules]:
    """A book of one favoring rule with other places and losses, by these."""
    (favor,) = book.favors
    return {
        (places, loss): replace(
            book,
            favors=(favor._replace(places=places, most_loss=loss),),
        )
        for places in PLACES
        for loss in LOSSES
    }


def lists_by_rules(
    candidates: DataFrame,
    ranker: Ranker,
    books: Mapping[str, CompiledRules],
    variants: Mapping[str, CompiledRules],
    disk: Path,
) -> pd.DataFrame:
    """The first ten of both lists of each customer by each rulebook.

    Args:
        candidates: As they looked on a past day; where a rulebook has a frequency cap, with which of them rest.
        ranker: Scores them; once for all.
        books: By name.
        variants: Further ones, of which list "all" is enough.
        disk: A folder that tasks see, too, by which the lists come here.

    Returns:
        rules (the name), customer_id, list, rank, product_id, score (0 of what is pinned and no candidate), rule.
    """
    model, features = ranker.dump(), ranker.features

    def block(rows: pd.DataFrame) -> pd.DataFrame:
        scored = score_candidates(rows, Ranker.load(model, features))
        score = np.append(scored["score"].to_numpy(np.float64), 0)
        found = {name: arrange_lists(scored, TEN, book) for name, book in books.items()}
        for name, book in variants.items():
            lists = arrange_lists(scored, TEN, book)
            found[name] = lists[lists["list"] == ALL]
        return pd.concat(
            [lists.assign(rules=name, score=score[lists["row"]]) for name, lists in found.items()], ignore_index=True
        )

    return collect(by_customers(candidates, block, _TYPES).to_spark(), disk)


def measure(
    lists: pd.DataFrame, names: Iterable[str], slices: list[Slice], price: pd.Series, catalog_size: int, *, seed: int
) -> pd.DataFrame:
    """What each rulebook's lists are worth, beside those without rules.

    Args:
        lists: As `lists_by_rules` gives them, NONE among the rulebooks.
        names: Of the rulebooks.
        slices: What the customers went on to buy (`make_slices`); those of it are judged.
        price: By product_id.
        catalog_size: Products that could be shown.
        seed: Of the bootstrap over customers.

    Returns:
        Index: names of the rulebooks. ndcg, ndcg_novel (of list "discover", novel purchases), coverage, revenue
        (Σ price of what was shown and bought, a customer), expected_revenue (Σ score · price, a customer), ruled
        (share of places that a rule gave); each but `ruled` also as `…_change` relative to NONE, and `ndcg_low`,
        `ndcg_high`: the 95 % interval of that of ndcg.
    """
    truth = {part.name: part.truth for part in slices if part.name in (ALL_PURCHASES, NOVEL)}
    judged = truth[ALL_PURCHASES]["customer_id"].drop_duplicates()
    bought = pd.MultiIndex.from_frame(truth[ALL_PURCHASES][["customer_id", "product_id"]])
    rows, ndcg = {}, {}
    by_name = dict(iter(lists.groupby("rules", sort=False)))
    for name in names:  # one that hides everything has no lists
        whole = by_name.get(name, lists.head(0))
        shown = whole[(whole["list"] == ALL) & whole["customer_id"].isin(judged)]
        cost = shown["product_id"].map(price).fillna(0)
        hit = pd.MultiIndex.from_frame(shown[["customer_id", "product_id"]]).isin(bought)
        ndcg[name] = ranking_metrics(shown, truth[ALL_PURCHASES], (TEN,))[f"ndcg@{TEN}"]
        novel = ranking_metrics(whole[whole["list"] == DISCOVER], truth[NOVEL], (TEN,))[f"ndcg@{TEN}"]
        rows[name] = {
            "ndcg": ndcg[name].mean(),
            "ndcg_novel": novel.mean(),
            "coverage": catalog_coverage(shown, k=TEN, catalog_size=catalog_size),
            "revenue": cost[hit].sum() / len(judged),
            "expected_revenue": (shown["score"] * cost).sum() / len(judged),
            "ruled": shown["rule"].notna().mean(),
        }
    found = pd.DataFrame(rows).T
    without = found.loc[NONE]
    for column in ("ndcg", "ndcg_novel", "coverage", "revenue", "expected_revenue"):
        found[f"{column}_change"] = found[column] / without[column] - 1
    ours = np.column_stack([ndcg[name] for name in found.index])
    _, low, high = paired_bootstrap_difference(ours, ours[:, [list(found.index).index(NONE)]], seed=seed)
    return found.assign(ndcg_low=low / without["ndcg"], ndcg_high=high / without["ndcg"])
