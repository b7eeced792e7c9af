"""The gate checks, on lists whose right result is obvious."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.release.gate import (
    check_artifact,
    check_lists,
    check_not_rolled_back,
    check_quality,
    compare_lists,
)
from rec_assets.recsys.release.limits import GateLimits

LIMITS = GateLimits()
CUSTOMERS = [f"c{number:03}" for number in range(200)]
PRODUCTS = [f"p{number:02}" for number in range(40)]


def lists(first: int = 0, customers: list[str] = CUSTOMERS, length: int = 10, step: int = 1) -> pd.DataFrame:
    """Both lists of each customer: products from number `first` on, shifted for each customer."""
    rows = [
        (customer, name, PRODUCTS[(first + number % 7 + position * step) % len(PRODUCTS)], position + 1)
        for number, customer in enumerate(customers)
        for name in ("all", "discover")
        for position in range(length)
    ]
    return pd.DataFrame(rows, columns=["customer_id", "list", "product_id", "rank"])


def truth(of: pd.DataFrame, share: float, seed: int = 1) -> pd.DataFrame:
    """Each customer buys this share of the list in `of`, and another product."""
    shown = of[of["list"] == "all"]
    bought = shown[np.random.default_rng(seed).random(len(shown)) < share][["customer_id", "product_id"]]
    other = pd.DataFrame({"customer_id": CUSTOMERS, "product_id": "something else"})
    return pd.concat([bought, other], ignore_index=True).assign(novel=True)


def shuffled(of: pd.DataFrame) -> pd.DataFrame:
    """The same lists with random products."""
    random = np.random.default_rng(3).permuted(np.tile(PRODUCTS, (len(of) // 10, 1)), axis=1)[:, :10]
    return of.assign(product_id=random.ravel())


def quality(challenger: pd.DataFrame, champion: pd.DataFrame, bought: pd.DataFrame) -> bool:
    return check_quality(compare_lists(challenger, champion, bought, seed=1), LIMITS).passed


def test_equal_lists_pass_with_a_difference_of_0() -> None:
    (overall, novel) = compare_lists(lists(), lists(), truth(lists(), 0.3), seed=1)
    assert overall.challenger == overall.champion > 0.2
    assert tuple(overall.difference) == (0, 0, 0)
    assert (overall.customers, novel.list_name) == (200, "discover")
    assert check_quality([overall, novel], LIMITS).passed


def test_a_better_challenger_passes_and_a_shuffled_one_does_not() -> None:
    good, bad = lists(), shuffled(lists())
    bought = truth(good, 0.3)
    assert quality(good, bad, bought)
    assert not quality(bad, good, bought)


def test_few_customers_are_not_enough_evidence() -> None:
    # Half of the customers buy from the lists of one model, half from those of the other: no true difference.
    one, other = lists(), lists(first=20)
    halves = [truth(one, 0.3), truth(other, 0.3)]
    mine = [half[half["customer_id"].map(CUSTOMERS.index) % 2 == number] for number, half in enumerate(halves)]
    bought = pd.concat(mine, ignore_index=True)
    limits = GateLimits(max_ndcg_loss=0.5)
    assert check_quality(compare_lists(one, other, bought, seed=1), limits).passed
    few = bought[bought["customer_id"].isin(CUSTOMERS[:4])]
    assert not check_quality(compare_lists(one, other, few, seed=1), limits).passed


def test_without_purchases_the_quality_check_fails() -> None:
    checks = check_quality(compare_lists(lists(), lists(), truth(lists(), 0.3).head(0), seed=1), LIMITS)
    assert not checks.passed
    assert checks.message == "no customer with a list bought anything since"


def test_customers_with_lists_of_the_champion_only_count_against_the_challenger() -> None:
    bought = truth(lists(), 0.3)
    assert not quality(lists(customers=CUSTOMERS[:100]), lists(), bought)


def test_discover_lists_are_compared_with_novel_purchases_only() -> None:
    bought = truth(lists(), 0.3)
    bought["novel"] = bought["customer_id"] < "c050"
    (_, novel) = compare_lists(lists(), lists(), bought, seed=1)
    assert novel.customers == 50


@pytest.mark.parametrize(
    ("challenger", "bought", "fails"),
    [
        (lists(), PRODUCTS, set()),
        (lists(), PRODUCTS[20:], {"cold products"}),
        (lists(length=9), PRODUCTS, {"complete lists"}),
        (lists(customers=CUSTOMERS[:-1]), PRODUCTS, {"complete lists"}),
        (lists(first=20), PRODUCTS, {"churn"}),
        (lists().assign(product_id=lambda rows: [PRODUCTS[rank - 1] for rank in rows["rank"]]), PRODUCTS, {"coverage"}),
    ],
    ids=["the same", "many cold products", "shorter", "one customer fewer", "all different", "the same for all"],
)
def test_each_list_check_can_fail_alone(challenger: pd.DataFrame, bought: list[str], fails: set[str]) -> None:
    checks = check_lists(challenger, lists(), bought=pd.Index(bought), catalog_size=len(PRODUCTS), limits=LIMITS)
    assert {check.name for check in checks} == {"cold products", "complete lists", "coverage", "churn"}
    assert {check.name for check in checks if not check.passed} == fails


def test_without_a_champion_only_cold_products_are_checked() -> None:
    checks = check_lists(lists(), None, bought=pd.Index(PRODUCTS), catalog_size=len(PRODUCTS), limits=LIMITS)
    assert [(check.name, check.passed) for check in checks] == [("cold products", True)]


def test_a_large_or_slow_model_is_refused() -> None:
    checks = check_artifact(artifact_mb=3000, latency_ms=1500, limits=LIMITS)
    assert [(check.name, check.passed) for check in checks] == [("size", False), ("latency", False)]
    assert "3000.0 MB" in checks[0].message and "1500 ms" in checks[1].message


def test_the_message_for_a_rolled_back_model_gives_the_command_to_use_it_again() -> None:
    assert check_not_rolled_back(None).passed
    refused = check_not_rolled_back(4)
    assert not refused.passed
    assert "rec-assets rollback --to 4" in refused.message
