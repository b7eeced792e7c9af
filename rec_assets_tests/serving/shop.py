"""The index of a small shop, built with the functions of the batch but without Spark."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.ranking.lists import LISTS, build_lists
from rec_assets.recsys.ranking.ranker import Ranker, TrainingSample, fit_ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.candidates import find_candidates
from rec_assets.serving.index_files.folder import PublishedIndex, ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.stored import StoredHistories, StoredList

AS_OF = dt.date(2026, 2, 28)
PRODUCTS, CUSTOMERS = 60, 30
LARGE = "c01"
"""A customer who buys china in size L."""
CATEGORIES = ("tea", "china", "bath")
RECIPE = Recipe(list_size=12)


def product(number: int) -> str:
    return f"p{number:02}"


def attributes(number: int) -> str:
    sizes = {"size": ["M", "L"]} if number % 3 == 1 else {}
    return json.dumps({"color": "red" if number % 2 else "blue", "_margin": number / 100, **sizes})


def variants(number: int) -> str | None:
    """The products of the category china are there in two sizes. M sells best; L costs one more and has a picture."""
    if number % 3 != 1:
        return None
    name = product(number)
    large = {"id": f"{name}-L", "price": 2.0 + number / 10, "image": "/images/L.jpg", "attributes": {"size": "L"}}
    return json.dumps([{"id": f"{name}-M", "attributes": {"size": "M"}}, large])


def product_snapshot() -> ProductSnapshot:
    """Products of three categories in turn. Products of a category are similar; the first ones sell most."""
    ids = [product(number) for number in range(PRODUCTS)]
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(PRODUCTS, 6)) * 0.3
    vectors[np.arange(PRODUCTS), np.arange(PRODUCTS) % 3] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    orders = np.arange(PRODUCTS, 0, -1) * 3
    pairs = [(a, b) for a in range(PRODUCTS) for b in range(PRODUCTS) if a != b and (a - b) % 5 == 0]
    return build_product_snapshot(
        AS_OF,
        products=pd.DataFrame(
            {
                "product_id": ids,
                "title": [f"Product {each}" for each in ids],
                "category": [CATEGORIES[number % 3] for number in range(PRODUCTS)],
                "brand": "Own",
                "price": [1.0 + number / 10 for number in range(PRODUCTS)],
                "content_hash": ids,
                "first_seen": dt.date(2025, 1, 1),
                "excluded": False,
                "image": [f"/images/{each}.jpg" if number % 2 else None for number, each in enumerate(ids)],
                "link": "https://shop.example/",
                "attributes": [attributes(number) for number in range(PRODUCTS)],
                "variants": [variants(number) for number in range(PRODUCTS)],
            }
        ),
        statistics=pd.DataFrame(
            {
                "product_id": ids, "order_lines": orders, "recent_order_lines": orders // 5,
                "recent_buyers": orders // 5, "new_buyers": 1, "buyers": orders, "returns": 0, "repeat_share": 0.2,
                "interval_days": 14.0, "price": [1.0 + number / 10 for number in range(PRODUCTS)],
            }
        ),
        factors=pd.DataFrame({"product_id": ids, "factors": list(vectors[:, :4])}),
        graph=pd.DataFrame(
            {
                "kind": "same_basket",
                "product_id": [product(a) for a, _ in pairs],
                "neighbor_id": [product(b) for _, b in pairs],
                "weight": [1 / (1 + abs(a - b)) for a, b in pairs],
            }
        ),
        embeddings=pd.DataFrame({"content_hash": ids, "vector": list(vectors)}),
    )  # fmt: skip


def histories() -> pd.DataFrame:
    """Each customer bought a dozen products of one category, some of them several times."""
    rng = np.random.default_rng(6)
    rows = [
        (f"c{customer:02}", product(3 * int(rng.integers(PRODUCTS // 3)) + customer % 3), int(rng.integers(1, 90)))
        for customer in range(CUSTOMERS)
        for _ in range(16)
    ]
    frame = pd.DataFrame(rows, columns=["customer_id", "product_id", "age_days"])
    order = frame["customer_id"] + "@" + frame["age_days"].astype(str)
    is_china = frame["product_id"].str[1:].astype(int) % 3 == 1
    size = np.where(frame["customer_id"] == LARGE, "-L", "-M")
    return frame.assign(
        order_id=order,
        weight=1.0,
        rating=np.nan,
        variant_id=(frame["product_id"] + size).where(is_china),
        wrong_size=False,
    )


def ranker(snapshot: ProductSnapshot) -> Ranker:
    # Trained on histories of a week earlier: if thresholds equaled the scored values, rounding would change scores.
    found = find_candidates(histories().assign(age_days=histories()["age_days"] + 7), snapshot, RECIPE)
    likely = 2 * found["repeat_score_share"] + found["als_relative"] + 0.02 * found["popularity"]
    recipe = RECIPE.ranker.model_copy(update={"rounds": 60, "min_child_weight": 1.0, "learning_rate": 0.1})
    rng = np.random.default_rng(7).random(len(found))
    return fit_ranker(TrainingSample.from_frame(found.assign(bought=likely.rank(pct=True) ** 2 > rng)), recipe, seed=1)


def lists(snapshot: ProductSnapshot, fitted: Ranker) -> pd.DataFrame:
    """`hybrid_scores` as the batch builds them."""
    titles = dict(zip(snapshot.product_ids, snapshot.titles, strict=True))
    categories = dict(zip(snapshot.product_ids, snapshot.categories[snapshot.category], strict=True))
    return build_lists(find_candidates(histories(), snapshot, RECIPE), fitted, titles, categories, RECIPE.list_size)


def index(version: int = 1) -> Index:
    snapshot = product_snapshot()
    fitted = ranker(snapshot)
    made = lists(snapshot, fitted)
    stored = {
        name: StoredList.from_scores(pa.Table.from_pandas(made[made["list"] == name], preserve_index=False), snapshot)
        for name in LISTS
    }
    metadata = {"version": str(version), "as_of": str(AS_OF), "time_zone": "Europe/Berlin"}
    return Index(snapshot, fitted, RECIPE, StoredHistories.from_lines(histories(), snapshot), stored, metadata)


def publish(folder: Path, built: Index, version: int = 1) -> PublishedIndex:
    serving = ServingFolder(folder)
    published = serving.add(version, AS_OF, built.save)
    serving.make_current(published)
    return published


def without_lists(built: Index) -> Index:
    return replace(built, lists={})
