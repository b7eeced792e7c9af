"""The release gate: a challenger beside the champion on the same customers and days, and what both cost.

Here stand the rules and their numbers; how the lists were made, and what a decision brings about, belongs elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from rec_assets.recsys.evaluation.metrics import (
    Interval,
    catalog_coverage,
    paired_bootstrap_difference,
    ranking_metrics,
)
from rec_assets.recsys.ranking.hybrid import ALL, DISCOVER, LISTS
from rec_assets.recsys.release.limits import GateLimits

DEPTH = 10
"""What of a list is looked at: the first ten, which shoppers see."""


@dataclass(frozen=True)
class GateCheck:
    """One rule, applied.

    Attributes:
        name: What is looked at.
        value: What was found.
        limit: What it must not pass.
        passed: Whether it doesn't.
        says: Both in one sentence.
    """

    name: str
    value: float
    limit: float
    passed: bool
    says: str


@dataclass(frozen=True)
class Comparison:
    """A challenger's NDCG@10 beside the champion's over one kind of list.

    Attributes:
        list_name: "all" or "discover".
        challenger, champion: Means over the customers.
        difference: Of the two, with its 95 % interval, paired.
        customers: How many were judged.
    """

    list_name: str
    challenger: float
    champion: float
    difference: Interval
    customers: int


def compare(challenger: pd.DataFrame, champion: pd.DataFrame, truth: pd.DataFrame, *, seed: int) -> list[Comparison]:
    """Both on the same customers: those who have lists of either and bought something since.

    Args:
        challenger, champion: customer_id, list, product_id, rank; as of the same day.
        truth: customer_id, product_id, novel (bool): what was bought since, distinct pairs. Lists "discover" are judged
            by the novel ones only.
        seed: Of the bootstrap.

    Returns:
        One comparison a kind of list; none for a kind that nobody can be judged by.
    """
    known = set(challenger["customer_id"]) | set(champion["customer_id"])
    truth = truth[truth["customer_id"].isin(known)]
    found = []
    for name in LISTS:
        bought = truth if name == ALL else truth[truth["novel"]]
        if bought.empty:
            continue
        pairs = bought[["customer_id", "product_id"]]
        ours, theirs = (
            ranking_metrics(lists.loc[lists["list"] == name, ["customer_id", "product_id", "rank"]], pairs, ks=[DEPTH])[
                f"ndcg@{DEPTH}"
            ]
            for lists in (challenger, champion)
        )
        difference = paired_bootstrap_difference(ours, theirs, seed=seed)
        found.append(Comparison(name, float(ours.mean()), float(theirs.mean()), difference, len(ours)))
    return found


def check_quality(comparisons: list[Comparison], limits: GateLimits) -> GateCheck:
    """Not worse than the champion by more than the margin: the lower end of the paired interval decides.

    That is a test of non-inferiority: with too few customers the interval is wide, and the champion stays.
    """
    overall = next((each for each in comparisons if each.list_name == ALL), None)
    if overall is None:
        return GateCheck("quality", float("nan"), 0.0, False, "nobody who had lists bought anything in the days judged")
    limit = -limits.margin * overall.champion
    low, high = float(overall.difference.low), float(overall.difference.high)
    return GateCheck(
        "quality",
        low,
        limit,
        low >= limit,
        f"NDCG@10 of {overall.customers:,} customers: challenger {overall.challenger:.4f}, champion "
        f"{overall.champion:.4f}; difference {float(overall.difference.mean):+.4f}, at worst {low:+.4f}, at best "
        f"{high:+.4f}; it may lose {-limit:.4f}",
    )


def check_lists(
    challenger: pd.DataFrame,
    champion: pd.DataFrame | None,
    *,
    bought: pd.Index,
    catalog_size: int,
    limits: GateLimits,
) -> list[GateCheck]:
    """The guard rails on what would be shown: complete, as broad, not too new, not all different.

    Args:
        challenger, champion: As in `compare`; no champion where there is none yet.
        bought: Products bought at least once in the lookback.
        catalog_size: Products that could be shown.
        limits: How far each may go.
    """
    top = challenger[challenger["rank"] <= DEPTH]
    shown = top[top["list"] == DISCOVER]
    cold = float((~shown["product_id"].isin(bought)).mean()) if len(shown) else 0.0
    checks = [
        _at_most("cold products", cold, limits.cold_share, "{:.1%} of what it shows nobody bought yet; {:.1%} may be")
    ]
    if champion is None:
        return checks
    before = champion[champion["rank"] <= DEPTH]
    keys = ["customer_id", "list"]
    lengths = pd.DataFrame({"ours": top.groupby(keys).size(), "theirs": before.groupby(keys).size()}).fillna(0)
    short = int((lengths["ours"] < lengths["theirs"]).sum())
    same = len(top.merge(before, on=[*keys, "product_id"])) / max(len(before), 1)
    ours, theirs = (catalog_coverage(lists, k=DEPTH, catalog_size=catalog_size) for lists in (
        top[top["list"] == ALL], before[before["list"] == ALL]))  # fmt: skip
    floor = limits.coverage * theirs
    return [
        *checks,
        _at_most("complete lists", short, 0, "{:.0f} lists are shorter than the champion's; {:.0f} may be"),
        GateCheck(
            "coverage", ours, floor, ours >= floor,
            f"it shows {ours:.2%} of the catalog, the champion {theirs:.2%}; {floor:.2%} is the least",
        ),
        _at_most("churn", 1 - same, limits.churn, "{:.1%} of the places differ from the champion's; {:.1%} may"),
    ]  # fmt: skip


def check_artifact(*, artifact_mb: float, latency_ms: float, limits: GateLimits) -> list[GateCheck]:
    """What serving the model costs."""
    return [
        _at_most("size", artifact_mb, limits.artifact_mb, "the model takes {:.1f} MB; {:.0f} MB is the most"),
        _at_most("latency", latency_ms, limits.latency_ms, "19 of 20 answers take {:.0f} ms at most; {:.0f} ms may be"),
    ]


def check_not_taken_back(rolled_back: int | None) -> GateCheck:
    """Models that were rolled back are not promoted again by themselves.

    Args:
        rolled_back: The version with the same models that was rolled back; None if there is none.
    """
    says = "these models were never rolled back" if rolled_back is None else (
        f"these are the models of version {rolled_back}, which was rolled back; to bring it back on purpose: "
        f"rec-assets rollback --to {rolled_back}"
    )  # fmt: skip
    return GateCheck("not rolled back", float(rolled_back is not None), 0.0, rolled_back is None, says)


def _at_most(name: str, value: float, limit: float, says: str) -> GateCheck:
    return GateCheck(name, float(value), float(limit), bool(value <= limit), says.format(value, limit))
