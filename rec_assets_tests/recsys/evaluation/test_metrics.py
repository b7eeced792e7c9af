"""Metrics and bootstrap intervals, compared with calculations by hand, definitions and ranx."""

import doctest

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.evaluation import bootstrap, evaluate, metrics
from rec_assets.recsys.evaluation.bootstrap import bootstrap_interval, paired_bootstrap_difference
from rec_assets.recsys.evaluation.metrics import catalog_coverage, gini, intra_list_diversity, novelty, ranking_metrics


def lists(**products_by_customer: str) -> pd.DataFrame:
    """`lists(ann="abc")`: ann is shown a, b and c, in that order."""
    rows = [
        (customer, product, rank)
        for customer, products in products_by_customer.items()
        for rank, product in enumerate(products, start=1)
    ]
    return pd.DataFrame(rows, columns=["customer_id", "product_id", "rank"])


def bought(**products_by_customer: str) -> pd.DataFrame:
    return lists(**products_by_customer)[["customer_id", "product_id"]]


@pytest.mark.parametrize("module", [metrics, bootstrap, evaluate], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_are_correct(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


# Ranking metrics


def test_each_ranking_metric_agrees_with_a_calculation_by_hand():
    # Hits at ranks 2 and 4 of five; three products were bought.
    scores = ranking_metrics(lists(ann="vaxbw"), bought(ann="abc"), ks=[3, 5]).loc["ann"]

    assert scores["precision@3"] == pytest.approx(1 / 3)
    assert scores["precision@5"] == pytest.approx(2 / 5)
    assert scores["recall@3"] == pytest.approx(1 / 3)
    assert scores["recall@5"] == pytest.approx(2 / 3)
    assert scores["mrr@3"] == scores["mrr@5"] == pytest.approx(1 / 2)
    assert scores["hit_rate@5"] == 1
    assert scores["map@3"] == pytest.approx((1 / 2) / 3)
    assert scores["map@5"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    ideal = 1 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert scores["ndcg@3"] == pytest.approx((1 / np.log2(3)) / ideal)
    assert scores["ndcg@5"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / ideal)


@pytest.mark.parametrize("relevant", ["ab", "abcdefgh"], ids=["fewer than k", "more than k"])
def test_a_perfect_list_has_ndcg_and_map_of_one(relevant):
    scores = ranking_metrics(lists(ann="abcde"), bought(ann=relevant), ks=[5]).loc["ann"]
    assert scores[["ndcg@5", "map@5", "mrr@5", "hit_rate@5"]].tolist() == [1, 1, 1, 1]


def test_a_hit_below_k_does_not_count():
    scores = ranking_metrics(lists(ann="vwa"), bought(ann="a"), ks=[2])
    assert (scores == 0).all(axis=None)


def test_precision_divides_by_k_even_for_a_shorter_list():
    assert ranking_metrics(lists(ann="a"), bought(ann="a"), ks=[5]).loc["ann", "precision@5"] == 0.2


def test_the_customers_of_truth_are_evaluated():
    scores = ranking_metrics(lists(ann="a", eve="a"), bought(ann="a", bob="a"), ks=[1])
    assert scores.index.tolist() == ["ann", "bob"]
    assert scores["hit_rate@1"].tolist() == [1, 0]


def test_without_lists_all_metrics_are_zero():
    nothing = lists(ann="a").iloc[:0]
    assert ranking_metrics(nothing, bought(ann="a"), ks=[5]).to_numpy().sum() == 0


@pytest.mark.parametrize(
    ("recommendations", "truth", "message"),
    [
        (lists(ann="aa"), bought(ann="a"), "recommended twice"),
        (lists(ann="ab").assign(rank=1), bought(ann="a"), "share a rank"),
        (lists(ann="ab").assign(rank=[0, 1]), bought(ann="a"), "must be at least 1"),
        (lists(ann="a"), bought(ann="aa"), "is twice in truth"),
    ],
)
def test_duplicate_pairs_and_ranks_are_refused(recommendations, truth, message):
    with pytest.raises(ValueError, match=message):
        ranking_metrics(recommendations, truth, ks=[5])


@pytest.mark.long  # ranx compiles itself first
@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaTypeSafetyWarning")
def test_ranking_metrics_agree_with_ranx():
    """For lists of the maximum length, all metrics have the same definition in ranx, except map@k.

    ranx divides average precision by the number of products bought, this project by min(k, number of products bought).
    """
    rng = np.random.default_rng(3)
    products = [f"p{i:02}" for i in range(60)]
    shown = {f"c{i:02}": rng.permutation(products)[:20].tolist() for i in range(50)}
    wanted = {customer: rng.permutation(products)[: rng.integers(1, 40)].tolist() for customer in shown}
    import ranx  # imports Numba, which takes seconds

    qrels = ranx.Qrels({customer: dict.fromkeys(items, 1) for customer, items in wanted.items()})
    run = ranx.Run(
        {
            customer: {product: 1 / rank for rank, product in enumerate(items, start=1)}
            for customer, items in shown.items()
        }
    )
    measured = ("precision", "recall", "ndcg", "map", "mrr", "hit_rate")
    names = [f"{name}@{k}" for k in (5, 10, 20) for name in measured]
    theirs = pd.DataFrame(ranx.evaluate(qrels, run, names, return_mean=False), index=sorted(shown))

    ours = ranking_metrics(
        pd.DataFrame(
            [(c, p, rank) for c, items in shown.items() for rank, p in enumerate(items, start=1)],
            columns=["customer_id", "product_id", "rank"],
        ),
        pd.DataFrame([(c, p) for c, items in wanted.items() for p in items], columns=["customer_id", "product_id"]),
    )

    relevant = pd.Series({customer: len(items) for customer, items in wanted.items()}).sort_index()
    for k in (5, 10, 20):
        theirs[f"map@{k}"] *= relevant / relevant.clip(upper=k)
    pd.testing.assert_frame_equal(ours[names], theirs[names], check_names=False)


# Beyond accuracy


def test_coverage_counts_each_product_once():
    assert catalog_coverage(lists(ann="ab", bob="ac"), k=2, catalog_size=10) == 0.3
    assert catalog_coverage(lists(ann="ab", bob="ac"), k=1, catalog_size=10) == 0.1


def test_gini_agrees_with_its_definition_by_pairs():
    shown = [4, 2, 1, 0, 0, 0]
    by_pairs = np.abs(np.subtract.outer(shown, shown)).sum() / (2 * len(shown) * sum(shown))
    recommendations = lists(ann="ab", bob="ab", cem="a", dan="ac")
    assert gini(recommendations, k=10, catalog_size=6) == pytest.approx(by_pairs)


def test_gini_is_highest_if_all_lists_show_one_product():
    assert gini(lists(ann="a", bob="a"), k=10, catalog_size=4) == pytest.approx(3 / 4)


@pytest.mark.parametrize("measure", [catalog_coverage, gini])
def test_more_recommended_products_than_the_catalog_has_is_an_error(measure):
    with pytest.raises(ValueError, match="3 products are recommended out of a catalog of 2"):
        measure(lists(ann="abc"), k=10, catalog_size=2)


def test_novelty_of_best_sellers_is_zero_and_of_products_without_buyers_finite():
    buyers = pd.Series({"a": 15, "b": 7})
    assert novelty(lists(ann="a"), k=10, buyers=buyers, customers=15) == 0
    assert novelty(lists(ann="b"), k=10, buyers=buyers, customers=15) == 1
    assert novelty(lists(ann="z"), k=10, buyers=buyers, customers=15) == 4
    assert novelty(lists(ann="az"), k=1, buyers=buyers, customers=15) == 0


def test_diversity_agrees_with_the_cosine_of_each_pair(monkeypatch):
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((6, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = pd.Series({"a": 5, "b": 0, "c": 3, "d": 3, "e": 1})
    recommendations = lists(ann="abc", bob="cd", cem="edab")
    by_list = []
    for products in ("abc", "cd", "edab"):
        cosines = vectors[rows[list(products)]] @ vectors[rows[list(products)]].T
        by_list.append(1 - cosines[np.triu_indices(len(products), k=1)].mean())

    assert intra_list_diversity(recommendations, k=10, rows=rows, vectors=vectors) == pytest.approx(
        np.mean(by_list), abs=1e-6
    )
    monkeypatch.setattr(metrics, "_BLOCK_LISTS", 2)
    assert intra_list_diversity(recommendations, k=10, rows=rows, vectors=vectors) == pytest.approx(
        np.mean(by_list), abs=1e-6
    )


def test_diversity_leaves_out_products_without_embedding_and_lists_without_pairs():
    vectors = np.eye(2, dtype=np.float32)
    rows = pd.Series({"a": 0, "b": 1})
    recommendations = lists(ann="axb", bob="ax", cem="x")
    assert intra_list_diversity(recommendations, k=10, rows=rows, vectors=vectors) == 1
    assert np.isnan(intra_list_diversity(recommendations, k=2, rows=rows, vectors=vectors))
    assert np.isnan(intra_list_diversity(recommendations, k=10, rows=rows.iloc[:0], vectors=vectors))


# Bootstrap


def test_the_bootstrap_interval_includes_the_true_mean_at_its_level():
    rng = np.random.default_rng(11)
    experiments = rng.exponential(scale=2.0, size=(200, 400))  # 400 experiments
    _, low, high = bootstrap_interval(experiments, level=0.9, seed=1)
    held = ((low < 2.0) & (high > 2.0)).mean()
    assert 0.85 < held < 0.93


def test_the_width_of_the_bootstrap_interval_agrees_with_theory():
    values = np.random.default_rng(2).normal(size=2000)
    mean, low, high = bootstrap_interval(values, resamples=4000, seed=1)
    assert mean == values.mean()
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.05)


def test_the_same_seed_gives_the_same_interval_with_and_without_other_columns(monkeypatch):
    values = np.random.default_rng(2).random((50, 3))
    together = bootstrap_interval(values, seed=9)
    alone = bootstrap_interval(values[:, 1], seed=9)
    assert alone.low == pytest.approx(together.low[1])
    assert alone.high == pytest.approx(together.high[1])
    assert bootstrap_interval(values[:, 1], seed=10).low != alone.low

    monkeypatch.setattr(bootstrap, "_BLOCK_CELLS", 120)  # two resamples at a time
    np.testing.assert_allclose(bootstrap_interval(values, seed=9), together)


def test_a_mean_without_customers_is_refused():
    with pytest.raises(ValueError, match="at least one customer"):
        bootstrap_interval([], seed=1)


def test_paired_intervals_detect_a_difference_that_separate_intervals_do_not():
    rng = np.random.default_rng(4)
    worse = rng.random(200)
    better = worse + rng.normal(0.01, 0.02, size=200)
    assert bootstrap_interval(better, seed=1).low < bootstrap_interval(worse, seed=1).high
    difference = paired_bootstrap_difference(better, worse, seed=1)
    assert 0 < difference.low < difference.mean < difference.high


def test_different_numbers_of_customers_are_refused():
    with pytest.raises(ValueError, match="the numbers of customers differ"):
        paired_bootstrap_difference([0.1, 0.2], [0.1], seed=1)
