from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import catalog as catalog_benchmark
from benchmarks import ceiling, costs, datasets, quality, report, running, tune
from benchmarks.datasets import BEAUTY, FASHION, JOURNEY
from benchmarks.models import HYBRID, MODELS, UNTUNED, Model
from benchmarks.peers import text
from benchmarks.peers.base import Floats, ScoringPeer
from benchmarks.peers.sessions import Stan
from benchmarks.protocols import (
    COLD,
    NEW,
    NEXT,
    Split,
    hide_products,
    journey_splits,
    known_well,
    leave_one_out,
    shorten_histories,
)
from benchmarks.speed import Shop
from rec_assets.datasets.fashion import FashionShop
from rec_assets.recsys.data import similar_texts

AS_OF = pd.Timestamp("2017-03-01")
PAIR = ["customer_id", "product_id"]
CHEAP = ("popularity", "recent popularity", "popularity in own categories", "own purchases", "TIFU-KNN", "EASE")


def tiny_shop() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Twenty customers who buy two of twelve products every fourth day, from both sides of the as-of day."""
    rng = np.random.default_rng(3)
    rows = [
        (f"c{customer:02}", f"p{product:02}", AS_OF + pd.Timedelta(days=day))
        for customer in range(20)
        for day in range(-60, 30, 4)
        for product in rng.choice(12, 2, replace=False) // (1 + customer % 2)
    ]
    lines = pd.DataFrame(rows, columns=["customer_id", "product_id", "day"]).drop_duplicates()
    lines["order_id"] = lines["customer_id"] + lines["day"].dt.strftime("@%Y%m%d")
    return lines.assign(quantity=1.0, unit_price=np.nan), catalog()


def catalog() -> pd.DataFrame:
    products = pd.DataFrame({"product_id": [f"p{number:02}" for number in range(12)]})
    return products.assign(title="a", category=["tea", "milk"] * 6, brand="b", text="a", price=np.nan)


def sequences() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Thirty customers of six purchases each, the last three on one day."""
    rng = np.random.default_rng(4)
    lines = pd.DataFrame(
        [
            (f"c{customer:02}", f"p{product:02}", AS_OF + pd.Timedelta(days=min(place, 3)), place + 1)
            for customer in range(30)
            for place, product in enumerate(rng.choice(12, 6, replace=False))
        ],
        columns=["customer_id", "product_id", "day", "position"],
    )
    return lines.assign(quantity=1.0, unit_price=np.nan), catalog()


def texts_at_right_angles(products: pd.DataFrame, _: str) -> tuple[np.ndarray, np.ndarray]:
    """Half of the products have the one text, half the other."""
    return np.eye(2, dtype=np.float32), (products["category"] == "tea").to_numpy(np.int64)


def journey() -> list[Split]:
    return journey_splits(*tiny_shop(), AS_OF, horizon_days=14)


def test_a_journey_split_knows_nothing_after_its_day_and_asks_for_the_days_after() -> None:
    lines, _ = tiny_shop()
    known, truth = journey()[0].lines, journey()[0].truth
    assert len(known) == (lines["day"] <= AS_OF).sum()
    assert known["age_days"].min() >= 0 and (known["age"] == known["age_days"]).all()
    window = lines[(lines["day"] > AS_OF) & (lines["day"] <= AS_OF + pd.Timedelta(days=14))]
    assert set(map(tuple, truth[PAIR].to_numpy())) == set(map(tuple, window[PAIR].to_numpy()))


def test_novel_asks_for_nothing_bought_before() -> None:
    everything, novel = journey()
    assert (everything.task, novel.task) == ("all", "novel") and novel.exclude_bought and len(novel.truth)
    assert novel.truth.merge(novel.lines, on=PAIR).empty
    assert not everything.truth.merge(everything.lines, on=PAIR).empty


def test_the_ceiling_knows_what_comes_after_the_window_and_nothing_of_it() -> None:
    lines, products = tiny_shop()
    as_of = AS_OF - pd.Timedelta(days=20)
    split = journey_splits(lines, products, as_of)[0]
    both = ceiling.with_the_future(split, lines, as_of)
    day, window = lines["day"], as_of + pd.Timedelta(days=28)
    assert len(both) == (day <= as_of).sum() + (day > window).sum() > len(split.lines)
    later = both[len(split.lines) :]
    assert (later["day"] > window).all() and (later["age"] == (later["day"] - window).dt.days - 1).all()
    assert ceiling.ndcg(split, both) != ceiling.ndcg(split, split.lines)


def test_leave_one_out_asks_for_the_last_item_and_tunes_on_the_one_before() -> None:
    lines, products = sequences()
    test, validation = leave_one_out(lines, products), leave_one_out(lines, products, validation=True)
    by_place = lines.set_index(["customer_id", "position"])["product_id"]
    assert test.truth["product_id"].tolist() == by_place.xs(6, level=1).tolist()
    assert validation.truth["product_id"].tolist() == by_place.xs(5, level=1).tolist()
    for split, size in ((test, 5), (validation, 4)):
        one = split.lines[split.lines["customer_id"] == "c00"].sort_values("order_id")
        assert one["product_id"].tolist() == by_place["c00"].tolist()[:size]
        assert one["age"].tolist() == list(range(size))[::-1]
        assert (one["age_days"].diff().dropna() <= 0).all() and one["age_days"].min() == 0
        assert split.truth.merge(split.lines, on=PAIR).empty


def test_shuffling_moves_purchases_within_a_day_only() -> None:
    lines, products = sequences()
    plain, shuffled = leave_one_out(lines, products), leave_one_out(lines, products, shuffle=0)
    assert shuffled.truth["product_id"].tolist() != plain.truth["product_id"].tolist()
    earlier = lines[lines["position"] <= 3][PAIR]
    assert shuffled.truth.merge(earlier, on=PAIR).empty
    assert leave_one_out(lines, products, shuffle=0).truth.equals(shuffled.truth)


def test_cold_products_are_in_no_line_and_all_that_is_asked_for() -> None:
    split = leave_one_out(*sequences())
    parts = [hide_products(split, tenth=tenth) for tenth in range(10)]
    assert sum(len(part.truth) for part in parts) == len(split.truth)
    for part in parts:
        assert part.task == COLD and len(part.products) == 12
        assert not part.lines["product_id"].isin(part.truth["product_id"]).any()


def test_new_customers_have_only_their_newest_purchases() -> None:
    split = leave_one_out(*sequences())
    parts = [shorten_histories(split, tenth=tenth, known=2) for tenth in range(10)]
    assert sum(len(part.truth) for part in parts) == len(split.truth)
    for part in parts:
        assert part.task == NEW and part.variant == "s3rec: 2 known"
        is_new = part.lines["customer_id"].isin(part.truth["customer_id"])
        assert part.lines[is_new].groupby("customer_id")["age"].agg(list).map(sorted).map([0, 1].__eq__).all()
        others = split.lines[~split.lines["customer_id"].isin(part.truth["customer_id"])]
        assert part.lines[~is_new].reset_index(drop=True).equals(others.reset_index(drop=True))


def test_stan_scores_what_follows_in_sessions_with_the_same_items() -> None:
    orders = {"a": "pqr", "b": "qs", "c": "t"}  # "me" has bought p, then q
    rows = [(customer, product, place) for customer, items in orders.items() for place, product in enumerate(items)]
    rows += [("me", "p", 0), ("me", "q", 1)]
    lines = pd.DataFrame(rows, columns=["customer_id", "product_id", "place"])
    lines["order_id"] = lines["customer_id"] + lines["place"].astype(str)
    lines["age_days"] = lines["age"] = 10
    products = pd.DataFrame({"product_id": list("pqrst")})
    stan = Stan(place_decay=2, age_decay=100, distance_decay=3, neighbors=2).fit(lines, products)
    scores = dict(zip(stan.product_ids, stan.scores(stan.customer_ids.get_indexer(["me"]))[0], strict=True))
    of_a = (1 + np.exp(-1 / 2)) / np.sqrt(3) * np.exp(-0.1)
    of_b = 1 / np.sqrt(2) * np.exp(-0.1)
    expected = {"r": of_a * np.exp(-1 / 3), "s": of_b * np.exp(-1 / 3), "t": 0, "q": of_a + of_b}
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-5)


class Fixed(ScoringPeer):
    """Scores that are known by heart; columns are p00, p01, … since all are sold equally often."""

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        pass

    def scores(self, rows: np.ndarray) -> Floats:
        return np.tile(np.float32([0, 2, 2, 1, 2, -np.inf]), (len(rows), 1))


def test_ties_go_to_the_lower_id_and_what_may_not_be_shown_is_not() -> None:
    lines = pd.DataFrame({"customer_id": "a", "product_id": [f"p{n}" for n in range(6)], "age": 0})
    fixed = Fixed().fit(lines, lines[["product_id"]])
    shown = fixed.top(np.array(["a"], dtype=object), 2, False)
    assert shown["product_id"].tolist() == ["p1", "p2"] and shown["rank"].tolist() == [1, 2]
    shown = fixed.top(np.array(["a"], dtype=object), 6, False)
    assert shown["product_id"].tolist() == ["p1", "p2", "p4", "p3", "p0"]
    assert fixed.top(np.array(["a"], dtype=object), 6, True).empty


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_peer_answers_with_full_lists_of_what_it_may_show(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    if model.name in (HYBRID, UNTUNED):
        pytest.skip("the hybrid has its own tests")
    monkeypatch.setattr(text, "embeddings", texts_at_right_angles)  # the encoder takes long to load
    last = leave_one_out(*sequences())
    splits = [*journey(), last, hide_products(last, tenth=7), shorten_histories(last, tenth=7, known=1)]
    for split in splits:
        if not model.runs_on(split):
            continue
        few = {"neighbors": 3} if "k-NN" in model.name else {"factors": 4} if "ALS" in model.name else {}
        try:
            peer = model.build(split.dataset, few).fit(split.lines, split.products)
        except ModuleNotFoundError as missing:
            pytest.skip(f"the extra `bench` is not installed: {missing.name}")
        customers = np.sort(split.truth["customer_id"].unique())
        lists = peer.top(customers, 5, split.exclude_bought)
        assert (
            set(lists["customer_id"]) <= set(customers) and lists["product_id"].isin(split.products["product_id"]).all()
        )
        assert not lists.duplicated(PAIR).any()
        assert (lists.groupby("customer_id").cumcount() + 1 == lists["rank"]).all()
        if split.exclude_bought:
            assert lists.merge(split.lines, on=PAIR).empty
        else:
            assert len(lists) == 5 * len(customers)


def test_the_harness_measures_tunes_and_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CACHE", tmp_path / "customers")
    results = pd.DataFrame(columns=running.COLUMNS)
    cheap = [model for model in MODELS if model.name in CHEAP]
    best = tune.search(cheap[1], journey(), trials=2)
    assert set(best) == {"all", "novel"} and set(best["all"]) == {"days"}
    for model in cheap:
        splits = [split for split in journey() if model.runs_on(split)]
        for rows in running.measure(model, splits, {JOURNEY: {"all": {"recent popularity": {"days": 3}}}}):
            results = running.merge(running.merge(results, rows), rows)
    assert not results.duplicated([*running.KEY, "metric", "k"]).any()
    assert results["value"].between(results["ci_low"], results["ci_high"]).all()
    assert set(results.columns) == set(running.COLUMNS)
    shown = report.table(results)
    assert all(name in shown for name in CHEAP) and report.figure(results).axes


def test_known_well_asks_the_same_for_products_sold_often() -> None:
    split = leave_one_out(*sequences())
    often = known_well(split, least=14)
    sold = split.lines["product_id"].value_counts()
    assert 0 < len(often.truth) < len(split.truth) and often.protocol == "next item, s3rec: 14 or more known"
    assert set(often.truth["product_id"]) == {product for product in split.truth["product_id"] if sold[product] >= 14}
    assert often.lines is split.lines and often.truth.merge(split.truth, on=PAIR).shape == often.truth.shape


def test_a_protocol_of_several_splits_is_their_mean_customer_by_customer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "CACHE", tmp_path)
    popular = next(model for model in MODELS if model.name == "popularity")
    splits = [leave_one_out(*sequences(), shuffle=seed) for seed in (0, 1)]
    both = pd.concat(running.measure(popular, splits, {}))
    each = [pd.concat(running.measure(popular, [split], {})) for split in splits]
    assert both["protocol"].unique().tolist() == [f"{NEXT}, shuffled"] and (both["dataset"] == BEAUTY).all()
    assert np.allclose(both["value"], (each[0]["value"] + each[1]["value"]) / 2, atol=1e-4)
    assert (both["customers"] == 30).all()


def test_the_hybrid_is_compared_with_the_best_peer_in_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CACHE", tmp_path)
    rows = []
    for name, values in ((HYBRID, [1.0, 0.5]), ("a", [0.5, 0.0]), ("b", [0.0, 0.0])):
        file = running.customer_file(JOURNEY, "all, x", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"ndcg@10": values, "hit_rate@10": values}, index=["c", "d"]).to_parquet(file)
        rows += [
            (JOURNEY, "all, x", name, metric, 10, np.mean(values), 0, 1, 2, 0.1) for metric in ("ndcg", "hit_rate")
        ]
    results = pd.DataFrame(rows, columns=running.COLUMNS)
    versus = running.versus_best_peer(results)
    assert versus["peer"].tolist() == ["a", "a"]
    assert versus[["value", "ci_low", "ci_high", "relative"]].to_numpy().tolist() == [[0.5, 0.5, 0.5, 2.0]] * 2
    # Customers' values of another run than the results are worth nothing.
    results.loc[results["model"] == HYBRID, "value"] = 0.7
    assert running.versus_best_peer(results).empty


def test_texts_are_compared_with_the_mean_of_a_history_or_with_each_and_unseen_ones_may_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text, "embeddings", texts_at_right_angles)
    split = leave_one_out(*sequences())
    lines = split.lines[(split.lines["product_id"] != "p00") & (split.lines["customer_id"] != "c00")]
    tea = pd.DataFrame({"customer_id": "c00", "product_id": ["p02", "p04"], "age": [0, 1]})
    lines = pd.concat([lines, tea], ignore_index=True)
    customer = np.array(["c00"], dtype=object)
    for compared in ("mean", "single"):
        plain = text.TextSimilarity(half_life=2.0, compared=compared).fit(lines, split.products)
        shown = plain.top(customer, 4, True)["product_id"]
        assert set(shown) == {"p00", "p06", "p08", "p10"}, "all that is tea, without what was bought"
        assert shown.iloc[-1] == "p00", "equally alike, and never sold"
    first = text.UnseenFirstTextSimilarity(half_life=2.0).fit(lines, split.products)
    assert first.top(customer, 1, True)["product_id"].tolist() == ["p00"]


def test_als_folds_a_customer_in_with_the_confidence_of_the_paper() -> None:
    implicit_models = pytest.importorskip("benchmarks.peers.implicit_models")
    lines = two_tastes_lines()
    alpha, regularization = 3.0, 0.1
    als = implicit_models.ImplicitAls(
        factors=3, regularization=regularization, alpha=alpha, half_life=10.0, iterations=40
    ).fit(lines, lines[["product_id"]].drop_duplicates())
    y = als._model.item_factors.astype(float)
    r = als.matrix(10.0).toarray()[0]
    confidence, bought = 1 + alpha * r, (r > 0).astype(float)
    expected = np.linalg.solve(
        y.T @ (y * confidence[:, None]) + regularization * np.eye(3), y.T @ (confidence * bought)
    )
    assert als._model.user_factors[0] == pytest.approx(expected, abs=0.02)


def two_tastes_lines() -> pd.DataFrame:
    """Four customers of two tastes, with ages."""
    pairs = [("a", "tea", 0), ("a", "pot", 5), ("b", "tea", 2), ("b", "pot", 9), ("c", "cake", 1), ("d", "cake", 4)]
    lines = pd.DataFrame([*pairs, ("c", "jam", 3), ("d", "jam", 8)], columns=["customer_id", "product_id", "age"])
    return lines.assign(quantity=1.0, unit_price=1.0, order_id="o", age_days=lines["age"])


def test_steps_are_read_from_the_log_of_a_plan(tmp_path: Path) -> None:
    shop = Shop(tmp_path, tmp_path, log=(
        "[1/3] train_retrieval 2017-11-04: candidates\n    candidates: done in 31.3 s\n"
        "26/11/27 07:29:27 WARN NativeCodeLoader: Unable to load\n"
        "[2/3] score_customers 2017-12-02: candidates\n    candidates: done in 1.0 s\n"
        "[3/3] score_customers 2017-12-30: candidates, hybrid_scores\n"
        "    candidates: done in 40.5 s\n    hybrid_scores: done in 2.0 s\n"
    ))  # fmt: skip
    assert shop.steps("train_retrieval", "score_customers 2017-12-30") == {
        ("train_retrieval", "candidates"): 31.3, ("score_customers", "candidates"): 40.5,
        ("score_customers", "hybrid_scores"): 2.0,
    }  # fmt: skip


def test_a_units_cost_leaves_out_what_a_step_takes_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "RESULTS", tmp_path / "costs.csv")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    demo = dict.fromkeys(costs.GROWS_WITH, 5.0 + 10)  # five seconds anyway
    more = dict.fromkeys(costs.GROWS_WITH, 5.0 + 100)
    units = {"line": 1_000_000, "customer": 1_000, "product": 300}
    costs.write(demo, more, units, {"line": 10_000_000, "customer": 10_000, "product": 300})
    found = pd.read_csv(costs.RESULTS).set_index("grows_with")["core_us_a_unit"]
    assert found[costs.OF_DAY].tolist() == [20.0, 20.0]
    assert set(found[costs.OF_WINDOW]) == {20.0}
    assert set(found[costs.CUSTOMER]) == {20_000.0}
    assert found[costs.PAIR] == pytest.approx(20_000 / 300, abs=1e-4)
    assert found[costs.PRODUCT].tolist() == [50_000.0, 100_000.0]  # the snapshot is made by one process
    asked = {
        costs.OF_DAY: 1.8e8,
        costs.OF_WINDOW: 1.8e8,
        costs.CUSTOMER: 1.8e5,
        costs.PAIR: 5.4e7,
        costs.PRODUCT: 36_000,
    }
    assert costs.estimate(pd.read_csv(costs.RESULTS), asked)["core_hours"].tolist() == pytest.approx(
        [*[1.0] * 11, 0.5, 1.0], rel=1e-3
    )


def test_a_synthetic_catalog_is_measured_with_its_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_texts, "MAX_EXACT_TEXTS", 1_000)
    monkeypatch.setattr(catalog_benchmark, "BATCH", 5)
    rows = pd.DataFrame(catalog_benchmark.measure(2_000, 10, 1), columns=catalog_benchmark.COLUMNS).set_index("step")
    assert list(rows.index) == [
        "similar texts", "similar texts, a day's new ones", "ALS candidates", "candidates and lists",
        "candidates, one core", "lists, one core",
    ]  # fmt: skip
    assert (rows["products"] == 2_000).all() and (rows["seconds"] >= 0).all()
    assert rows.loc["similar texts", "recall"] >= 0.98 and rows.loc["ALS candidates", "recall"] == 1
    assert rows.loc["candidates and lists", "items"] == 10
    made_of = rows.loc[["candidates, one core", "lists, one core"], "seconds"].sum()
    assert made_of <= rows.loc["candidates and lists", "seconds"], "one process made them"


def test_the_fashion_shop_sells_styles_with_all_that_models_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "FashionShop", lambda customers, days, seed: FashionShop(80, 90, seed))
    lines, products = datasets.fashion_shop.__wrapped__()
    assert len(lines) > 100 and lines.notna().all(axis=None) and products.notna().all(axis=None)
    assert lines["product_id"].isin(products["product_id"]).all() and products["product_id"].is_unique
    assert "TEST" not in set(lines["customer_id"]) and lines["quantity"].max() < 100
    everything, novel = journey_splits(lines, products, lines["day"].max() - pd.Timedelta(days=28), dataset=FASHION)
    assert (everything.dataset, everything.task, novel.task) == (FASHION, "all", "novel") and len(novel.truth)


def test_a_model_without_its_library_is_skipped_and_one_with_a_wrong_import_is_not() -> None:
    with pytest.raises(ModuleNotFoundError):
        Model("a", "no_such_library.models", "A").load()
    with pytest.raises(ImportError, match=r"json\.no_such_module") as found:
        Model("a", "json.no_such_module", "A").load()
    assert not isinstance(found.value, ModuleNotFoundError)


def test_comparisons_of_protocols_that_were_not_measured_now_are_kept(tmp_path: Path) -> None:
    columns = ["dataset", "protocol", "peer", "value"]
    old = [(JOURNEY, "all, x", "a", 1.0), (JOURNEY, "novel, x", "a", 2.0), (BEAUTY, "next item, y", "a", 3.0)]
    pd.DataFrame(old, columns=columns).to_csv(tmp_path / "versus.csv", index=False)
    new = pd.DataFrame([(JOURNEY, "novel, x", "b", 5.0)], columns=columns)
    ordered = pd.DataFrame([row[:2] for row in old for _ in range(2)], columns=columns[:2])
    now = {(JOURNEY, "novel, x"), (BEAUTY, "next item, y")}  # of the second, values of the peers are not here
    found = quality._with_earlier(new, tmp_path / "versus.csv", now, ordered)
    assert found.to_numpy().tolist() == [[JOURNEY, "all, x", "a", 1.0], [JOURNEY, "novel, x", "b", 5.0]]
