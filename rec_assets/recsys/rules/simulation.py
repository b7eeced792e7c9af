"""Offline simulation: re-rank past candidates by each rule set and compare the lists with later purchases."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rec_assets.recsys.evaluation.bootstrap import paired_bootstrap_difference
from rec_assets.recsys.evaluation.evaluate import ALL_PURCHASES, NOVEL_PURCHASES, Slice
from rec_assets.recsys.evaluation.metrics import catalog_coverage, ranking_metrics
from rec_assets.recsys.ranking.lists import ALL, DISCOVER, arrange_lists, score_candidates
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.rules.effects import BLOCK_SIZE, Boost
from rec_assets.recsys.rules.rules_file import NO_RULE_SET
from rec_assets.recsys.spark.arrow_rows import collect
from rec_assets.recsys.spark.customers import map_customers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

RulesByName = Mapping[str, CompiledRules]

_TYPES = "rule_set string, customer_id string, list string, rank int, product_id string, score double, rule string"

TRADE_OFF_SLOTS, TRADE_OFF_LOSSES = (1, 2, 3, 5), (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
"""Values of `slots` and `max_dcg_loss` on the trade-off curve of a boost."""


def trade_off_variants(compiled: CompiledRules) -> dict[tuple[int, float], CompiledRules]:
    """Variants of a single compiled boost, by (slots, max_dcg_loss); none of another rule."""
    return {
        (slots, loss): replace(compiled, effects=((number, replace(boost, slots=slots, max_dcg_loss=loss)),))
        for number, boost in compiled.of_type(Boost)
        for slots, loss in itertools.product(TRADE_OFF_SLOTS, TRADE_OFF_LOSSES)
    }


def lists_by_rules(
    candidates: DataFrame, ranker: Ranker, rule_sets: RulesByName, variants: RulesByName, folder: Path
) -> pd.DataFrame:
    """The first ten items of both lists of each customer, for each rule set.

    Args:
        candidates: Candidates of a past day, with the column of each frequency cap.
        ranker: Scores them, once for all rule sets.
        rule_sets, variants: Rules for which both lists are made, and rules for which only the list "all" is made.
        folder: A folder that Spark's tasks can write to, for the transfer of the lists.

    Returns:
        rule_set (the name), customer_id, list, rank, product_id, score (0 for a pinned product that is no candidate),
        rule.
    """
    model, features = ranker.dump(), ranker.features

    def block(rows: pd.DataFrame) -> pd.DataFrame:
        scored = score_candidates(rows, Ranker.load(model, features))
        score = np.append(scored["score"].to_numpy(np.float64), 0)
        lists = []
        for name, rules in (*rule_sets.items(), *variants.items()):
            items = arrange_lists(scored, BLOCK_SIZE, rules)
            items = items if name in rule_sets else items[items["list"] == ALL]
            lists.append(items.assign(rule_set=name, score=score[items["row"]]))
        return pd.concat(lists, ignore_index=True)

    return collect(map_customers(candidates, block, _TYPES), folder)


def measure_rule_sets(
    lists: pd.DataFrame, names: Iterable[str], slices: list[Slice], price: pd.Series, catalog_size: int, *, seed: int
) -> pd.DataFrame:
    """Metrics of each rule set's lists, compared with the lists without rules.

    Args:
        lists: From `lists_by_rules`; NO_RULE_SET must be one of the rule sets.
        names: The rule sets to measure.
        slices: Later purchases (`make_slices`). Only their customers are evaluated.
        price: By product_id.
        catalog_size: Number of products that can be shown.
        seed: Of the bootstrap over customers.

    Returns:
        Index: names of the rule sets. Columns: ndcg; ndcg_novel (of list "discover", for novel purchases); coverage;
        revenue (Σ price of the items shown and bought, per customer); expected_revenue (Σ score · price, per customer:
        too high as a value, because scores are, but comparable); moved (share of items that a rule raised or pinned);
        the relative change `…_change` of all but `moved` compared with NO_RULE_SET; `ndcg_low` and `ndcg_high`, the 95%
        interval of `ndcg_change`.
    """
    truth = {part.name: part.truth for part in slices if part.name in (ALL_PURCHASES, NOVEL_PURCHASES)}
    customers = truth[ALL_PURCHASES]["customer_id"].drop_duplicates()
    bought = pd.MultiIndex.from_frame(truth[ALL_PURCHASES][["customer_id", "product_id"]])
    rows, ndcg = {}, {}
    by_name = dict(iter(lists.groupby("rule_set", sort=False)))
    for name in names:
        both = by_name.get(name, lists.head(0))  # a rule set that hides all products has no lists
        shown = both[(both["list"] == ALL) & both["customer_id"].isin(customers)]
        cost = shown["product_id"].map(price).fillna(0)
        hit = pd.MultiIndex.from_frame(shown[["customer_id", "product_id"]]).isin(bought)
        ndcg[name] = ranking_metrics(shown, truth[ALL_PURCHASES], (BLOCK_SIZE,))[f"ndcg@{BLOCK_SIZE}"]
        novel = ranking_metrics(both[both["list"] == DISCOVER], truth[NOVEL_PURCHASES], (BLOCK_SIZE,))[
            f"ndcg@{BLOCK_SIZE}"
        ]
        rows[name] = {
            "ndcg": ndcg[name].mean(),
            "ndcg_novel": novel.mean(),
            "coverage": catalog_coverage(shown, k=BLOCK_SIZE, catalog_size=catalog_size),
            "revenue": cost[hit].sum() / len(customers),
            "expected_revenue": (shown["score"] * cost).sum() / len(customers),
            "moved": shown["rule"].notna().mean(),
        }
    table = pd.DataFrame(rows).T
    without = table.loc[NO_RULE_SET]
    for column in ("ndcg", "ndcg_novel", "coverage", "revenue", "expected_revenue"):
        table[f"{column}_change"] = table[column] / without[column] - 1
    values = np.column_stack([ndcg[name] for name in table.index])
    baseline = values[:, [list(table.index).index(NO_RULE_SET)]]
    _, low, high = paired_bootstrap_difference(values, baseline, seed=seed)
    return table.assign(ndcg_low=low / without["ndcg"], ndcg_high=high / without["ndcg"])
