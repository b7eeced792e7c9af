"""Models and tables made in Spark, on shops whose right answer is plain or is computed in a second way."""

import datetime as dt
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from rec_assets.recsys.data.histories import build_histories
from rec_assets.recsys.data.product_statistics import product_statistics
from rec_assets.recsys.data.products import build_products
from rec_assets.recsys.evaluation.customer_sample import sample_customers
from rec_assets.recsys.ranking import training
from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.in_spark import with_frequency_capped
from rec_assets.recsys.ranking.ranker import TrainingSample, fit_ranker
from rec_assets.recsys.ranking.training import stored_sample
from rec_assets.recsys.recipe import AlsRecipe, CoPurchaseRecipe, RankerRecipe
from rec_assets.recsys.retrieval import als_model as als_module
from rec_assets.recsys.retrieval import co_purchase_graph as graph_module
from rec_assets.recsys.retrieval.als_model import fit_als, number_ids
from rec_assets.recsys.retrieval.co_purchase_graph import co_purchase_graph
from rec_assets.recsys.retrieval.ease_weights import ease_weights
from rec_assets.recsys.retrieval.sources.als import fold_in
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets_tests.recsys.snapshots import small_snapshot

TYPES = (
    "customer_id string, product_id string, order_id string, age_days int, weight double, quantity double, "
    "unit_price double, rating double"
)


def purchases(spark: SparkSession, *rows: tuple[str, str, str, int], rating: float | None = None) -> DataFrame:
    """Rows of (customer, product, order, age in days), with quantity 1 at a price of 2.00."""
    return spark.createDataFrame([(*row, 1.0, 1.0, 2.0, rating) for row in rows], schema=TYPES)


def checkerboard(size: int = 20) -> list[tuple[str, str, str, int]]:
    """Even customers bought all even products except one, odd customers the odd ones (after a test of `implicit`)."""
    return [(f"{u:02}", f"{i:02}", f"o{u}", 0) for u in range(size) for i in range(size) if u % 2 == i % 2 and u != i]


def side(model: pd.DataFrame, kind: str, key: str) -> pd.DataFrame:
    return model[model["kind"] == kind].rename(columns={"id": key}).reset_index(drop=True)


@pytest.mark.parametrize("solver", ["spark", "implicit"])
def test_als_finds_the_missing_square_of_the_checkerboard(
    spark: SparkSession, solver: Literal["spark", "implicit"]
) -> None:
    recipe = AlsRecipe(solver=solver, rank=4, iterations=10, alpha=10, implicit_regularization=0.1, min_buyers=1)
    model = fit_als(purchases(spark, *checkerboard()), recipe, seed=1, explicit=False).toPandas()
    customers, products = side(model, "customer", "customer_id"), side(model, "product", "product_id")
    scores = np.stack(customers["factors"]) @ np.stack(products["factors"]).T
    for row, customer in enumerate(customers["customer_id"]):
        unbought = [
            i for i, product in enumerate(products["product_id"]) if product == customer or int(product) % 2 != row % 2
        ]
        best = max(unbought, key=lambda i: scores[row, i])
        assert products["product_id"][best] == customer


@pytest.mark.parametrize(("solver", "explicit"), [("spark", False), ("spark", True), ("implicit", False)])
def test_fold_in_gives_the_customer_vectors_of_als(
    spark: SparkSession, solver: Literal["spark", "implicit"], explicit: bool
) -> None:
    rng = np.random.default_rng(3)
    rows = [
        (f"c{u}", f"p{i}", f"o{u}{i}", int(rng.integers(0, 300)))
        for u in range(30)
        for i in rng.choice(15, size=6, replace=False)
    ]
    frame = purchases(spark, *rows).toPandas()
    if explicit:
        frame["rating"] = rng.integers(1, 6, len(frame)).astype(float)
    # The library solves for products last, so it needs many iterations until its customer vectors match.
    iterations = 5 if solver == "spark" else 300
    recipe = AlsRecipe(solver=solver, rank=3, iterations=iterations, implicit_regularization=2.0, min_buyers=1)
    model = fit_als(spark.createDataFrame(frame, schema=TYPES), recipe, seed=1, explicit=explicit).toPandas()
    factors = side(model, "product", "product_id")
    snapshot = small_snapshot(sorted(factors["product_id"]), factors=factors)
    histories = build_histories(frame.assign(rating=frame["rating"].astype(float)), snapshot)
    spark_vectors = side(model, "customer", "customer_id").set_index("customer_id")["factors"]
    expected = np.stack(spark_vectors.reindex(histories.customer_ids).to_list())
    assert fold_in(histories, snapshot, recipe) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("solver", ["spark", "implicit"])
def test_products_with_too_few_buyers_get_no_factors(spark: SparkSession, solver: Literal["spark", "implicit"]) -> None:
    rows = [(f"c{u}", "common", f"o{u}", 0) for u in range(5)] + [("c0", "rare", "o0", 0), ("c9", "rare", "o9", 0)]
    recipe = AlsRecipe(solver=solver, rank=2, min_buyers=5)
    model = fit_als(purchases(spark, *rows), recipe, seed=1, explicit=False).toPandas()
    assert side(model, "product", "product_id")["product_id"].tolist() == ["common"]
    assert side(model, "customer", "customer_id")["customer_id"].tolist() == [f"c{u}" for u in range(5)]


@pytest.mark.parametrize("solver", ["spark", "implicit"])
@pytest.mark.parametrize("rows", [[], [("ann", "rare", "o1", 0), ("bob", "other", "o2", 0)]])
def test_als_is_empty_if_no_product_has_enough_buyers(
    spark: SparkSession, solver: Literal["spark", "implicit"], rows: list[tuple[str, str, str, int]]
) -> None:
    recipe = AlsRecipe(solver=solver, rank=2, min_buyers=5)
    model = fit_als(purchases(spark, *rows), recipe, seed=1, explicit=False)
    assert model.isEmpty()
    trained = fit_als(purchases(spark, *checkerboard(12)), recipe, seed=1, explicit=False)
    assert model.dtypes == trained.dtypes
    factors = side(model.toPandas(), "product", "product_id")
    snapshot = small_snapshot(sorted(factors["product_id"]), factors=factors)
    assert not snapshot.has_factors.any()


def test_without_net_purchases_the_graph_is_empty_and_returns_are_counted(spark: SparkSession) -> None:
    nothing = purchases(spark)
    assert co_purchase_graph(nothing, CoPurchaseRecipe()).isEmpty()
    returned = purchases(spark, ("ann", "tea", "1", 3)).withColumn("weight", F.lit(-1.0))
    found = product_statistics(returned, recent_days=14)
    assert found[["product_id", "order_lines", "returns"]].to_numpy().tolist() == [["tea", 0, 1]]


def test_both_solvers_give_the_same_columns_and_order(spark: SparkSession) -> None:
    one, other = (
        fit_als(
            purchases(spark, *checkerboard(8)), AlsRecipe(solver=name, rank=3, min_buyers=1), seed=1, explicit=False
        )
        for name in ("spark", "implicit")
    )
    assert one.dtypes == other.dtypes
    keys = ["kind", "id"]
    assert one.select(*keys).collect() == other.select(*keys).collect()


def test_a_solver_without_ratings_raises_an_error(spark: SparkSession) -> None:
    rated = purchases(spark, *checkerboard(4), rating=3.0)
    with pytest.raises(ValueError, match="REC_RECIPE__ALS__SOLVER"):
        fit_als(rated, AlsRecipe(solver="implicit"), seed=1, explicit=True)


def test_the_error_for_a_missing_library_names_the_package(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(ValueError, match=r"rec_assets\[implicit\]"):
        fit_als(purchases(spark, *checkerboard(4)), AlsRecipe(solver="implicit"), seed=1, explicit=False)


def test_factors_do_not_depend_on_the_order_of_purchases(spark: SparkSession) -> None:
    rows, recipe = checkerboard(8), AlsRecipe(rank=3, iterations=3, min_buyers=1)
    one, other = (
        fit_als(purchases(spark, *order), recipe, seed=1, explicit=False).toPandas() for order in (rows, rows[::-1])
    )
    pd.testing.assert_frame_equal(one, other)


def test_the_graph_counts_shared_baskets_and_the_next_day(spark: SparkSession) -> None:
    # Two customers buy bread and butter on one day, and jam on the next day.
    rows = [
        row
        for c in ("ann", "bob")
        for row in ((c, "bread", f"{c}1", 1), (c, "butter", f"{c}1", 1), (c, "jam", f"{c}2", 0))
    ]
    recipe = CoPurchaseRecipe(min_support=2, half_life_days=1.0, popularity_damping=0.0, ease_products=0)
    graph = co_purchase_graph(purchases(spark, *rows), recipe).toPandas()
    edges = graph.set_index(["kind", "product_id", "neighbor_id"])
    assert set(edges.index) == {
        ("same_basket", "bread", "butter"), ("same_basket", "butter", "bread"),
        ("next_basket", "bread", "jam"), ("next_basket", "butter", "jam"),
    }  # fmt: skip
    together = edges.loc[("same_basket", "bread", "butter")]
    assert (together["support"], together["weight"]) == (2, pytest.approx(1.0))  # every basket with bread has butter
    # Each following basket counts 0.5 ** 0 = 1, each of bread's own baskets 0.5 ** 1.
    assert edges.loc[("next_basket", "bread", "jam")]["weight"] == pytest.approx(2 * 1.0 / (2 * 0.5))


def test_a_product_bought_some_orders_later_counts_less(spark: SparkSession) -> None:
    rows = [(c, product, f"{c}{i}", 9 - i) for c in "ab" for i, product in enumerate(("bread", "jam", "tea", "salt"))]
    recipe = CoPurchaseRecipe(
        min_support=2, half_life_days=1e6, popularity_damping=0.0, next_orders=2, next_decay=0.25, ease_products=0
    )
    graph = co_purchase_graph(purchases(spark, *rows), recipe).toPandas().set_index(["product_id", "neighbor_id"])
    assert set(graph["kind"]) == {"next_basket"}
    weights = graph.loc["bread", "weight"]
    assert weights.to_dict() == {"jam": pytest.approx(1.0, rel=1e-3), "tea": pytest.approx(0.25, rel=1e-3)}


def test_ease_is_the_closed_form_of_the_shared_customers(spark: SparkSession) -> None:
    rng = np.random.default_rng(5)
    held = rng.random((40, 12)) < 0.3
    rows = [(f"c{u:02}", f"p{i:02}", f"o{u}", 0) for u, i in zip(*np.nonzero(held), strict=True)]
    recipe = CoPurchaseRecipe(min_support=1, ease_regularization=2.0, ease_neighbors=4)
    graph = co_purchase_graph(purchases(spark, *rows), recipe).toPandas()
    edges = graph[graph["kind"] == "ease"]
    shared = held.T.astype(float) @ held
    inverse = np.linalg.inv(shared + 2.0 * np.eye(12))
    weights = np.where(shared > 0, -inverse / np.diag(inverse), 0)
    np.fill_diagonal(weights, 0)
    expected = {
        (f"p{i:02}", f"p{j:02}"): weights[i, j]
        for j in range(12)
        for i in np.argsort(-weights[:, j])[:4]
        if weights[i, j] > 0
    }
    found = {(row.product_id, row.neighbor_id): row.weight for row in edges.itertuples()}
    assert found.keys() == expected.keys()
    assert all(found[pair] == pytest.approx(weight, rel=1e-3) for pair, weight in expected.items())


def test_ease_covers_the_products_with_most_buyers(spark: SparkSession) -> None:
    rows = [(f"c{u}", product, f"o{u}", 0) for u in range(4) for product in ("bread", "butter")]
    rows += [("c0", "rare", "o0", 0), ("c1", "rare", "o1", 0)]
    recipe = CoPurchaseRecipe(min_support=1, ease_products=2)
    graph = co_purchase_graph(purchases(spark, *rows), recipe).toPandas()
    assert set(graph.loc[graph["kind"] == "ease", "product_id"]) == {"bread", "butter"}


@pytest.mark.parametrize("damping", [0.0, 0.5, 1.0])
def test_anchor_damping_divides_weights_by_the_orders_of_the_product(spark: SparkSession, damping: float) -> None:
    # Tea is bought eight times, in two of them with milk.
    rows = [(f"c{i}", "tea", f"o{i}", 0) for i in range(8)] + [(f"c{i}", "milk", f"o{i}", 0) for i in range(2)]
    recipe = CoPurchaseRecipe(min_support=2, popularity_damping=0.0, anchor_damping=damping, ease_products=0)
    graph = co_purchase_graph(purchases(spark, *rows), recipe).toPandas().set_index(["product_id", "neighbor_id"])
    assert graph.loc[("tea", "milk"), "weight"] == pytest.approx(2 / 8**damping)


def test_pairs_below_the_minimum_support_are_dropped(spark: SparkSession) -> None:
    rows = [("ann", "bread", "1", 0), ("ann", "butter", "1", 0)]
    assert co_purchase_graph(purchases(spark, *rows), CoPurchaseRecipe(min_support=2)).isEmpty()
    # EASE: two customers share both products, and a third has one of them.
    rows += [("bob", "bread", "2", 0), ("bob", "butter", "2", 0), ("bob", "jam", "3", 0), ("eve", "jam", "4", 0)]
    graph = co_purchase_graph(purchases(spark, *rows), CoPurchaseRecipe(min_support=2)).toPandas()
    kinds = graph[graph["kind"] == "ease"]
    assert set(zip(kinds["product_id"], kinds["neighbor_id"], strict=True)) == {
        ("bread", "butter"), ("butter", "bread"),
    }  # fmt: skip


def test_ease_does_not_depend_on_the_size_of_batches(spark: SparkSession) -> None:
    rng = np.random.default_rng(6)
    rows = [(f"c{u:03}", f"p{i:02}", f"o{u}", 0) for u, i in zip(*np.nonzero(rng.random((100, 20)) < 0.3), strict=True)]
    bought, recipe = purchases(spark, *rows), CoPurchaseRecipe(min_support=1)
    once = ease_weights(bought, recipe)
    setting = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(setting)
    spark.conf.set(setting, 7)
    try:
        pd.testing.assert_frame_equal(ease_weights(bought, recipe), once)
    finally:
        spark.conf.set(setting, before)


def test_statistics_of_a_product_by_hand(spark: SparkSession) -> None:
    rows = [("ann", "tea", "1", 0), ("ann", "tea", "2", 10), ("ann", "tea", "3", 30), ("bob", "tea", "4", 20)]
    bought = purchases(spark, *rows)
    returned = purchases(spark, ("ann", "tea", "5", 3), ("bob", "mug", "6", 3)).withColumn("weight", F.lit(-1.0))
    found = product_statistics(bought.unionByName(returned), recent_days=14).set_index("product_id")
    mug, found = found.loc["mug"], found.loc["tea"]
    assert (found["returns"], mug["returns"], mug["order_lines"], mug["buyers"]) == (1, 1, 0, 0)
    assert (found["order_lines"], found["recent_order_lines"], found["buyers"]) == (4, 2, 2)
    assert (found["recent_buyers"], mug["recent_buyers"]) == (1, 0), "it counts customers, not lines"
    assert (found["repeat_share"], found["interval_days"], found["price"]) == (0.5, 15.0, 2.0)


def test_a_product_seen_too_often_without_a_reaction_is_frequency_capped(spark: SparkSession) -> None:
    events = [
        *[("ann", "tea", "impression")] * 3, *[("ann", "mug", "impression")] * 3, ("ann", "mug", "click"),
        *[("ann", "pot", "impression")] * 2, *[("bob", "tea", "impression")] * 3, *[(None, "tea", "impression")] * 9,
    ]  # fmt: skip
    seen = spark.createDataFrame(events, "customer_id string, product_id string, type string")
    pairs = [(customer, product) for customer in ("ann", "cat") for product in ("mug", "pot", "tea")]
    candidates = spark.createDataFrame(pairs, "customer_id string, product_id string")
    found = with_frequency_capped(candidates, seen, 3, "capped").toPandas()
    assert [tuple(row) for row in found[found["capped"]][["customer_id", "product_id"]].to_numpy()] == [("ann", "tea")]
    assert len(found) == len(pairs) and found["capped"].dtype == bool


def test_new_buyers_are_those_whose_first_purchase_is_recent(spark: SparkSession) -> None:
    rows = [("old", "tea", "1", 40), ("old", "tea", "2", 1), ("new", "tea", "3", 13), ("new", "tea", "4", 0)]
    bought = purchases(spark, *rows)
    found = product_statistics(bought, recent_days=14).iloc[0]
    assert (found["new_buyers"], found["recent_order_lines"]) == (1, 3)


def test_products_combine_the_catalog_with_the_most_common_values_of_lines(spark: SparkSession, tmp_path: Path) -> None:
    days = [dt.date(2024, 1, n) for n in (1, 2, 3, 9)]
    lines = [
        ("mug", "MUG", None, 2.0, days[2], 1.0), ("mug", "Mug red", None, 4.0, days[1], 1.0),
        ("mug", "Mug red", None, 6.0, days[3], 1.0), ("mug", None, None, 4.0, days[1], 1.0),
        ("mug", None, None, 0.5, days[1], 0.0),  # a bulk order has a special price
        ("pot", "Pot", "china", 9.0, days[0], 1.0), ("crate", "Crate", None, 0.5, days[0], 0.0),
    ]  # fmt: skip
    clicked = ("ghost", None, "Ghost", "", "", "", 1.0, 0.0, days[0], "click", 0.1)
    interactions = spark.createDataFrame(
        [*((product, None, title, category, None, title and title.lower(), price, 1.0, day, "purchase", weight)
           for product, title, category, price, day, weight in lines), clicked],
        schema="product_id string, variant_id string, title string, category string, brand string, text string, "
        "unit_price double, quantity double, date date, event string, weight double",
    )  # fmt: skip
    catalog = pd.DataFrame(
        [
            ("pot", "Tea pot", None, None, "tea pot", 10.0, None, True),
            ("new", None, "x", None, None, None, None, False),
        ],
        columns=["product_id", "title", "category", "brand", "text", "price", "available_from", "excluded"],
    ).assign(**dict.fromkeys(["image", "link", "attributes", "taste", "variant_of"]), in_stock=True)
    found = build_products(LazyArrowRows.from_frame(interactions), catalog, tmp_path).set_index("product_id")
    assert found.loc["mug", ["title", "text", "price", "first_seen"]].tolist() == ["Mug red", "mug red", 4.0, days[1]]
    assert found.loc["pot", ["title", "category", "price", "excluded"]].tolist() == ["Tea pot", "china", 10.0, True]
    assert found.loc["new", ["title", "first_seen", "in_catalog"]].tolist() == ["x", days[3], True]
    assert found.loc["crate", "price"] == 0.5
    assert "ghost" not in found.index, "a click adds no product"


def test_the_edges_of_the_graph_are_sorted(spark: SparkSession) -> None:
    graph = co_purchase_graph(purchases(spark, *checkerboard()), CoPurchaseRecipe(min_support=1)).toPandas()
    assert graph["kind"].nunique() > 1
    wanted = graph.sort_values(["kind", "product_id", "weight", "neighbor_id"], ascending=[True, True, False, True])
    pd.testing.assert_frame_equal(graph, wanted.reset_index(drop=True))


def test_a_large_shop_is_evaluated_on_a_fixed_sample_of_whole_customers(spark: SparkSession) -> None:
    rows = [(f"c{u}", f"p{i}", f"o{u}", 0) for u in range(400) for i in range(2)]
    judged = sample_customers(purchases(spark, *rows, *rows), 100)
    assert judged.buyers == 400
    bought = judged.purchases.toPandas()
    assert 60 < bought["customer_id"].nunique() < 140
    assert (bought.groupby("customer_id")["product_id"].nunique() == 2).all() and not bought.duplicated().any()
    others = judged.select_from(purchases(spark, *rows, ("stranger", "p0", "o", 0))).toPandas()
    assert set(others["customer_id"]) == set(bought["customer_id"])
    again = sample_customers(purchases(spark, *rows[::-1]), 100).purchases.toPandas()
    assert set(again["customer_id"]) == set(bought["customer_id"])


def test_a_small_shop_is_evaluated_on_all_customers(spark: SparkSession) -> None:
    rows = [(f"c{u}", "p", f"o{u}", 0) for u in range(50)]
    assert sample_customers(purchases(spark, *rows), 50).purchases.count() == 50


def test_the_ranker_is_trained_on_batches_that_do_not_depend_on_the_files(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(1).random((500, len(FEATURES))).astype(np.float32)
    values[::7, 3] = np.nan
    types = ", ".join([*(f"{name} float" for name in FEATURES), "bought boolean"])
    frame = pd.DataFrame(values, columns=list(FEATURES)).assign(bought=values[:, 0] < 0.4)
    rows = spark.createDataFrame(frame, types).repartition(3, "bought").replace(float("nan"), None)
    expected = TrainingSample.from_frame(rows.toPandas())
    ((features, bought),) = expected.batches()
    recipe = RankerRecipe(rounds=5, min_child_weight=1)
    for limit, sizes in ((2**20, [500]), (150, [150, 150, 150, 50])):
        monkeypatch.setattr(training, "BATCH_ROWS", limit)
        with stored_sample(rows, tmp_path) as found:
            batches = [*found.batches()]
            ranker = fit_ranker(found, recipe, seed=1)
        assert [len(labels) for _, labels in batches] == sizes
        assert (found.rows, found.bought) == (500, expected.bought)
        assert np.isnan(np.concatenate([each for each, _ in batches])).sum() == len(values[::7])
        np.testing.assert_array_equal(np.concatenate([each for each, _ in batches]), features)
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), bought)
        assert ranker.is_trained
        if limit > 500:
            assert ranker.dump() == fit_ranker(expected, recipe, seed=1).dump()
        score = ranker.score(features)
        assert score[bought].mean() > score[~bought].mean() + 0.05  # labels are the first feature
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ids_of_task", [1_000_000, 7])
def test_ids_are_numbered_without_gaps_by_one_task_or_several(spark: SparkSession, ids_of_task: int) -> None:
    ids = [f"c{number:03}" for number in range(50)]
    pairs = spark.createDataFrame([(each,) for each in [*ids, *ids[:20]]], "customer_id string")
    found = number_ids(pairs, "customer_id", ids_of_task).toPandas().sort_values("customer_id_index")
    assert found["customer_id_index"].tolist() == list(range(50))
    assert sorted(found["customer_id"]) == ids
    assert (found["customer_id"].tolist() == ids) == (ids_of_task > 50)
    again = number_ids(pairs.repartition(3), "customer_id", ids_of_task).toPandas().sort_values("customer_id_index")
    assert again["customer_id"].tolist() == found["customer_id"].tolist()


def test_the_graph_does_not_depend_on_the_number_of_blocks(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        (f"c{u}", f"p{(u * step + i) % 13:02}", f"o{u}-{step}", step)
        for u in range(40)
        for step in (1, 3)
        for i in (0, 2, 5)
    ]
    bought, recipe = purchases(spark, *rows), CoPurchaseRecipe(min_support=2)
    few = co_purchase_graph(bought, recipe).toPandas()
    monkeypatch.setattr(graph_module, "_LINES_OF_BLOCK", 3)
    pd.testing.assert_frame_equal(co_purchase_graph(bought, recipe).toPandas(), few)
    assert len(few) > 20


def test_als_with_more_blocks_finds_the_same_neighbors(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = AlsRecipe(rank=4, iterations=10, alpha=10, min_buyers=1)
    monkeypatch.setattr(als_module, "_PAIRS_OF_BLOCK", 20)
    model = fit_als(purchases(spark, *checkerboard()), recipe, seed=1, explicit=False).toPandas()
    products = side(model, "product", "product_id")
    factors = np.stack(products["factors"])
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    even = products["product_id"].astype(int).to_numpy() % 2 == 0
    cosine = unit @ unit.T
    assert cosine[np.ix_(even, even)].min() > 0.5 > cosine[np.ix_(even, ~even)].max()
