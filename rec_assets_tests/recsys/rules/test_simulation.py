"""What a simulation of rules counts."""

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.evaluation.evaluate import make_slices
from rec_assets.recsys.rules.simulation import LOSSES, PLACES, measure, trade_offs
from rec_assets.recsys.rules.spec import NONE
from rec_assets_tests.recsys.rules.test_rerank import Book, book

__all__ = ["book"]


def rows(name: str, customer: str, products: str, **more: object) -> list[dict[str, object]]:
    return [
        {"rules": name, "customer_id": customer, "list": kind, "rank": rank, "product_id": product, "score": 0.5,
         "rule": None, **more}
        for kind in ("all", "discover")
        for rank, product in enumerate(products, start=1)
    ]  # fmt: skip


def test_what_rules_cost_and_gain_by_hand() -> None:
    lists = pd.DataFrame(
        [
            *rows(NONE, "ann", "ab"), *rows(NONE, "bob", "ab"), *rows(NONE, "out", "xyz"),
            *rows("new", "ann", "ac", rule="boosted by rule new"), *rows("new", "bob", "db"),
        ]
    )  # fmt: skip
    truth = pd.DataFrame({"customer_id": ["ann", "bob", "bob"], "product_id": ["a", "b", "q"]})
    history = pd.DataFrame({"customer_id": ["ann", "bob", "bob"], "product_id": ["a", "b", "c"]})
    price = pd.Series({"a": 2.0, "b": 4.0, "c": 10.0})
    found = measure(
        lists, [NONE, "new", "nothing"], make_slices(truth, history, pd.Series({"ann": 1, "bob": 2})), price, 10, seed=1
    )
    second = 1 / np.log2(3)
    assert found.loc[NONE, "ndcg"] == pytest.approx((1 + second / (1 + second)) / 2)
    assert found.loc["new", "ndcg_change"] == found.loc[NONE, "ndcg_change"] == 0
    assert found.loc[NONE, "coverage"] == 0.2 and found.loc["new", "coverage_change"] == pytest.approx(1.0)
    assert found.loc[NONE, "revenue"] == (2 + 4) / 2 and found.loc["new", "revenue_change"] == 0
    assert found.loc[NONE, "expected_revenue"] == pytest.approx(0.5 * (2 + 4 + 2 + 4) / 2)
    assert found.loc["new", "expected_revenue"] == pytest.approx(0.5 * (2 + 10 + 0 + 4) / 2)  # nobody knows d's price
    assert (found.loc[NONE, "ruled"], found.loc["new", "ruled"]) == (0, 0.5)
    assert found.loc["nothing", "ndcg_change"] == found.loc["nothing", "coverage_change"] == -1
    assert found.loc["new", "ndcg_low"] == found.loc["new", "ndcg_high"] == 0


def test_a_trade_off_varies_share_and_loss(book: Book) -> None:
    varied = trade_offs(book("{name: tail, kind: favor, products: {ids: [p30]}, places: 4, most_loss: 0.2}"))
    assert set(varied) == {(places, loss) for places in PLACES for loss in LOSSES}
    assert varied[2, 0.01].favors[0].places == 2 and varied[2, 0.01].favors[0].most_loss == 0.01
