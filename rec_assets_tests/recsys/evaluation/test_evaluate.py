"""Slices, evaluation of several models, comparison with baselines, and RMSE."""

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.evaluation.evaluate import (
    SLICES,
    CatalogStatistics,
    Evaluation,
    baseline_verdict,
    evaluate,
    make_slices,
    metric_values,
    rmse,
)


def pairs(text: str) -> pd.DataFrame:
    """`pairs("ann:ab bob:c")`: ann and a, ann and b, bob and c."""
    rows = [(who, product) for who, products in map(lambda s: s.split(":"), text.split()) for product in products]
    return pd.DataFrame(rows, columns=["customer_id", "product_id"])


def lists(model: str, kind: str, text: str) -> pd.DataFrame:
    frame = pairs(text)
    rank = frame.groupby("customer_id").cumcount() + 1
    return frame.assign(model=model, list=kind, rank=rank)


def in_words(frame: pd.DataFrame) -> set[str]:
    return set(frame["customer_id"] + ":" + frame["product_id"])


# a: bought by three customers, b by two, c and d by one each; z is unknown. eve is a new customer.
HISTORY = pairs("ann:ab bob:abc cem:ad")
ORDERS = pd.Series({"ann": 1, "bob": 5, "cem": 9})
TRUTH = pairs("ann:ac bob:az cem:bz eve:az")

CATALOG = CatalogStatistics(
    size=10,
    customers=3,
    buyers=pd.Series({"a": 3, "b": 2, "c": 1, "d": 1}),
    embedding_rows=pd.Series({"a": 0, "b": 1, "c": 2}),
    embeddings=np.eye(3, dtype=np.float32),
)
LISTS = pd.concat(
    [
        lists("hybrid", "all", "ann:ac bob:az cem:ad"),
        lists("hybrid", "discover", "ann:c bob:d cem:b"),
        lists("popularity", "all", "ann:ba bob:ba cem:ba"),
        lists("popularity", "discover", "ann:c bob:d cem:c"),
        lists("own purchases", "all", "ann:ab bob:ab cem:ad"),
    ]
)
FALLBACK = pd.DataFrame({"model": ["hybrid", "hybrid", "popularity"], "product_id": ["a", "z", "b"], "rank": [1, 2, 1]})


def evaluated(lists: pd.DataFrame = LISTS, truth: pd.DataFrame = TRUTH, **options) -> Evaluation:
    slices = make_slices(truth, HISTORY, ORDERS, cold_buyers=2)
    return evaluate(lists, slices, **{"fallback": FALLBACK, "catalog": CATALOG, "seed": 1} | options)


# Slices


def test_each_slice_has_its_purchases():
    truth = {part.name: in_words(part.truth) for part in make_slices(TRUTH, HISTORY, ORDERS, cold_buyers=2)}
    assert truth == {
        "all": {"ann:a", "ann:c", "bob:a", "bob:z", "cem:b", "cem:z"},
        "novel": {"ann:c", "bob:z", "cem:b", "cem:z"},
        "new customers": {"eve:a", "eve:z"},
        "one order": {"ann:a", "ann:c"},
        "cold products": {"ann:c", "bob:z", "cem:z"},
        "low activity": {"ann:a", "ann:c"},
        "medium activity": {"bob:a", "bob:z"},
        "high activity": {"cem:b", "cem:z"},
    }
    assert tuple(truth) == SLICES


def test_only_slices_of_novel_purchases_use_discover_lists():
    kinds = {part.name: part.list_name for part in make_slices(TRUTH, HISTORY, ORDERS)}
    assert {name for name, kind in kinds.items() if kind == "discover"} == {"novel", "cold products"}
    assert set(kinds.values()) == {"all", "discover"}


def activity_groups(orders: dict[str, int]) -> dict[str, set[str]]:
    everyone = pairs(" ".join(f"{customer}:a" for customer in orders))
    parts = make_slices(everyone, everyone, pd.Series(orders))
    return {part.name.split()[0]: set(part.truth["customer_id"]) for part in parts if "activity" in part.name}


def test_customers_with_the_same_number_of_orders_are_in_the_same_activity_group():
    groups = activity_groups({"ann": 1, "bob": 1, "cem": 1, "dan": 4, "eve": 9, "fay": 9})
    assert groups == {"low": {"ann", "bob", "cem"}, "medium": {"dan"}, "high": {"eve", "fay"}}


def test_if_all_customers_have_the_same_number_of_orders_all_have_medium_activity():
    groups = activity_groups({"ann": 3, "bob": 3, "cem": 3, "dan": 3})
    assert groups == {"low": set(), "medium": {"ann", "bob", "cem", "dan"}, "high": set()}


def test_activity_is_relative_to_the_evaluated_customers():
    orders = pd.Series({"ann": 100, "bob": 200, "cem": 300} | {f"away {i}": 1 for i in range(50)})
    parts = make_slices(pairs("ann:a bob:a cem:a"), pairs("ann:a bob:a cem:a"), orders)
    assert [len(part.truth) for part in parts if "activity" in part.name] == [1, 1, 1]


def test_a_customer_without_a_number_of_orders_is_an_error():
    with pytest.raises(ValueError, match="no number of orders for customer 'cem'"):
        make_slices(TRUTH, HISTORY, ORDERS.drop("cem"))


# Evaluation


def test_metrics_are_means_over_the_customers_of_the_slice():
    metrics = evaluated().metrics
    # Hits: ann 2 of 2, bob 2 of 2, cem 0 of 2.
    assert metric_values(metrics, "all", "recall").loc["hybrid", "value"] == pytest.approx(2 / 3)
    assert metric_values(metrics, "novel", "hit_rate").loc["hybrid", "value"] == pytest.approx(2 / 3)
    assert metric_values(metrics, "low activity", "ndcg").loc["hybrid", "value"] == 1
    assert metric_values(metrics, "all", "recall").loc["hybrid", "customers"] == 3


def test_purchases_of_unknown_products_count_in_the_denominator():
    lists_without_z = LISTS[LISTS["product_id"] != "z"]
    # bob bought a and z; only a could have been shown.
    recall = metric_values(evaluated(lists_without_z).metrics, "medium activity", "recall")
    assert recall.loc["hybrid", "value"] == 0.5


def test_a_customer_without_a_list_counts_as_zero():
    without_bob = LISTS[(LISTS["model"] != "hybrid") | (LISTS["customer_id"] != "bob")]
    hit_rate = metric_values(evaluated(without_bob).metrics, "all", "hit_rate").loc["hybrid"]
    assert hit_rate["value"] == pytest.approx(1 / 3)
    assert hit_rate["customers"] == 3


def test_new_customers_are_evaluated_with_the_fallback_list():
    recall = metric_values(evaluated().metrics, "new customers", "recall")
    assert recall["value"].to_dict() == {"hybrid": 1.0, "popularity": 0.0}
    assert recall["customers"].to_dict() == {"hybrid": 1, "popularity": 1}


def test_a_model_without_a_list_is_left_out_of_its_slices_only():
    metrics = evaluated().metrics
    slices = set(metrics.loc[metrics["model"] == "own purchases", "slice"])
    assert slices == set(SLICES) - {"novel", "cold products", "new customers"}


def test_a_reference_without_discover_lists_counts_as_zero():
    result = evaluated(LISTS[LISTS["list"] == "all"])
    assert metric_values(result.metrics, "novel", "ndcg")["value"].to_dict() == {"hybrid": 0.0}
    assert baseline_verdict(result.metrics, result.differences, "novel") is None
    assert metric_values(result.metrics, "all", "ndcg").loc["hybrid", "value"] > 0


def test_without_customers_with_history_only_new_customers_are_evaluated():
    slices = make_slices(TRUTH, HISTORY.head(0), ORDERS.head(0))
    result = evaluate(LISTS.head(0), slices, fallback=FALLBACK, catalog=CATALOG, seed=1)
    assert metric_values(result.metrics, "new customers", "ndcg").loc["hybrid", "customers"] == 4
    assert baseline_verdict(result.metrics, result.differences, "all") is None
    assert metric_values(result.metrics, "all", "ndcg")["customers"].to_dict() == {"hybrid": 0}


def test_metrics_beyond_accuracy_use_the_evaluated_customers_of_all_and_novel():
    crowd = lists("hybrid", "all", "eve:efgh")  # eve has no history, so her list is not evaluated
    metrics = evaluated(pd.concat([LISTS, crowd])).metrics
    beyond = metrics[metrics["metric"] == "catalog_coverage"]
    assert set(beyond["slice"]) == {"all", "novel"}
    assert metric_values(metrics, "all", "catalog_coverage").loc["hybrid", "value"] == 0.4  # a, c, d, z of ten
    assert beyond[["ci_low", "ci_high"]].isna().all(axis=None)


def test_each_metric_has_a_value_and_an_interval_for_each_k():
    metrics = evaluated().metrics
    hybrid = metrics[(metrics["slice"] == "all") & (metrics["model"] == "hybrid")]
    assert len(hybrid) == (6 + 4) * 3
    assert not hybrid.duplicated(["metric", "k"]).any()
    ranking = metrics.dropna(subset="ci_low")
    assert (ranking["ci_low"] <= ranking["value"]).all()
    assert (ranking["value"] <= ranking["ci_high"]).all()


def test_differences_to_each_baseline_are_paired_by_customer():
    result = evaluated()
    overall = result.differences[result.differences["slice"] == "all"].set_index("baseline")
    assert set(overall.index) == {"own purchases", "popularity"}
    ndcg = metric_values(result.metrics, "all", "ndcg")["value"]
    assert overall["value"].to_dict() == pytest.approx({model: ndcg["hybrid"] - ndcg[model] for model in overall.index})
    # The hybrid is ahead for ann and bob and level for cem, so no resample makes it worse.
    assert overall.loc["own purchases", "ci_low"] >= 0


def test_a_slice_without_customers_has_nan():
    result = evaluated(truth=TRUTH[TRUTH["customer_id"] != "eve"])
    nobody = result.metrics[result.metrics["slice"] == "new customers"]
    assert nobody["value"].isna().all()
    assert (nobody["customers"] == 0).all()
    assert baseline_verdict(result.metrics, result.differences, "new customers") is None


def test_the_same_seed_gives_the_same_evaluation():
    first, second = evaluated(), evaluated(LISTS.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(first.metrics, second.metrics)
    pd.testing.assert_frame_equal(first.differences, second.differences)


def test_ks_must_include_ten():
    with pytest.raises(ValueError, match="ks must include 10"):
        evaluated(ks=(5, 20))


# Verdict


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.01, 0.05, "ahead"), (-0.01, 0.05, "level"), (0.0, 0.05, "level"), (-0.05, -0.01, "behind")],
)
def test_the_verdict_is_level_if_the_interval_includes_zero(low, high, outcome):
    result = evaluated()
    differences = result.differences.assign(ci_low=low, ci_high=high)
    assert baseline_verdict(result.metrics, differences, "all").outcome == outcome


def test_the_verdict_compares_with_the_best_baseline():
    result = evaluated()
    verdict = baseline_verdict(result.metrics, result.differences, "all")
    assert verdict.model == "hybrid"
    # Popularity's "b, a" has one hit of two for each customer, own purchases has none for cem.
    assert verdict.baseline == "popularity"
    assert verdict.difference == pytest.approx(verdict.value - verdict.baseline_value)


# Ratings


def test_rmse_counts_only_rated_pairs_with_a_prediction():
    ratings = pairs("ann:ab bob:a cem:a").assign(rating=[5.0, 1.0, 3.0, 2.0])
    predictions = pairs("ann:ab bob:a dan:a").assign(prediction=[4.0, 3.0, np.nan, 5.0])
    assert rmse(predictions, ratings) == pytest.approx(np.sqrt((1 + 4) / 2))


def test_rmse_without_a_rated_pair_is_nan():
    predictions = pairs("ann:a").assign(prediction=[4.0])
    assert np.isnan(rmse(predictions, pairs("bob:a").assign(rating=[4.0])))
