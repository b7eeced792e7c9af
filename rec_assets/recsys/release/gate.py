"""The checks of the release gate: quality, lists and cost of a challenger compared with the champion.

The checks take lists and numbers. `assets/gate_comparison.py` makes the lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from rec_assets.recsys.evaluation.bootstrap import Interval, paired_bootstrap_difference
from rec_assets.recsys.evaluation.metrics import catalog_coverage, ranking_metrics
from rec_assets.recsys.ranking.lists import ALL, DISCOVER, LISTS
from rec_assets.recsys.release.limits import GateLimits

DEPTH = 10
"""The gate compares the first ten items of each list."""


@dataclass(frozen=True)
class GateCheck:
    """The result of one check. `message` has the measured value and the limit in one sentence."""

    name: str
    value: float
    limit: float
    passed: bool
    message: str


@dataclass(frozen=True)
class ListComparison:
    """NDCG@10 of the challenger compared with the champion for one list.

    Attributes:
        challenger, champion: Means over the `customers`.
        difference: Challenger − champion with its paired 95 % interval.
    """

    list_name: str
    challenger: float
    champion: float
    difference: Interval
    customers: int


def compare_lists(
    challenger: pd.DataFrame, champion: pd.DataFrame, truth: pd.DataFrame, *, seed: int
) -> list[ListComparison]:
    """Compare both models on the same customers: those with a list of either model and a purchase since.

    Args:
        challenger, champion: customer_id, list, product_id, rank; as of the same day.
        truth: customer_id, product_id, novel (bool): distinct pairs bought since. Only novel purchases count for the
            list "discover".

    Returns:
        One comparison for each list with at least one customer.
    """
    known = set(challenger["customer_id"]) | set(champion["customer_id"])
    truth = truth[truth["customer_id"].isin(known)]
    comparisons = []
    for name in LISTS:
        bought = truth if name == ALL else truth[truth["novel"]]
        if bought.empty:
            continue
        pairs = bought[["customer_id", "product_id"]]
        items = (lists.loc[lists["list"] == name, [*pairs.columns, "rank"]] for lists in (challenger, champion))
        new, old = (ranking_metrics(each, pairs, ks=[DEPTH])[f"ndcg@{DEPTH}"] for each in items)
        difference = paired_bootstrap_difference(new, old, seed=seed)
        comparisons.append(ListComparison(name, float(new.mean()), float(old.mean()), difference, len(new)))
    return comparisons


def check_quality(comparisons: list[ListComparison], limits: GateLimits) -> GateCheck:
    """Check that the low end of the paired interval is above the allowed loss: a test of non-inferiority.

    With too few customers the interval is wide, and the champion stays.
    """
    overall = next((each for each in comparisons if each.list_name == ALL), None)
    if overall is None:
        return GateCheck("quality", float("nan"), 0.0, False, "no customer with a list bought anything since")
    limit = -limits.max_ndcg_loss * overall.champion
    low, high = float(overall.difference.low), float(overall.difference.high)
    message = (
        f"NDCG@10 of {overall.customers:,} customers: challenger {overall.challenger:.4f}, champion "
        f"{overall.champion:.4f}; difference {float(overall.difference.mean):+.4f}, 95 % interval {low:+.4f} to "
        f"{high:+.4f}; limit for its low end: {limit:+.4f}"
    )
    return GateCheck("quality", low, limit, low >= limit, message)


def check_lists(
    challenger: pd.DataFrame, champion: pd.DataFrame | None, *, bought: pd.Index, catalog_size: int, limits: GateLimits
) -> list[GateCheck]:
    """Check that the lists are complete, cover the catalog, and do not have too many cold or changed items.

    Args:
        challenger, champion: As in `compare_lists`; no champion before the first release.
        bought: Products bought at least once in the lookback.
        catalog_size: Number of products that can be shown.
    """
    top = challenger[challenger["rank"] <= DEPTH]
    discover = top[top["list"] == DISCOVER]
    cold = float((~discover["product_id"].isin(bought)).mean()) if len(discover) else 0.0
    cold_message = "{:.1%} of the discover items have no buyer yet; limit: at most {:.1%}"
    checks = [_at_most("cold products", cold, limits.max_cold_share, cold_message)]
    if champion is None:
        return checks
    before = champion[champion["rank"] <= DEPTH]
    keys = ["customer_id", "list"]
    lengths = pd.DataFrame({"new": top.groupby(keys).size(), "old": before.groupby(keys).size()}).fillna(0)
    short = int((lengths["new"] < lengths["old"]).sum())
    churn = 1 - len(top.merge(before, on=[*keys, "product_id"])) / max(len(before), 1)
    new, old = (catalog_coverage(x[x["list"] == ALL], k=DEPTH, catalog_size=catalog_size) for x in (top, before))
    limit = limits.min_coverage * old
    coverage = f"the challenger shows {new:.2%} of the catalog, the champion {old:.2%}; limit: at least {limit:.2%}"
    changed = "{:.1%} of the items differ from the champion's; limit: at most {:.1%}"
    return [
        *checks,
        _at_most("complete lists", short, 0, "{:.0f} lists are shorter than the champion's; limit: at most {:.0f}"),
        GateCheck("coverage", new, limit, new >= limit, coverage),
        _at_most("churn", churn, limits.max_churn, changed),
    ]


def check_artifact(*, artifact_mb: float, latency_ms: float, limits: GateLimits) -> list[GateCheck]:
    """Check size and latency of the model."""
    latency_message = "the 95th percentile of the response time is {:.0f} ms; limit: at most {:.0f} ms"
    return [
        _at_most("size", artifact_mb, limits.max_artifact_mb, "the model has {:.1f} MB; limit: at most {:.0f} MB"),
        _at_most("latency", latency_ms, limits.max_latency_ms, latency_message),
    ]


def check_not_rolled_back(rolled_back: int | None) -> GateCheck:
    """Check that no version with the same models was `rolled_back`."""
    message = "these models were never rolled back" if rolled_back is None else (
        f"these are the models of version {rolled_back}, which was rolled back; to use them again: "
        f"rec-assets rollback --to {rolled_back}"
    )  # fmt: skip
    return GateCheck("not rolled back", float(rolled_back is not None), 0.0, rolled_back is None, message)


def _at_most(name: str, value: float, limit: float, message: str) -> GateCheck:
    return GateCheck(name, float(value), float(limit), bool(value <= limit), message.format(value, limit))
