"""The metrics and trade-off variants of a rule simulation."""

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.evaluation.evaluate import make_slices
from rec_assets.recsys.rules.effects import Boost
from rec_assets.recsys.rules.rules_file import NO_RULE_SET
from rec_assets.recsys.rules.simulation import (
    TRADE_OFF_LOSSES,
    TRADE_OFF_SLOTS,
    measure_rule_sets,
    trade_off_variants,
)
from rec_assets_tests.recsys.rules.test_rerank import Compile, compiled

__all__ = ["compiled"]


def rows(name: str, customer: str, products: str, **more: object) -> list[dict[str, object]]:
    return [
        {"rule_set": name, "customer_id": customer, "list": kind, "rank": rank, "product_id": product, "score": 0.5,
         "rule": None, **more}
        for kind in ("all", "discover")
        for rank, product in enumerate(products, start=1)
    ]  # fmt: skip


def test_metrics_of_rule_sets_agree_with_a_calculation_by_hand() -> None:
    lists = pd.DataFrame(
        [
            *rows(NO_RULE_SET, "ann", "ab"), *rows(NO_RULE_SET, "bob", "ab"), *rows(NO_RULE_SET, "out", "xyz"),
            *rows("new", "ann", "ac", rule="boosted by rule new"), *rows("new", "bob", "db"),
        ]
    )  # fmt: skip
    truth = pd.DataFrame({"customer_id": ["ann", "bob", "bob"], "product_id": ["a", "b", "q"]})
    history = pd.DataFrame({"customer_id": ["ann", "bob", "bob"], "product_id": ["a", "b", "c"]})
    price = pd.Series({"a": 2.0, "b": 4.0, "c": 10.0})
    table = measure_rule_sets(
        lists,
        [NO_RULE_SET, "new", "nothing"],
        make_slices(truth, history, pd.Series({"ann": 1, "bob": 2})),
        price,
        10,
        seed=1,
    )
    second = 1 / np.log2(3)
    assert table.loc[NO_RULE_SET, "ndcg"] == pytest.approx((1 + second / (1 + second)) / 2)
    assert table.loc["new", "ndcg_change"] == table.loc[NO_RULE_SET, "ndcg_change"] == 0
    assert table.loc[NO_RULE_SET, "coverage"] == 0.2 and table.loc["new", "coverage_change"] == pytest.approx(1.0)
    assert table.loc[NO_RULE_SET, "revenue"] == (2 + 4) / 2 and table.loc["new", "revenue_change"] == 0
    assert table.loc[NO_RULE_SET, "expected_revenue"] == pytest.approx(0.5 * (2 + 4 + 2 + 4) / 2)
    assert table.loc["new", "expected_revenue"] == pytest.approx(
        0.5 * (2 + 10 + 0 + 4) / 2
    )  # the price of d is unknown
    assert (table.loc[NO_RULE_SET, "moved"], table.loc["new", "moved"]) == (0, 0.5)
    assert table.loc["nothing", "ndcg_change"] == table.loc["nothing", "coverage_change"] == -1
    assert table.loc["new", "ndcg_low"] == table.loc["new", "ndcg_high"] == 0


def test_a_trade_off_varies_slots_and_loss(compiled: Compile) -> None:
    variants = trade_off_variants(
        compiled("{name: tail, kind: boost, products: {ids: [p30]}, slots: 4, max_dcg_loss: 0.2}")
    )
    assert set(variants) == {(slots, loss) for slots in TRADE_OFF_SLOTS for loss in TRADE_OFF_LOSSES}
    ((_, boost),) = variants[2, 0.01].of_type(Boost)
    assert boost.slots == 2 and boost.max_dcg_loss == 0.01
