"""Scores and candidates of a random shop, compared with plain sums over all products."""

import datetime as dt
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.data.histories import build_histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_arrays import KINDS
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.recipe import CandidateRecipe, Recipe
from rec_assets.recsys.retrieval import candidates
from rec_assets.recsys.retrieval.candidates import find_candidates
from rec_assets.recsys.retrieval.sources import SOURCES, als
from rec_assets.recsys.retrieval.sources.als import fold_in
from rec_assets.recsys.retrieval.sources.helpers import top_columns

PRODUCTS, TEXTS, CUSTOMERS = 120, 90, 90
SIZES = {"als": 7, "co_purchase": 6, "ease": 5, "text": 12, "category_popular": 3, "popular": 2, "new": 2}
RECIPE = Recipe(candidates=CandidateRecipe(**SIZES, profile_items=6))


@pytest.fixture(scope="module")
def shop_data() -> tuple[ProductSnapshot, pd.DataFrame]:
    """Some products have no text, no factors, no neighbors or no orders; many share a text; scores tie."""
    chance, ids = np.random.default_rng(3), np.array([f"p{i:03}" for i in range(PRODUCTS)], object)
    texts = [f"t{i:02}" for i in range(TEXTS)]
    vectors = np.abs(chance.normal(size=(TEXTS, 8)))
    snapshot = build_product_snapshot(
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
                "product_id": ids[:80], "order_lines": chance.integers(1, 9, 80),
                "recent_order_lines": chance.integers(0, 3, 80), "recent_buyers": 0, "new_buyers": 0, "buyers": 1,
                "returns": 0, "repeat_share": 0.0, "price": 1.0, "interval_days": np.nan,
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
    return snapshot, lines.assign(order_id=lines["customer_id"] + lines["age_days"].astype(str))


def plain_scores(snapshot: ProductSnapshot, lines: pd.DataFrame) -> dict[str, np.ndarray]:
    """Source → scores of all products for one customer."""
    history = build_histories(lines, snapshot)
    weight = np.zeros(len(snapshot))
    weight[history.product] = history.decayed_lines(RECIPE.candidates.profile_half_life_days)
    strongest = np.argsort(-weight, kind="stable")[: RECIPE.candidates.profile_items]
    profile = np.zeros(len(snapshot))
    profile[strongest] = weight[strongest] / weight[strongest].sum()
    last_visit = np.bincount(history.product, history.in_last_visit, len(snapshot)) / history.in_last_visit.sum()
    text_neighbors = np.zeros(tuple(size + 1 for size in snapshot.text_neighbors.shape))
    text_neighbors[:-1, :-1] = snapshot.text_neighbors.toarray()
    affinity = np.bincount(
        snapshot.category[history.product],
        history.decayed_lines(RECIPE.candidates.repeat_half_life_days),
        minlength=len(snapshot.categories),
    )
    scores = {"als": snapshot.factors @ fold_in(history, snapshot, RECIPE.als)[0]}
    for name, items in (("", profile), ("_last_visit", last_visit)):
        for kind in KINDS:
            scores[kind + name] = items @ getattr(snapshot, kind).toarray()
        scores["text" + name] = items @ text_neighbors[snapshot.text][:, snapshot.text]
    scores["co_purchase"] = scores["same_basket"] + scores["next_basket"]
    scores["category"] = affinity[snapshot.category] / affinity.sum() * snapshot.share_in_category
    return scores


def plain_candidates(snapshot: ProductSnapshot, lines: pd.DataFrame, scores: dict[str, np.ndarray]) -> set[int]:
    """Positions of the candidates of one customer."""
    history = build_histories(lines, snapshot)
    bought = set(history.product[history.is_bought])

    def best(score: np.ndarray, size: int, among: np.ndarray) -> list[int]:
        order = np.argsort(-score.astype(np.float32), kind="stable")
        return [int(product) for product in order if product not in bought and among[product]][:size]

    products = set(history.product.tolist())
    for source in ("als", "co_purchase", "ease", "text"):
        products |= set(best(scores[source], SIZES[source], scores[source] > 0))
    products |= set(best(scores["category"], SIZES["category_popular"], scores["category"] > 0))
    products |= set(best(scores["text"], SIZES["new"], (scores["text"] > 0) & (snapshot.age_days < 28)))
    for counted in (snapshot.recent_order_lines, snapshot.order_lines):
        products |= set(best(counted, SIZES["popular"], np.full(len(snapshot), True)))
    return products


def test_scores_and_candidates_are_those_of_plain_sums(
    shop_data: tuple[ProductSnapshot, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, lines = shop_data
    known = [source for source in SOURCES if source.name in {"repeat_purchase", "brand", *SIZES}]
    monkeypatch.setattr(candidates, "SOURCES", known)  # a new source proposes what the plain sums do not know
    found = find_candidates(lines, snapshot, RECIPE)
    plain = {"als_score": "als", "category_score": "category", "ease_score": "ease", "text_score": "text"}
    for customer, rows in found.groupby("customer_id"):
        history = lines[lines["customer_id"] == customer]
        scores, product = plain_scores(snapshot, history), snapshot.positions(rows["product_id"])
        assert set(product) == plain_candidates(snapshot, history, scores), customer
        for name in (
            "als_score",
            "category_score",
            "ease_score",
            "text_score",
            "same_basket",
            "next_basket",
            *(f"{source}_last_visit" for source in (*KINDS, "text")),
        ):
            wanted = scores[plain.get(name, name)][product]
            assert rows[name].to_numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-6), (customer, name)
    assert found["customer_id"].nunique() == CUSTOMERS


def test_the_history_of_a_text_and_a_category_is_that_of_plain_sums(
    shop_data: tuple[ProductSnapshot, pd.DataFrame],
) -> None:
    snapshot, lines = shop_data
    found = find_candidates(lines, snapshot, RECIPE)
    texts = pd.Series(snapshot.text, snapshot.product_ids).replace(-1, pd.NA)
    categories = pd.Series(snapshot.known_category, snapshot.product_ids).replace(-1, pd.NA)
    sold, recent = pd.Series(snapshot.order_lines, texts.index), pd.Series(snapshot.recent_order_lines, texts.index)
    decay = 0.5 ** (lines["age_days"] / RECIPE.candidates.repeat_half_life_days)
    known = lines.assign(decayed=lines["weight"] * decay)
    for name, group in (("text", texts), ("category", categories)):
        of_lines, of_rows = known["product_id"].map(group), found["product_id"].map(group)
        by_customer = known.groupby(["customer_id", of_lines]).agg(
            lines=("decayed", "sum"), products=("product_id", "nunique")
        )
        wanted = by_customer.reindex(pd.MultiIndex.from_arrays([found["customer_id"], of_rows])).fillna(0)
        for column in ("lines", "products"):
            assert found[f"{name}_{column}"].to_numpy() == pytest.approx(wanted[column].to_numpy(), rel=1e-5)
        share = found["product_id"].map(recent / recent.groupby(group).transform("sum").clip(lower=1)).fillna(0)
        expected = wanted["lines"].to_numpy() * share.to_numpy()
        suffix = "_recent" if name == "text" else ""
        assert found[f"{name}_expected{suffix}"].to_numpy() == pytest.approx(expected, rel=1e-5)
    share = found["product_id"].map(sold / sold.groupby(texts).transform("sum").clip(lower=1)).fillna(0)
    assert found["text_share"].to_numpy() == pytest.approx(share.to_numpy(), rel=1e-5)
    assert found["text_expected"].to_numpy() == pytest.approx((found["text_lines"] * share).to_numpy(), rel=1e-5)
    assert (found["text_products"] > 1).any() and (found["text_expected"] > 0).any()


def test_the_candidates_of_many_products_are_those_of_all_scores(
    shop_data: tuple[ProductSnapshot, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, lines = shop_data
    expected = find_candidates(lines, snapshot, RECIPE)
    monkeypatch.setattr(als, "MAX_DENSE_PRODUCTS", 10)
    monkeypatch.setattr(als, "_SCORED_AT_ONCE", 8)
    monkeypatch.setattr(ProductSnapshot, "covered_factors", None)  # the array of all scores is not made
    pd.testing.assert_frame_equal(find_candidates(lines, snapshot, RECIPE), expected, rtol=1e-4, atol=1e-6)


def test_products_with_short_factors_are_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(2_000, 8)).astype(np.float32) * np.geomspace(1, 1e-3, 2_000, dtype=np.float32)[:, None]
    factors = factors[np.argsort(-np.linalg.norm(factors, axis=1))]
    vectors = np.vstack([rng.normal(size=(5, 8)), np.zeros((1, 8))]).astype(np.float32)
    monkeypatch.setattr(als, "_SCORED_AT_ONCE", 100)
    scored: list[int] = []
    monkeypatch.setattr(
        als, "top_columns", lambda scores, size: scored.append(len(scores)) or top_columns(scores, size)
    )
    known = SimpleNamespace(
        factors=factors, factors_by_norm=(np.arange(2_000), np.linalg.norm(factors, axis=1), factors)
    )
    best = als.best_scores(vectors, known, np.array([3, 7, 20, 1, 5, 4]))  # type: ignore[arg-type]
    exact = np.sort(vectors @ factors.T, axis=1)[:, ::-1]
    for row, size in enumerate((3, 7, 20, 1, 5)):
        assert best.values[row, :size] == pytest.approx(exact[row, :size], rel=1e-5)
        assert best.at(np.full(size, row), best.products[row, :size]) == pytest.approx(exact[row, :size], rel=1e-5)
    assert (best.values[5] == -np.inf).all() and best.highest[5] == np.float32(1e-9)
    assert sum(scored) < 5 * 2_000 / 100 / 2, "less than half of the products"


def test_fewer_customers_are_scored_at_once_if_there_are_more_products() -> None:
    assert [candidates.block_size(products) for products in (0, 1, 62_580, 262_144)] == [candidates.BLOCK] * 4
    assert candidates.block_size(1_000_000) == 16 and candidates.block_size(10**9) == 1
    assert 4 * 1_000_000 * candidates.block_size(1_000_000) <= 1 << 26
