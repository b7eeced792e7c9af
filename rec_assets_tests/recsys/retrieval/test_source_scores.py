"""Scores and proposals of a random shop, beside the plain sums over all products that they stand for."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.data.histories import build_histories
from rec_assets.recsys.data.product_snapshot import KINDS, ProductSnapshot, build_product_snapshot
from rec_assets.recsys.recipe import CandidateRecipe, Recipe
from rec_assets.recsys.retrieval.candidates import find_candidates
from rec_assets.recsys.retrieval.fold_in import fold_in

PRODUCTS, TEXTS, CUSTOMERS = 120, 90, 90
SIZES = {"als": 7, "co_purchase": 6, "same_customer": 5, "content": 12, "category_popular": 3, "popular": 2, "new": 2}
RECIPE = Recipe(candidates=CandidateRecipe(**SIZES, history_products=6))


@pytest.fixture(scope="module")
def shop() -> tuple[ProductSnapshot, pd.DataFrame]:
    """Some products have no text, no factors, no neighbors or no orders; many share a text; scores tie."""
    chance, ids = np.random.default_rng(3), np.array([f"p{i:03}" for i in range(PRODUCTS)], object)
    texts = [f"t{i:02}" for i in range(TEXTS)]
    vectors = np.abs(chance.normal(size=(TEXTS, 8)))
    state = build_product_snapshot(
        dt.date(2024, 6, 30),
        products=pd.DataFrame(
            {
                "product_id": ids, "title": ids, "category": chance.choice(["tea", "china", None], PRODUCTS),
                "brand": chance.choice(["Leaf", None], PRODUCTS), "price": 1.0,
                "content_hash": chance.choice([*texts, None], PRODUCTS), "excluded": False,
                "first_seen": pd.Timestamp("2024-06-30") - pd.to_timedelta(chance.integers(0, 90, PRODUCTS), unit="D"),
            }
        ),
        statistics=pd.DataFrame(
            {
                "product_id": ids[:80], "orders": chance.integers(1, 9, 80), "recent_orders": chance.integers(0, 3, 80),
                "new_buyers": 0, "buyers": 1, "returns": 0, "repeat_share": 0.0, "interval_days": np.nan, "price": 1.0,
            }
        ),
        factors=pd.DataFrame({"product_id": ids[:60], "factors": list(chance.normal(size=(60, 4)))}),
        graph=pd.DataFrame(
            {
                "kind": chance.choice(KINDS, 500), "product_id": chance.choice(ids[:70], 500),
                "neighbor_id": chance.choice(ids[20:90], 500), "weight": chance.choice([0.25, 0.5, 1.0], 500),
            }
        ).drop_duplicates(["kind", "product_id", "neighbor_id"]),
        embeddings=pd.DataFrame(
            {"content_hash": texts, "vector": list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))}
        ),
    )  # fmt: skip
    lines = pd.DataFrame(
        {
            "customer_id": [f"c{i:02}" for i in chance.integers(0, CUSTOMERS, 900)],
            "product_id": chance.choice(ids[:100], 900), "age_days": chance.integers(0, 60, 900),
            "weight": chance.choice([1.0, 1.0, 0.2], 900), "rating": np.nan,
        }
    )  # fmt: skip
    return state, lines.assign(order_id=lines["customer_id"] + lines["age_days"].astype(str))


def plain_scores(state: ProductSnapshot, lines: pd.DataFrame) -> dict[str, np.ndarray]:
    """By source, one customer's scores of all the products."""
    history = build_histories(lines, state)
    weight = np.zeros(len(state))
    weight[history.product] = history.interest(RECIPE.candidates.history_half_life_days)
    strongest = np.argsort(-weight, kind="stable")[: RECIPE.candidates.history_products]
    seeds = np.zeros(len(state))
    seeds[strongest] = weight[strongest] / weight[strongest].sum()
    newest = np.bincount(history.product, history.is_newest, len(state)) / history.is_newest.sum()
    alike = np.zeros(tuple(size + 1 for size in state.alike.shape))
    alike[:-1, :-1] = state.alike.toarray()
    taste = np.bincount(
        state.category[history.product],
        history.interest(RECIPE.candidates.own_half_life_days),
        minlength=len(state.categories),
    )
    scores = {"als": state.factors @ fold_in(history, state, RECIPE.als)[0]}
    for name, of in (("", seeds), ("_newest", newest)):
        for kind in KINDS:
            scores[kind + name] = of @ getattr(state, kind).toarray()
        scores["content" + name] = of @ alike[state.text][:, state.text]
    scores["co_purchase"] = scores["same_basket"] + scores["next_basket"]
    scores["category"] = taste[state.category] / taste.sum() * state.share_in_category
    return scores


def plain_candidates(state: ProductSnapshot, lines: pd.DataFrame, scores: dict[str, np.ndarray]) -> set[int]:
    """Positions of one customer's candidates."""
    history = build_histories(lines, state)
    bought = set(history.product[history.is_bought])

    def best(score: np.ndarray, size: int, among: np.ndarray) -> list[int]:
        order = np.argsort(-score.astype(np.float32), kind="stable")
        return [int(each) for each in order if each not in bought and among[each]][:size]

    found = set(history.product.tolist())
    for source in ("als", "co_purchase", "same_customer", "content"):
        found |= set(best(scores[source], SIZES[source], scores[source] > 0))
    found |= set(best(scores["category"], SIZES["category_popular"], scores["category"] > 0))
    found |= set(best(scores["content"], SIZES["new"], (scores["content"] > 0) & (state.age_days < 28)))
    for counted in (state.recent_orders, state.orders):
        found |= set(best(counted, SIZES["popular"], np.full(len(state), True)))
    return found


def test_scores_and_candidates_are_those_of_plain_sums(shop: tuple[ProductSnapshot, pd.DataFrame]) -> None:
    state, lines = shop
    found = find_candidates(lines, state, RECIPE)
    named = {"als_score": "als", "category_score": "category"}
    for customer, rows in found.groupby("customer_id"):
        own = lines[lines["customer_id"] == customer]
        scores, product = plain_scores(state, own), state.positions(rows["product_id"])
        assert set(product) == plain_candidates(state, own, scores), customer
        for name in (
            "als_score",
            "category_score",
            *(kind + part for kind in (*KINDS, "content") for part in ("", "_newest")),
        ):
            wanted = scores[named.get(name, name)][product]
            assert rows[name].to_numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-6), (customer, name)
    assert found["customer_id"].nunique() == CUSTOMERS
