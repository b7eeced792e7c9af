"""The hybrid as the benchmarks run it, on a shop with two tastes. It must distinguish them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import ablation, hybrid
from benchmarks.hybrid import Hybrid
from benchmarks.protocols import Split, hidden_products, hide_products, journey_splits, leave_one_out
from rec_assets.recsys.evaluation.metrics import ranking_metrics
from rec_assets.recsys.ranking.features import FEATURE_GROUPS
from rec_assets.recsys.retrieval.sources import SOURCES
from rec_assets_tests import two_tastes

DAYS = 80
QUICK = {
    "als.rank": 4, "als.iterations": 2,
    "ranker.rounds": 20, "ranker.min_child_weight": 1.0, "ranker.negatives": 1.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _two_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two orthogonal vectors instead of an encoder."""

    def embeddings(products: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
        return np.eye(2, dtype=np.float32), (products[column] == "tea").to_numpy(np.int64)

    monkeypatch.setattr(hybrid, "embeddings", embeddings)


def journey() -> list[Split]:
    lines = two_tastes.cleaned_lines(DAYS).assign(day=lambda rows: pd.to_datetime(rows["date"]))
    columns = ["customer_id", "product_id", "order_id", "day", "quantity", "unit_price"]
    as_of = lines["day"].max() - pd.Timedelta(days=28)
    return journey_splits(lines[columns], two_tastes.products(), as_of)


def matches_taste(lists: pd.DataFrame) -> pd.Series:
    tea = lists["customer_id"] < f"c{two_tastes.CUSTOMERS // 2:02}"
    return lists["product_id"].str.startswith("tea") == tea


@pytest.mark.slow
def test_with_days_it_trains_on_the_last_horizon_and_ranks_the_taste_of_the_customer() -> None:
    everything, novel = journey()
    model = Hybrid(recipe=QUICK).fit(everything.lines, everything.products)
    customers = np.sort(everything.truth["customer_id"].unique())
    shown = model.top(customers, 10, everything.exclude_bought)
    assert matches_taste(shown).mean() > 0.9
    assert ranking_metrics(shown, everything.truth)["ndcg@10"].mean() > 0.5
    new = model.top(customers, 10, novel.exclude_bought)
    assert new.merge(everything.lines, on=["customer_id", "product_id"]).empty


def sequences() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each product at most once per customer, in the order of purchase, as in leave-one-out."""
    lines = two_tastes.cleaned_lines(DAYS).drop_duplicates(["customer_id", "product_id"])
    lines = lines.assign(day=pd.to_datetime(lines["date"]), position=lines.groupby("customer_id").cumcount() + 1)
    columns = ["customer_id", "product_id", "day", "quantity", "unit_price", "position"]
    return lines[columns], two_tastes.products()


@pytest.mark.long
def test_with_sequences_it_trains_on_last_orders_and_counts_do_not_reveal_them() -> None:
    split = leave_one_out(*sequences())
    model = Hybrid(recipe=QUICK, last_orders=True, min_count=5).train(split.lines, split.products)
    for snapshot in (model._snapshot, model._earlier):
        assert all(getattr(snapshot, name).min() >= 5 for name in hybrid.COUNTS)
    known, bought = model._known, model._bought
    assert known.merge(bought, on=["customer_id", "product_id"]).empty and len(bought) == two_tastes.CUSTOMERS
    shown = model.find_candidates().rank().top(split.truth["customer_id"].to_numpy(), 5, True)
    assert shown.merge(split.lines, on=["customer_id", "product_id"]).empty


@pytest.mark.long
def test_unseen_products_are_ranked_by_a_ranker_trained_on_hidden_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid, "_HIDDEN_TENTH", 4)  # in this shop, the tenth with most last orders
    split = hide_products(leave_one_out(*sequences()), tenth=9)
    recipe = {**QUICK, "candidates.new": 10, "candidates.new_days": 1}
    model = Hybrid(recipe=recipe, last_orders=True, unseen=True).train(split.lines, split.products)
    hidden = hidden_products(split.products, 4)
    assert hidden.isdisjoint(model._known["product_id"]) and hidden.issuperset(model._bought["product_id"])
    customers = split.lines["customer_id"].unique()
    shown = model.find_candidates().rank().top(customers, 20, True)
    unseen = shown[~shown["product_id"].isin(split.lines["product_id"])]
    assert set(unseen["product_id"]) <= hidden_products(split.products, 9)
    assert matches_taste(unseen.groupby("customer_id").head(3)).mean() > 0.9, "11 products of both tastes are unseen"


@pytest.mark.long
def test_the_ablation_compares_each_change_with_the_full_model(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = journey()
    chosen = {splits[0].dataset: {"all": {"hybrid": {"recipe": {**QUICK, "candidates.popular": 1}}}}}
    monkeypatch.setattr(ablation, "read_chosen", lambda: chosen)
    monkeypatch.setattr(ablation, "FEATURE_GROUPS", {"repeat_purchase": FEATURE_GROUPS["repeat_purchase"]})
    monkeypatch.setattr(ablation, "SOURCES", [each for each in SOURCES if each.name in ("als", "popular")])
    monkeypatch.setattr(ablation, "CHOICES", {splits[0].dataset: {"one tree": {"ranker.rounds": 1}}})
    found = pd.concat(ablation.ablate(splits)).set_index(["changed", "protocol", "metric"]).sort_index()
    changed = {"nothing", "without features of repeat_purchase", "without candidates of als", "one tree"}
    assert set(found.index.get_level_values("changed")) == changed, "the recipe already has one best seller"
    assert (found.loc["nothing", "lost"] == 0).all()
    for change in ("without features of repeat_purchase", "one tree"):
        assert found.loc[(change, splits[0].protocol, "ndcg@10"), "lost"] != 0
