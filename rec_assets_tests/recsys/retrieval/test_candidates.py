"""Candidates, features and lists, on shops small enough to know the right answer by eye."""

import datetime as dt
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from rec_assets.recsys.data.histories import build_histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot, build_product_snapshot
from rec_assets.recsys.evaluation.baselines import baseline_lists
from rec_assets.recsys.ranking.features import FEATURE_GROUPS, FEATURES, feature_matrix
from rec_assets.recsys.ranking.hybrid import make_lists, popular_lists, rhythm
from rec_assets.recsys.ranking.ranker import Ranker, TrainingSample, fit_ranker
from rec_assets.recsys.recipe import AlsRecipe, Recipe
from rec_assets.recsys.retrieval.candidates import CANDIDATE_COLUMNS, find_candidates
from rec_assets.recsys.retrieval.fold_in import fold_in

AS_OF = dt.date(2024, 6, 30)
TEA, MUG, POT, SOAP, NEW_TEA = "001", "002", "003", "004", "005"


def a_state(**changes: pd.DataFrame) -> ProductSnapshot:
    """Five products: tea, mug and pot are bought together, soap is popular, a new tea was never bought."""
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
                "orders": [10, 6, 4, 30],
                "recent_orders": [2, 1, 1, 9],
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
    found = candidates[(candidates["customer_id"] == customer) & (candidates["product_id"] == product)]
    assert len(found) == 1, f"{customer} × {product}: {len(found)} rows"
    return found.iloc[0]


def test_everything_bought_and_every_source_proposes() -> None:
    found = find_candidates(lines(("ann", TEA, 5)), a_state(), Recipe())
    assert found["product_id"].tolist() == [TEA, MUG, POT, SOAP, NEW_TEA]
    assert tuple(found.columns) == CANDIDATE_COLUMNS
    assert pair(found, "ann", MUG)["together_with"] == TEA
    assert pair(found, "ann", MUG)["same_basket"] == pytest.approx(0.5)
    assert pair(found, "ann", POT)["next_basket"] == pytest.approx(0.3)
    assert pair(found, "ann", NEW_TEA)["similar_to"] == TEA
    assert pair(found, "ann", NEW_TEA)["content"] == pytest.approx(1.0)


def test_the_own_history_is_counted_decayed_and_timed() -> None:
    found = find_candidates(lines(("ann", TEA, 0), ("ann", TEA, 14), ("ann", TEA, 28)), a_state(), Recipe())
    tea, half_life = pair(found, "ann", TEA), Recipe().candidates.own_half_life_days
    assert (tea["own_orders"], tea["own_days"], tea["own_interval"], tea["own_last_age"]) == (3, 3, 14, 0)
    assert tea["own_score"] == pytest.approx(sum(0.5 ** (age / half_life) for age in (0, 14, 28)), rel=1e-5)
    mug = pair(found, "ann", MUG)
    assert mug["own_orders"] == 0
    assert np.isnan(mug["own_last_age"])


def test_what_was_given_back_is_counted_and_changes_nothing_else() -> None:
    bought = lines(("ann", TEA, 30), ("ann", TEA, 9), ("bob", SOAP, 3))
    returned = lines(("ann", SOAP, 2), ("cat", TEA, 4)).assign(weight=-1.0)
    found = find_candidates(pd.concat([bought, returned]), a_state(), Recipe())
    without = find_candidates(bought, a_state(), Recipe())
    pd.testing.assert_frame_equal(found.drop(columns="return_rate"), without.drop(columns="return_rate"))
    shop = 10 / 60  # of soap, with 30 lines kept and 10 returned; 20 lines of others kept
    of_soap, of_tea = (10 + 10 * shop) / (30 + 10 + 10), 10 * shop / (10 + 10)
    of_ann, of_bob = (1 + 10 * shop) / (2 + 1 + 10), 10 * shop / (1 + 10)
    assert pair(found, "ann", SOAP)["return_rate"] == pytest.approx(of_soap * of_ann / shop)
    assert pair(found, "ann", TEA)["return_rate"] == pytest.approx(of_tea * of_ann / shop)
    assert pair(found, "bob", SOAP)["return_rate"] == pytest.approx(of_soap * of_bob / shop)


def test_complements_go_with_the_newest_order_until_something_else_is_looked_at() -> None:
    bought = lines(("ann", SOAP, 30), ("ann", TEA, 2))
    found = find_candidates(bought, a_state(), Recipe())
    assert pair(found, "ann", MUG)["complement"] == pytest.approx(0.5)
    assert pair(found, "ann", TEA)["complement"] == pair(found, "ann", SOAP)["complement"] == 0
    for looked_at in ((MUG,), (TEA, MUG)):
        clicks = lines(*(("ann", product, 1) for product in looked_at)).assign(order_id="session", weight=0.1)
        found = find_candidates(pd.concat([bought, clicks]), a_state(), Recipe())
        assert (found["complement"] == 0).all()


def test_orders_of_one_day_are_told_apart_by_their_ids() -> None:
    one_day = pd.DataFrame(
        {"customer_id": "ann", "product_id": [TEA, MUG, POT, TEA], "order_id": ["o1", "o2", "o3", "o0"],
         "age_days": [0, 0, 0, 9], "weight": 1.0, "rating": np.nan}
    )  # fmt: skip
    histories = build_histories(one_day, a_state())
    last = dict(zip([TEA, MUG, POT], histories.last_place, strict=True))
    assert last == {TEA: 2, MUG: 1, POT: 0}
    assert histories.interest(1e9, 0.5).tolist() == pytest.approx([0.25 + 0.125, 0.5, 1.0])


def test_interest_tells_tastes_and_is_nothing_bought() -> None:
    bought = lines(("ann", TEA, 30), ("ann", TEA, 9))
    clicked = lines(("ann", MUG, 2)).assign(order_id="session", weight=0.1)
    found = find_candidates(pd.concat([bought, clicked]), a_state(), Recipe())
    without = find_candidates(bought, a_state(), Recipe())
    mug, pot, tea = (pair(found, "ann", product) for product in (MUG, POT, TEA))
    assert (mug["own_orders"], mug["own_score"]) == (0, 0) and np.isnan(mug["own_last_age"])
    assert pot["same_basket_newest"] == pytest.approx(0.4)  # the session is newer than any order
    assert pot["same_basket"] > pair(without, "ann", POT)["same_basket"] == 0
    assert mug["als_score"] > pair(without, "ann", MUG)["als_score"]
    owned = [name for name in FEATURES if name.startswith(("own_", "customer_"))]
    assert tea[owned].to_list() == pytest.approx(pair(without, "ann", TEA)[owned].to_list(), nan_ok=True)


def test_a_visit_with_a_purchase_in_it_is_one_order() -> None:
    visits = pd.DataFrame(
        {"customer_id": "ann", "product_id": [SOAP, TEA, MUG, POT], "order_id": ["a", "b", "b", "c"],
         "age_days": [9, 0, 0, 0], "weight": [1.0, 0.1, 1.0, 0.1], "rating": np.nan}
    )  # fmt: skip
    for lines_of_visit in (visits, visits.iloc[::-1]):
        histories = build_histories(lines_of_visit, a_state())
        place = dict(zip([TEA, MUG, POT, SOAP], histories.last_place, strict=True))
        assert (place[SOAP], place[MUG]) == (1, 0) and np.isnan(place[TEA]) and np.isnan(place[POT])
        assert histories.customer_orders.tolist() == [2] and histories.line_place.min() == 0
        assert histories.is_newest.tolist() == [False, False, True, False]


def test_a_visitor_who_only_looked_gets_candidates_and_nothing_is_bought() -> None:
    found = find_candidates(lines(("guest", TEA, 0)).assign(weight=0.1), a_state(), Recipe())
    assert not (found["own_orders"] > 0).any()
    assert {MUG, NEW_TEA, TEA} <= set(found["product_id"])
    assert (pair(found, "guest", MUG)["customer_orders"], pair(found, "guest", MUG)["same_basket"]) == (0, 0.5)


def test_the_newest_order_speaks_for_itself() -> None:
    found = find_candidates(lines(("ann", TEA, 30), ("ann", MUG, 2)), a_state(), Recipe())
    pot = pair(found, "ann", POT)
    assert pot["same_basket_newest"] == pytest.approx(0.4)  # of the mug alone
    assert pot["next_basket_newest"] == 0  # only tea has a follower
    assert 0 < pot["same_basket"] < 0.4


def test_how_long_ago_a_text_category_or_brand_was_bought_is_counted_in_orders() -> None:
    found = find_candidates(lines(("ann", TEA, 30), ("ann", MUG, 9), ("ann", SOAP, 2)), a_state(), Recipe())
    new_tea, pot, soap = (pair(found, "ann", product) for product in (NEW_TEA, POT, SOAP))
    assert (new_tea["text_orders_since"], new_tea["category_orders_since"], new_tea["brand_orders_since"]) == (2, 2, 2)
    assert np.isnan(pot["text_orders_since"])
    assert (pot["category_orders_since"], pot["brand_orders_since"]) == (1, 1)
    assert np.isnan(soap["brand_orders_since"])  # no brand is not a brand
    assert (soap["brand_taste"], pot["brand_taste"]) == (0, pytest.approx(1 / 3))
    usual = np.exp(np.mean(np.log([3.0, 5.0, 2.0])))
    assert pot["price_relative"] == pytest.approx(np.log(9.0 / usual), rel=1e-5)


def test_products_first_seen_later_or_excluded_are_unknown() -> None:
    products = pd.DataFrame(
        {
            "product_id": ["old", "later", "banned"], "title": "", "category": None, "brand": None, "price": 1.0,
            "content_hash": None, "excluded": [False, False, True],
            "first_seen": [AS_OF, AS_OF + dt.timedelta(days=1), AS_OF],
        }
    )  # fmt: skip
    assert a_state(products=products).product_ids.tolist() == ["old"]


def test_other_customers_and_the_order_of_lines_change_nothing() -> None:
    own = [("ann", TEA, 0), ("ann", MUG, 14), ("ann", TEA, 28)]
    others = [(f"c{i}", product, i) for i in range(150) for product in (SOAP, POT)]
    alone = find_candidates(lines(*own), a_state(), Recipe())
    among = find_candidates(lines(*others, *reversed(own)), a_state(), Recipe())
    among = among[among["customer_id"] == "ann"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, check_exact=False, rtol=1e-5)


def test_a_shop_without_text_factors_or_graph_still_gets_candidates() -> None:
    state = a_state(
        factors=pd.DataFrame({"product_id": [], "factors": []}),
        graph=pd.DataFrame({"kind": [], "product_id": [], "neighbor_id": [], "weight": []}),
        embeddings=pd.DataFrame({"content_hash": [], "vector": []}),
    )
    found = find_candidates(lines(("ann", TEA, 5)), state, Recipe())
    assert set(found["product_id"]) == {TEA, MUG, POT, SOAP, NEW_TEA}


def test_no_customers_no_candidates() -> None:
    assert find_candidates(lines(), a_state(), Recipe()).empty


def test_folding_in_puts_the_customer_near_what_they_bought() -> None:
    state = a_state()
    histories = build_histories(lines(("ann", TEA, 0), ("bob", SOAP, 0)), state)
    scores = fold_in(histories, state, AlsRecipe()) @ state.factors.T
    tea, soap = (list(state.product_ids).index(product) for product in (TEA, SOAP))
    assert scores[0, tea] > scores[0, soap]
    assert scores[1, soap] > scores[1, tea]


def test_explicit_fold_in_solves_the_ridge_regression() -> None:
    state = a_state()
    rated = lines(("ann", TEA, 0), ("ann", SOAP, 0)).assign(rating=[5.0, 1.0])
    recipe = AlsRecipe(regularization=0.1)
    found = fold_in(build_histories(rated, state), state, recipe)[0]
    y = np.array([[1.0, 0], [0, 1.0]])
    assert found == pytest.approx(np.linalg.solve(y.T @ y + 0.2 * np.eye(2), y.T @ [5.0, 1.0]), rel=1e-5)


def test_the_state_survives_saving(tmp_path) -> None:
    state = a_state()
    state.save(tmp_path)
    again = ProductSnapshot.load(tmp_path)
    found = [find_candidates(lines(("ann", TEA, 5)), s, Recipe()) for s in (state, again)]
    pd.testing.assert_frame_equal(*found)


@pytest.fixture(scope="module")
def trained() -> tuple[pd.DataFrame, Ranker]:
    """Customers who buy tea every week and buy it again; they never take soap."""
    rows = [
        (f"c{i:03}", product, age) for i in range(200) for product, age in ((TEA, 7), (TEA, 14), (TEA, 21), (MUG, i))
    ]
    found = find_candidates(lines(*rows), a_state(), Recipe())
    bought = (found["product_id"] == TEA).to_numpy()
    recipe = Recipe().ranker.model_copy(update={"rounds": 20, "min_child_weight": 1.0})
    return found, fit_ranker(TrainingSample.of(found.assign(bought=bought)), recipe, seed=1)


def test_the_ranker_learns_what_is_bought_again(trained: tuple[pd.DataFrame, Ranker]) -> None:
    candidates, ranker = trained
    lists = make_lists(candidates, ranker, {TEA: "Tea"}, {}, size=3)
    first = lists[(lists["list"] == "all") & (lists["rank"] == 1)]
    assert set(first["product_id"]) == {TEA}
    assert set(first["reason"]) == {"you buy this every week"}


def test_lists_are_ranked_full_and_discover_leaves_out_what_was_bought(
    trained: tuple[pd.DataFrame, Ranker],
) -> None:
    candidates, ranker = trained
    lists = make_lists(candidates, ranker, {}, {}, size=3)
    assert (lists.groupby(["customer_id", "list"]).size() == 3).all()
    assert (lists.groupby(["customer_id", "list"])["score"].diff().dropna() <= 0).all()
    discover = lists[lists["list"] == "discover"]
    assert not set(discover["product_id"]) & {TEA, MUG}


def test_the_ranker_survives_saving(trained: tuple[pd.DataFrame, Ranker]) -> None:
    features, ranker = feature_matrix(trained[0]), trained[1]
    again = Ranker.load(ranker.dump(), ranker.features)
    assert again.score(features).tolist() == ranker.score(features).tolist()


def test_a_ranker_of_earlier_code_scores_with_the_features_it_names_wherever_they_stand_now() -> None:
    rows = np.random.default_rng(3).random((400, len(FEATURES))).astype(np.float32)
    own, gone = FEATURES.index("own_score"), "weather"
    bought = rows[:, own] > 0.8
    # Yesterday's code had them in another order, one of today's not, and one that today's hasn't.
    named = (*reversed(FEATURES[1:]), FEATURES[0], gone)[1:]
    before = np.stack([rows[:, FEATURES.index(name)] if name != gone else np.ones(400) for name in named], axis=1)
    booster = xgb.train(
        {"objective": "binary:logistic", "max_depth": 2}, xgb.DMatrix(before, label=bought), num_boost_round=20
    )
    ranker = Ranker.load(Ranker(booster, named).dump(), named)
    assert ((ranker.score(rows) > 0.5) == bought).all()
    odds = ranker.contributions(rows)[:, list(FEATURE_GROUPS).index("own")]
    assert odds[bought].min() > 0 > odds[~bought].max()
    assert ranker.gone == (gone,) and gone in ranker.warning and "retrain" in ranker.warning


def test_candidates_of_earlier_code_serve_a_ranker_that_needs_no_more_and_else_say_what_to_do(
    trained: tuple[pd.DataFrame, Ranker],
) -> None:
    candidates, ranker = trained
    older = candidates.drop(columns="content_newest")
    needs_less = Ranker(ranker.booster, tuple("weather" if name == "content_newest" else name for name in FEATURES))
    assert len(make_lists(older, needs_less, {}, {}, size=3))
    with pytest.raises(ValueError, match="without content_newest: make the candidates of that day anew"):
        make_lists(older, ranker, {}, {}, size=3)


def nothing(candidates: pd.DataFrame) -> pd.Series:
    return pd.Series(False, candidates.index)


def everything(candidates: pd.DataFrame) -> pd.Series:
    return pd.Series(True, candidates.index)


def one_of_all(candidates: pd.DataFrame) -> pd.Series:
    return pd.Series(candidates.index == 0, candidates.index)


@pytest.mark.parametrize("bought", [nothing, everything, one_of_all])
def test_where_purchases_tell_candidates_not_apart_the_fixed_blend_ranks(
    trained: tuple[pd.DataFrame, Ranker], bought: Callable[[pd.DataFrame], pd.Series]
) -> None:
    candidates = trained[0]
    ranker = fit_ranker(TrainingSample.of(candidates.assign(bought=bought(candidates))), Recipe().ranker, seed=1)
    assert not ranker.is_learned and not ranker.importance().any()
    lists = make_lists(candidates, Ranker.load(ranker.dump(), ranker.features), {}, {}, size=3)
    first = lists[(lists["list"] == "all") & (lists["rank"] == 1)]
    assert set(first["product_id"]) == {TEA} and set(first["reason"]) == {"you buy this every week"}


def test_no_candidates_to_learn_from_give_the_fixed_blend(trained: tuple[pd.DataFrame, Ranker]) -> None:
    assert not fit_ranker(
        TrainingSample.of(trained[0].head(0).assign(bought=False)), Recipe().ranker, seed=1
    ).is_learned


def test_a_list_of_nothing_has_no_reasons(trained: tuple[pd.DataFrame, Ranker]) -> None:
    candidates, ranker = trained
    assert make_lists(candidates.head(0), ranker, {}, {}, size=3).empty


def test_contributions_add_up_to_the_score(trained: tuple[pd.DataFrame, Ranker]) -> None:
    features, ranker = feature_matrix(trained[0]), trained[1]
    odds = np.log(ranker.score(features) / (1 - ranker.score(features)))
    offset = odds - ranker.contributions(features).sum(axis=1)
    assert offset == pytest.approx(np.full(len(offset), offset[0]), abs=1e-3)


def test_the_reason_shown_is_the_source_that_contributed_most(trained: tuple[pd.DataFrame, Ranker]) -> None:
    candidates, ranker = trained
    lists = make_lists(candidates, ranker, {}, {}, size=5)
    entries = lists.merge(candidates, on=["customer_id", "product_id"], suffixes=("", "_"))
    contributions = pd.DataFrame(ranker.contributions(feature_matrix(entries)), columns=list(FEATURE_GROUPS))
    can_speak = {
        "own": entries["own_orders"] > 0, "als": entries["als_score"] > 0,
        "co_purchase": entries["together_with"] != "", "same_customer": entries["same_customer"] > 0,
        "content": entries["similar_to"] != "", "category": entries["category_score"] > 0,
        "brand": entries["brand_taste"] > 0, "popular": entries["price"] > 0,
    }  # fmt: skip
    for row, source in enumerate(entries["source"]):
        speaking = {name: contributions[name].iloc[row] for name, speaks in can_speak.items() if speaks.iloc[row]}
        assert source == max(speaking, key=lambda name: speaking[name])
    assert entries["source"].nunique() > 1


def test_a_baseline_is_the_source_s_own_order() -> None:
    candidates = find_candidates(lines(("ann", TEA, 5), ("ann", TEA, 9), ("ann", MUG, 1)), a_state(), Recipe())
    lists = baseline_lists(candidates, depth=2).set_index(["model", "list"]).sort_index()
    assert lists.loc[("own purchases", "all"), "product_id"].tolist() == [TEA, MUG]
    assert lists.loc[("popularity", "all"), "product_id"].tolist() == [SOAP, TEA]
    assert lists.loc[("popularity", "discover"), "product_id"].tolist() == [SOAP, POT]
    assert ("own purchases", "discover") not in lists.index


def test_the_unknown_get_what_is_popular_lately_of_all_or_of_a_category() -> None:
    statistics = pd.DataFrame({"product_id": [TEA, SOAP, MUG], "orders": [9, 30, 6], "recent_buyers": [8, 4, 2]})
    categories = pd.Series({TEA: "tea", SOAP: "bath", MUG: "china"})
    assert popular_lists(statistics, categories, 2)["product_id"].tolist() == [TEA, SOAP]
    assert popular_lists(statistics, categories, 2, "bath")["reason"].tolist() == ["popular in bath"]
    before = statistics.rename(columns={"recent_buyers": "recent_orders"})
    assert popular_lists(before, categories, 2)["product_id"].tolist() == [TEA, SOAP], "of an earlier version"


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (1, "nearly every day"),
        (4.2, "every 4 days"),
        (7, "every week"),
        (20, "every 3 weeks"),
        (91, "every 3 months"),
    ],
)
def test_a_rhythm_in_words(days: float, words: str) -> None:
    assert rhythm(days) == words
