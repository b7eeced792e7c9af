"""Candidates, features and lists of shops so small that the right answer is plain."""

import datetime as dt
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from rec_assets.recsys.data.histories import build_histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.evaluation.baselines import baseline_lists
from rec_assets.recsys.events import DISMISSED
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES, feature_matrix
from rec_assets.recsys.ranking.lists import build_lists, popular_lists
from rec_assets.recsys.ranking.ranker import Ranker, TrainingSample, fit_ranker
from rec_assets.recsys.recipe import AlsRecipe, Recipe
from rec_assets.recsys.retrieval.candidates import CANDIDATE_COLUMNS, find_candidates
from rec_assets.recsys.retrieval.sources.als import fold_in
from rec_assets.recsys.retrieval.sources.repeat_purchase import rhythm

AS_OF = dt.date(2024, 6, 30)
TEA, MUG, POT, SOAP, NEW_TEA = "001", "002", "003", "004", "005"


def a_snapshot(**changes: pd.DataFrame) -> ProductSnapshot:
    """Five products: tea, mug and pot are bought together, soap is popular, nobody has bought the new tea yet."""
    tables = {
        "products": pd.DataFrame(
            {
                "product_id": [TEA, MUG, POT, SOAP, NEW_TEA],
                "title": ["Tea", "Mug", "Pot", "Soap", "New tea"],
                "category": ["tea", "china", "china", "bath", "tea"],
                "brand": ["Leaf", "Clay", "Clay", None, "Leaf"],
                "price": [3.0, 5.0, 9.0, 2.0, 4.0],
                "content_hash": ["tea", "mug", "pot", "soap", "tea"],
                "first_seen": [dt.date(2024, 1, 1)] * 4 + [dt.date(2024, 6, 29)],
                "excluded": [False] * 5,
            }
        ),
        "statistics": pd.DataFrame(
            {
                "product_id": [TEA, MUG, POT, SOAP],
                "order_lines": [10, 6, 4, 30],
                "recent_order_lines": [2, 1, 1, 9],
                "recent_buyers": [2, 1, 1, 9],
                "new_buyers": [1, 1, 0, 3],
                "buyers": [5, 4, 4, 20],
                "returns": [0, 0, 0, 10],
                "repeat_share": [0.5, 0, 0, 0.1],
                "interval_days": [14.0, np.nan, np.nan, 30.0],
                "price": [3.0, 5.0, 9.0, 2.0],
            }
        ),
        "factors": pd.DataFrame(
            {"product_id": [TEA, MUG, POT, SOAP], "factors": [[1.0, 0], [0.9, 0.1], [0.8, 0.2], [0, 1.0]]}
        ),
        "graph": pd.DataFrame(
            {
                "kind": ["same_basket", "same_basket", "next_basket"],
                "product_id": [TEA, MUG, TEA],
                "neighbor_id": [MUG, POT, POT],
                "weight": [0.5, 0.4, 0.3],
            }
        ),
        "embeddings": pd.DataFrame(
            {
                "content_hash": ["mug", "pot", "soap", "tea"],
                "vector": [[0.6, 0.8, 0], [0.8, 0.6, 0], [0, 0, 1.0], [1.0, 0, 0]],
            }
        ),
    }
    return build_product_snapshot(AS_OF, **{**tables, **changes})


def lines(*rows: tuple[str, str, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["customer_id", "product_id", "age_days"])
    return frame.assign(order_id=frame["customer_id"] + "@" + frame["age_days"].astype(str), weight=1.0, rating=np.nan)


def pair(candidates: pd.DataFrame, customer: str, product: str) -> pd.Series:
    rows = candidates[(candidates["customer_id"] == customer) & (candidates["product_id"] == product)]
    assert len(rows) == 1, f"{customer} × {product}: {len(rows)} rows"
    return rows.iloc[0]


def test_candidates_are_the_history_and_what_each_source_proposes() -> None:
    candidates = find_candidates(lines(("ann", TEA, 5)), a_snapshot(), Recipe())
    assert candidates["product_id"].tolist() == [TEA, MUG, POT, SOAP, NEW_TEA]
    assert tuple(candidates.columns) == CANDIDATE_COLUMNS
    assert pair(candidates, "ann", MUG)["co_purchase_anchor"] == TEA
    assert pair(candidates, "ann", MUG)["same_basket"] == pytest.approx(0.5)
    assert pair(candidates, "ann", POT)["next_basket"] == pytest.approx(0.3)
    assert pair(candidates, "ann", NEW_TEA)["text_anchor"] == TEA
    assert pair(candidates, "ann", NEW_TEA)["text_score"] == pytest.approx(1.0)


def weighted(*rows: tuple[str, str, int, float]) -> pd.DataFrame:
    """Lines with a weight."""
    return lines(*(row[:3] for row in rows)).assign(weight=[row[3] for row in rows])


@pytest.mark.parametrize(
    ("rows", "is_candidate"),
    [
        ([("ann", MUG, 3, DISMISSED)], False),
        ([("ann", MUG, 3, DISMISSED), ("ann", MUG, 5, 1.0)], False),
        ([("ann", MUG, 3, DISMISSED), ("ann", MUG, 2, 1.0)], True),
        ([("ann", MUG, 3, DISMISSED), ("ann", MUG, 3, 1.0)], True),
        ([("ann", MUG, 3, DISMISSED), ("ann", MUG, 2, 0.1)], False),
        ([("ann", MUG, 3, DISMISSED), ("ann", MUG, 1, DISMISSED), ("ann", MUG, 2, 1.0)], False),
        ([("bob", MUG, 3, DISMISSED)], True),
    ],
    ids=["never bought", "bought before", "bought since", "same day", "clicked since", "twice", "another customer"],
)
def test_a_dismissed_product_is_no_candidate_until_it_is_bought(
    rows: list[tuple[str, str, int, float]], is_candidate: bool
) -> None:
    candidates = find_candidates(weighted(("ann", TEA, 5, 1.0), *rows), a_snapshot(), Recipe())
    of_ann = candidates[candidates["customer_id"] == "ann"]
    assert (MUG in of_ann["product_id"].to_list()) == is_candidate
    assert (of_ann["customer_orders"] >= 1).all() and set(candidates["customer_id"]) == {"ann"}


def test_a_dismissal_is_no_return() -> None:
    histories = build_histories(weighted(("ann", TEA, 5, 1.0), ("ann", MUG, 3, DISMISSED)), a_snapshot())
    assert histories.customer_returns.tolist() == [0] and histories.customer_lines.tolist() == [1]
    assert histories.slice(0, 1).dismissed_product.tolist() == [1] and not len(histories.slice(1, 2).dismissed_product)


def test_category_taste_also_learns_from_attributes() -> None:
    products = pd.DataFrame(
        {
            "product_id": ["red tea", "red mug", "blue mug"], "title": "x", "category": ["tea", "china", "china"],
            "brand": None, "price": 1.0, "content_hash": None, "first_seen": dt.date(2024, 1, 1), "excluded": False,
            "taste": ['["color=red"]', '["color=red", "look=plain"]', '["color=blue", "look=plain"]'],
        }
    )  # fmt: skip
    counts = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers")
    statistics = pd.DataFrame({"product_id": products["product_id"], **dict.fromkeys(counts, 4), "price": 1.0})
    statistics = statistics.assign(returns=0, repeat_share=0.0, interval_days=np.nan)
    nothing = {"factors": ["product_id", "factors"], "graph": ["kind", "product_id", "neighbor_id", "weight"],
               "embeddings": ["content_hash", "vector"]}  # fmt: skip
    empty = {name: pd.DataFrame({column: [] for column in columns}) for name, columns in nothing.items()}
    snapshot = build_product_snapshot(AS_OF, products=products, statistics=statistics, **empty)
    candidates = find_candidates(lines(("ann", "red tea", 5)), snapshot, Recipe()).set_index("product_id")
    # The mean of the shares of category, color and look in the history.
    assert candidates["category_affinity"].to_dict() == pytest.approx(
        {"red tea": (1 + 1 + 0) / 3, "red mug": (0 + 1 + 0) / 3, "blue mug": 0}
    )


def test_repeat_purchase_features_count_decay_and_time_the_history() -> None:
    candidates = find_candidates(lines(("ann", TEA, 0), ("ann", TEA, 14), ("ann", TEA, 28)), a_snapshot(), Recipe())
    tea, half_life = pair(candidates, "ann", TEA), Recipe().candidates.repeat_half_life_days
    assert (tea["repeat_order_lines"], tea["repeat_days"], tea["repeat_interval"], tea["repeat_last_age"]) == (
        3,
        3,
        14,
        0,
    )
    assert tea["repeat_score"] == pytest.approx(sum(0.5 ** (age / half_life) for age in (0, 14, 28)), rel=1e-5)
    mug = pair(candidates, "ann", MUG)
    assert mug["repeat_order_lines"] == 0
    assert np.isnan(mug["repeat_last_age"])


def test_returns_change_the_return_rate_and_nothing_else() -> None:
    bought = lines(("ann", TEA, 30), ("ann", TEA, 9), ("bob", SOAP, 3))
    returned = lines(("ann", SOAP, 2), ("cat", TEA, 4)).assign(weight=-1.0)
    candidates = find_candidates(pd.concat([bought, returned]), a_snapshot(), Recipe())
    without = find_candidates(bought, a_snapshot(), Recipe())
    pd.testing.assert_frame_equal(candidates.drop(columns="return_rate"), without.drop(columns="return_rate"))
    shop = 10 / 60  # of soap, with 30 lines kept and 10 returned; 20 lines of others kept
    of_soap, of_tea = (10 + 10 * shop) / (30 + 10 + 10), 10 * shop / (10 + 10)
    of_ann, of_bob = (1 + 10 * shop) / (2 + 1 + 10), 10 * shop / (1 + 10)
    assert pair(candidates, "ann", SOAP)["return_rate"] == pytest.approx(of_soap * of_ann / shop)
    assert pair(candidates, "ann", TEA)["return_rate"] == pytest.approx(of_tea * of_ann / shop)
    assert pair(candidates, "bob", SOAP)["return_rate"] == pytest.approx(of_soap * of_bob / shop)


def test_complements_of_the_last_order_end_with_the_next_session() -> None:
    bought = lines(("ann", SOAP, 30), ("ann", TEA, 2))
    candidates = find_candidates(bought, a_snapshot(), Recipe())
    assert pair(candidates, "ann", MUG)["complement"] == pytest.approx(0.5)
    assert pair(candidates, "ann", TEA)["complement"] == pair(candidates, "ann", SOAP)["complement"] == 0
    for viewed in ((MUG,), (TEA, MUG)):
        clicks = lines(*(("ann", product, 1) for product in viewed)).assign(order_id="session", weight=0.1)
        candidates = find_candidates(pd.concat([bought, clicks]), a_snapshot(), Recipe())
        assert (candidates["complement"] == 0).all()


def test_orders_of_one_day_are_distinguished_by_their_ids() -> None:
    one_day = pd.DataFrame(
        {"customer_id": "ann", "product_id": [TEA, MUG, POT, TEA], "order_id": ["o1", "o2", "o3", "o0"],
         "age_days": [0, 0, 0, 9], "weight": 1.0, "rating": np.nan}
    )  # fmt: skip
    histories = build_histories(one_day, a_snapshot())
    last = dict(zip([TEA, MUG, POT], histories.orders_since, strict=True))
    assert last == {TEA: 2, MUG: 1, POT: 0}
    assert histories.decayed_lines(1e9, 0.5).tolist() == pytest.approx([0.25 + 0.125, 0.5, 1.0])


def test_a_click_adds_to_the_profile_and_is_no_purchase() -> None:
    bought = lines(("ann", TEA, 30), ("ann", TEA, 9))
    clicked = lines(("ann", MUG, 2)).assign(order_id="session", weight=0.1)
    candidates = find_candidates(pd.concat([bought, clicked]), a_snapshot(), Recipe())
    without = find_candidates(bought, a_snapshot(), Recipe())
    mug, pot, tea = (pair(candidates, "ann", product) for product in (MUG, POT, TEA))
    assert (mug["repeat_order_lines"], mug["repeat_score"]) == (0, 0) and np.isnan(mug["repeat_last_age"])
    assert pot["same_basket_last_visit"] == pytest.approx(0.4)  # the session is later than any order
    assert pot["same_basket"] > pair(without, "ann", POT)["same_basket"] == 0
    assert mug["als_score"] > pair(without, "ann", MUG)["als_score"]
    owned = [*FEATURE_GROUPS["repeat_purchase"], *FEATURE_GROUPS["customer"]]
    assert tea[owned].to_list() == pytest.approx(pair(without, "ann", TEA)[owned].to_list(), nan_ok=True)


def test_a_visit_with_a_purchase_is_one_order() -> None:
    visits = pd.DataFrame(
        {"customer_id": "ann", "product_id": [SOAP, TEA, MUG, POT], "order_id": ["a", "b", "b", "c"],
         "age_days": [9, 0, 0, 0], "weight": [1.0, 0.1, 1.0, 0.1], "rating": np.nan}
    )  # fmt: skip
    for lines_of_visit in (visits, visits.iloc[::-1]):
        histories = build_histories(lines_of_visit, a_snapshot())
        place = dict(zip([TEA, MUG, POT, SOAP], histories.orders_since, strict=True))
        assert (place[SOAP], place[MUG]) == (1, 0) and np.isnan(place[TEA]) and np.isnan(place[POT])
        assert histories.customer_orders.tolist() == [2] and histories.line_orders_since.min() == 0
        assert histories.in_last_visit.tolist() == [False, False, True, False]


def test_a_visitor_with_clicks_alone_gets_candidates_and_has_bought_nothing() -> None:
    candidates = find_candidates(lines(("guest", TEA, 0)).assign(weight=0.1), a_snapshot(), Recipe())
    assert not (candidates["repeat_order_lines"] > 0).any()
    assert {MUG, NEW_TEA, TEA} <= set(candidates["product_id"])
    assert (pair(candidates, "guest", MUG)["customer_orders"], pair(candidates, "guest", MUG)["same_basket"]) == (
        0,
        0.5,
    )


def test_the_last_order_has_scores_of_its_own() -> None:
    candidates = find_candidates(lines(("ann", TEA, 30), ("ann", MUG, 2)), a_snapshot(), Recipe())
    pot = pair(candidates, "ann", POT)
    assert pot["same_basket_last_visit"] == pytest.approx(0.4)  # from the mug alone
    assert pot["next_basket_last_visit"] == 0  # only tea has a follower
    assert 0 < pot["same_basket"] < 0.4


def test_time_since_a_text_category_or_brand_is_counted_in_orders() -> None:
    candidates = find_candidates(lines(("ann", TEA, 30), ("ann", MUG, 9), ("ann", SOAP, 2)), a_snapshot(), Recipe())
    new_tea, pot, soap = (pair(candidates, "ann", product) for product in (NEW_TEA, POT, SOAP))
    assert (new_tea["text_orders_since"], new_tea["category_orders_since"], new_tea["brand_orders_since"]) == (2, 2, 2)
    assert np.isnan(pot["text_orders_since"])
    assert (pot["category_orders_since"], pot["brand_orders_since"]) == (1, 1)
    assert np.isnan(soap["brand_orders_since"])  # no brand is not a brand
    assert (soap["brand_affinity"], pot["brand_affinity"]) == (0, pytest.approx(1 / 3))
    usual = np.exp(np.mean(np.log([3.0, 5.0, 2.0])))
    assert pot["price_relative"] == pytest.approx(np.log(9.0 / usual), rel=1e-5)


def test_a_snapshot_leaves_out_products_that_are_excluded_or_first_seen_later() -> None:
    products = pd.DataFrame(
        {
            "product_id": ["old", "later", "banned"], "title": "", "category": None, "brand": None, "price": 1.0,
            "content_hash": None, "excluded": [False, False, True],
            "first_seen": [AS_OF, AS_OF + dt.timedelta(days=1), AS_OF],
        }
    )  # fmt: skip
    assert a_snapshot(products=products).product_ids.tolist() == ["old"]


def test_candidates_do_not_depend_on_other_customers_or_the_order_of_lines() -> None:
    ann = [("ann", TEA, 0), ("ann", MUG, 14), ("ann", TEA, 28)]
    others = [(f"c{i}", product, i) for i in range(150) for product in (SOAP, POT)]
    alone = find_candidates(lines(*ann), a_snapshot(), Recipe())
    among = find_candidates(lines(*others, *reversed(ann)), a_snapshot(), Recipe())
    among = among[among["customer_id"] == "ann"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, check_exact=False, rtol=1e-5)


def test_a_shop_without_text_factors_or_graph_still_gets_candidates() -> None:
    snapshot = a_snapshot(
        factors=pd.DataFrame({"product_id": [], "factors": []}),
        graph=pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []}),
        embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
    )
    candidates = find_candidates(lines(("ann", TEA, 5)), snapshot, Recipe())
    assert set(candidates["product_id"]) == {TEA, MUG, POT, SOAP, NEW_TEA}


def test_without_customers_there_are_no_candidates() -> None:
    assert find_candidates(lines(), a_snapshot(), Recipe()).empty


def test_folding_in_puts_the_customer_near_what_they_bought() -> None:
    snapshot = a_snapshot()
    histories = build_histories(lines(("ann", TEA, 0), ("bob", SOAP, 0)), snapshot)
    scores = fold_in(histories, snapshot, AlsRecipe()) @ snapshot.factors.T
    tea, soap = (list(snapshot.product_ids).index(product) for product in (TEA, SOAP))
    assert scores[0, tea] > scores[0, soap]
    assert scores[1, soap] > scores[1, tea]


def test_explicit_fold_in_solves_the_ridge_regression() -> None:
    snapshot = a_snapshot()
    rated = lines(("ann", TEA, 0), ("ann", SOAP, 0)).assign(rating=[5.0, 1.0])
    recipe = AlsRecipe(regularization=0.1)
    vector = fold_in(build_histories(rated, snapshot), snapshot, recipe)[0]
    y = np.array([[1.0, 0], [0, 1.0]])
    assert vector == pytest.approx(np.linalg.solve(y.T @ y + 0.2 * np.eye(2), y.T @ [5.0, 1.0]), rel=1e-5)


def test_a_saved_snapshot_gives_the_same_candidates(tmp_path) -> None:
    snapshot = a_snapshot()
    snapshot.save(tmp_path)
    again = ProductSnapshot.load(tmp_path)
    candidates = [find_candidates(lines(("ann", TEA, 5)), s, Recipe()) for s in (snapshot, again)]
    pd.testing.assert_frame_equal(*candidates)


@pytest.fixture(scope="module")
def trained() -> tuple[pd.DataFrame, Ranker]:
    """Customers who buy tea every week, and never soap."""
    rows = [
        (f"c{i:03}", product, age) for i in range(200) for product, age in ((TEA, 7), (TEA, 14), (TEA, 21), (MUG, i))
    ]
    candidates = find_candidates(lines(*rows), a_snapshot(), Recipe())
    bought = (candidates["product_id"] == TEA).to_numpy()
    recipe = Recipe().ranker.model_copy(update={"rounds": 20, "min_child_weight": 1.0})
    return candidates, fit_ranker(TrainingSample.from_frame(candidates.assign(bought=bought)), recipe, seed=1)


def test_the_ranker_learns_repeat_purchases(trained: tuple[pd.DataFrame, Ranker]) -> None:
    candidates, ranker = trained
    lists = build_lists(candidates, ranker, {TEA: "Tea"}, {}, size=3)
    first = lists[(lists["list"] == "all") & (lists["rank"] == 1)]
    assert set(first["product_id"]) == {TEA}
    assert set(first["reason"]) == {"you buy this every week"}


def test_lists_are_full_and_ranked_and_discover_has_no_bought_product(trained: tuple[pd.DataFrame, Ranker]) -> None:
    candidates, ranker = trained
    lists = build_lists(candidates, ranker, {}, {}, size=3)
    assert (lists.groupby(["customer_id", "list"]).size() == 3).all()
    assert (lists.groupby(["customer_id", "list"])["score"].diff().dropna() <= 0).all()
    discover = lists[lists["list"] == "discover"]
    assert not set(discover["product_id"]) & {TEA, MUG}


def test_a_loaded_ranker_scores_like_the_saved_one(trained: tuple[pd.DataFrame, Ranker]) -> None:
    features, ranker = feature_matrix(trained[0]), trained[1]
    again = Ranker.load(ranker.dump(), ranker.features)
    assert again.score(features).tolist() == ranker.score(features).tolist()


def test_a_ranker_of_an_earlier_version_scores_with_the_features_it_was_trained_on() -> None:
    rows = np.random.default_rng(3).random((400, len(FEATURES))).astype(np.float32)
    repeat, gone = FEATURES.index("repeat_score"), "weather"
    bought = rows[:, repeat] > 0.8
    # The earlier version had another order, lacked one of today's features, and had one that is gone.
    named = (*reversed(FEATURES[1:]), FEATURES[0], gone)[1:]
    before = np.stack([rows[:, FEATURES.index(name)] if name != gone else np.ones(400) for name in named], axis=1)
    booster = xgb.train(
        {"objective": "binary:logistic", "max_depth": 2}, xgb.DMatrix(before, label=bought), num_boost_round=20
    )
    ranker = Ranker.load(Ranker(booster, named).dump(), named)
    assert ((ranker.score(rows) > 0.5) == bought).all()
    odds = ranker.contributions(rows)[:, list(FEATURE_GROUPS).index("repeat_purchase")]
    assert odds[bought].min() > 0 > odds[~bought].max()
    assert ranker.unavailable_features == (gone,) and gone in ranker.warning and "retrain" in ranker.warning


def test_candidates_of_an_earlier_version_work_unless_the_ranker_needs_a_feature_they_lack(
    trained: tuple[pd.DataFrame, Ranker],
) -> None:
    candidates, ranker = trained
    older = candidates.drop(columns="text_last_visit")
    needs_less = Ranker(ranker.booster, tuple("weather" if name == "text_last_visit" else name for name in FEATURES))
    assert len(build_lists(older, needs_less, {}, {}, size=3))
    with pytest.raises(ValueError, match="without text_last_visit: materialize the candidates of that day again"):
        build_lists(older, ranker, {}, {}, size=3)


def nothing(candidates: pd.DataFrame) -> pd.Series:
    return pd.Series(False, candidates.index)


def everything(candidates: pd.DataFrame) -> pd.Series:
    return pd.Series(True, candidates.index)


def one_of_all(candidates: pd.DataFrame) -> pd.Series:
    return pd.Series(candidates.index == 0, candidates.index)


@pytest.mark.parametrize("bought", [nothing, everything, one_of_all])
def test_the_fixed_blend_ranks_if_labels_can_not_train_a_ranker(
    trained: tuple[pd.DataFrame, Ranker], bought: Callable[[pd.DataFrame], pd.Series]
) -> None:
    candidates = trained[0]
    ranker = fit_ranker(
        TrainingSample.from_frame(candidates.assign(bought=bought(candidates))), Recipe().ranker, seed=1
    )
    assert not ranker.is_trained and not ranker.importance().any()
    lists = build_lists(candidates, Ranker.load(ranker.dump(), ranker.features), {}, {}, size=3)
    first = lists[(lists["list"] == "all") & (lists["rank"] == 1)]
    assert set(first["product_id"]) == {TEA} and set(first["reason"]) == {"you buy this every week"}


def test_without_candidates_to_train_on_the_ranker_is_the_fixed_blend(trained: tuple[pd.DataFrame, Ranker]) -> None:
    assert not fit_ranker(
        TrainingSample.from_frame(trained[0].head(0).assign(bought=False)), Recipe().ranker, seed=1
    ).is_trained


def test_without_candidates_there_are_no_lists(trained: tuple[pd.DataFrame, Ranker]) -> None:
    candidates, ranker = trained
    assert build_lists(candidates.head(0), ranker, {}, {}, size=3).empty


def test_contributions_add_up_to_the_score(trained: tuple[pd.DataFrame, Ranker]) -> None:
    features, ranker = feature_matrix(trained[0]), trained[1]
    odds = np.log(ranker.score(features) / (1 - ranker.score(features)))
    offset = odds - ranker.contributions(features).sum(axis=1)
    assert offset == pytest.approx(np.full(len(offset), offset[0]), abs=1e-3)


def test_the_reason_shown_is_the_source_that_contributed_most(trained: tuple[pd.DataFrame, Ranker]) -> None:
    candidates, ranker = trained
    lists = build_lists(candidates, ranker, {}, {}, size=5)
    items = lists.merge(candidates, on=["customer_id", "product_id"], suffixes=("", "_"))
    contributions = pd.DataFrame(ranker.contributions(feature_matrix(items)), columns=list(FEATURE_GROUPS))
    can_explain = {
        "repeat_purchase": items["repeat_order_lines"] > 0, "als": items["als_score"] > 0,
        "co_purchase": items["co_purchase_anchor"] != "", "ease": items["ease_score"] > 0,
        "text": items["text_anchor"] != "", "category_popular": items["category_score"] > 0,
        "brand": items["brand_affinity"] > 0, "popular": items["price"] > 0,
    }  # fmt: skip
    for row, source in enumerate(items["source"]):
        contributing = {
            name: contributions[name].iloc[row] for name, explains in can_explain.items() if explains.iloc[row]
        }
        assert source == max(contributing, key=lambda name: contributing[name])
    assert items["source"].nunique() > 1


def test_a_baseline_ranks_by_the_score_of_its_source() -> None:
    candidates = find_candidates(lines(("ann", TEA, 5), ("ann", TEA, 9), ("ann", MUG, 1)), a_snapshot(), Recipe())
    lists = baseline_lists(candidates, depth=2).set_index(["model", "list"]).sort_index()
    assert lists.loc[("own purchases", "all"), "product_id"].tolist() == [TEA, MUG]
    assert lists.loc[("popularity", "all"), "product_id"].tolist() == [SOAP, TEA]
    assert lists.loc[("popularity", "discover"), "product_id"].tolist() == [SOAP, POT]
    assert ("own purchases", "discover") not in lists.index


def test_candidates_without_the_columns_of_a_newer_source_give_the_other_baselines() -> None:
    candidates = find_candidates(lines(("ann", TEA, 5), ("ann", MUG, 1)), a_snapshot(), Recipe())
    complete, older = baseline_lists(candidates, 2), baseline_lists(candidates.drop(columns="next_basket"), 2)
    assert set(complete["model"]) - set(older["model"]) == {"co-purchase alone"}


def test_customers_without_history_get_recent_best_sellers() -> None:
    products = pd.DataFrame({"product_id": [TEA, SOAP, MUG], "order_lines": [9, 30, 6], "recent_buyers": [8, 4, 2]})
    products["category"] = ["tea", "bath", None]
    assert popular_lists(products, 2)["product_id"].tolist() == [TEA, SOAP]


@pytest.mark.parametrize(
    ("days", "words"),
    [(1, "nearly every day"), (4.2, "every 4 days"), (7, "every week"), (20, "every 3 weeks"), (91, "every 3 months")],
)
def test_an_interval_in_words(days: float, words: str) -> None:
    assert rhythm(days) == words
