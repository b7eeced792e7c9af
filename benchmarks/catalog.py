"""`python -m benchmarks.catalog`: how a synthetic catalog of a million products does, beside one of the demo's size.

Each size is a process of its own: similar texts from the index, one day's new texts, then candidates and lists of
customers in several processes that map the product snapshot, as Spark's tasks do.
"""

from __future__ import annotations

import datetime as dt
import itertools
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import scipy.sparse as sp

from benchmarks.speed import Meter
from rec_assets.recsys.arrays import Floats, Ints, Longs
from rec_assets.recsys.data.product_snapshot import ProductSnapshot, map_snapshot
from rec_assets.recsys.data.similar_texts import TEXT_NEIGHBORS, SimilarTexts, similar_texts, update_similar_texts
from rec_assets.recsys.data.snapshot_arrays import SHOWN_TEXTS
from rec_assets.recsys.ranking.features import feature_matrix
from rec_assets.recsys.ranking.lists import build_lists
from rec_assets.recsys.ranking.ranker import Ranker, TrainingSample, fit_ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.candidates import find_candidates
from rec_assets.recsys.retrieval.sources.als import best_scores

RESULTS = Path(__file__).with_name("results") / "catalog.csv"
COLUMNS = ["products", "step", "items", "seconds", "ms_per_item", "peak_mb", "recall"]

DIMENSIONS, RANK = 384, 48
LINES, BATCH = 150, 128
"""Products in a customer's history, and customers that a process is given at a time."""

NEW_SHARE = 0.001
"""Share of the texts that are new on the second day, and of those that are gone."""

_LEVELS, _NOISE = ((30, 0.12), (300, 0.22), (3_000, 0.26), (50_000, 0.20)), 0.20
_SAMPLE, _SEED = 500, 11


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--products", multiple=True, default=[60_000, 1_000_000], show_default=True, help="Sizes of catalogs.")
@click.option("--customers", default=20_000, show_default=True, help="Customers of the largest catalog.")
@click.option("--processes", default=2, show_default=True, help="Processes that make candidates and lists.")
def main(products: tuple[int, ...], customers: int, processes: int) -> None:
    """Write results/catalog.csv. Smaller catalogs get a tenth of the customers: their seconds per customer suffice."""
    spawn, tables = multiprocessing.get_context("spawn"), []
    for size in sorted(products):
        count = customers if size == max(products) else max(customers // 10, 1)
        with ProcessPoolExecutor(1, spawn) as process:  # so that no memory of the other size counts
            rows = process.submit(measure, size, count, processes).result()
        tables.append(pd.DataFrame(rows, columns=COLUMNS))
        print(tables[-1].to_string(index=False), flush=True)
    pd.concat(tables).to_csv(RESULTS, index=False)


def measure(products: int, customers: int, processes: int) -> list[tuple[object, ...]]:
    """Rows of COLUMNS for one catalog."""
    rng, rows = np.random.default_rng(_SEED), list[tuple[object, ...]]()

    def add(step: str, items: int, meter: Meter, recall: float | None = None) -> None:
        row = (products, step, items, meter.seconds, round(1e3 * meter.seconds / items, 3), meter.peak_mb, recall)
        print(*row, file=sys.stderr, flush=True)
        rows.append(row)

    vectors, leaf = text_vectors(products, rng)
    with Meter() as meter:
        neighbors = similar_texts(vectors)
    add("similar texts", products, meter, text_recall(vectors, neighbors, rng))
    changed = max(int(NEW_SHARE * products), 1)
    keys = np.array([f"{number:08}" for number in range(products)], object)
    known = SimilarTexts(keys[changed:], neighbors[changed:, changed:], vectors.mean(axis=0))
    with Meter() as meter:
        update_similar_texts(keys[:-changed], vectors[:-changed], known)
    add("similar texts, a day's new ones", changed, meter)
    del known

    with tempfile.TemporaryDirectory(prefix="catalog_") as folder:
        a_snapshot(vectors, neighbors, leaf, rng).save(Path(folder))
        del vectors, neighbors
        snapshot, recipe = map_snapshot(Path(folder)), Recipe()
        lines = purchases(snapshot, leaf, customers, rng)
        add("ALS candidates", min(_SAMPLE, customers), *als_recall(snapshot, rng, min(_SAMPLE, customers)))
        ranker = a_ranker(find_candidates(lines.head(LINES * 100), snapshot, recipe), recipe, rng)
        del snapshot
        map_snapshot.cache_clear()
        tasks = (lines.iloc[first : first + LINES * BATCH] for first in range(0, len(lines), LINES * BATCH))
        candidates_seconds = lists_seconds = 0.0
        spawn = multiprocessing.get_context("spawn")
        with Meter() as meter, ProcessPoolExecutor(processes, spawn) as workers:
            arguments = (Path(folder), ranker.dump(), ranker.features)
            for one, other in workers.map(_lists_of, tasks, *(itertools.repeat(each) for each in arguments)):
                candidates_seconds, lists_seconds = candidates_seconds + one, lists_seconds + other
        add("candidates and lists", customers, meter)
        for step, seconds in (("candidates, one core", candidates_seconds), ("lists, one core", lists_seconds)):
            rows.append((products, step, customers, round(seconds, 1), round(1e3 * seconds / customers, 3), None, None))
    return rows


def text_vectors(texts: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """(texts, DIMENSIONS) unit vectors, and (texts,) the finest group of each.

    The shares of variance of departments, categories, subcategories and groups, and the spectrum, are chosen so that
    cosines by rank are like those of MiniLM vectors of the demo's texts (rank 2: .83, 10: .65, 50: .34, at 5,000).
    """
    spectrum = np.arange(1, 201, dtype=np.float32) ** np.float32(-0.35)
    spectrum /= np.linalg.norm(spectrum)
    rotation = np.linalg.qr(rng.standard_normal((DIMENSIONS, 200)))[0].T.astype(np.float32)
    common = rng.standard_normal(DIMENSIONS).astype(np.float32)
    common *= 0.5 / np.linalg.norm(common)
    centers = np.zeros((1, 200), np.float32)
    for count, share in _LEVELS:
        parent = rng.choice(len(centers), min(count, max(texts // 8, 30)), p=_skewed(len(centers), 0.5))
        noise = rng.standard_normal((len(parent), 200), dtype=np.float32)
        centers = centers[parent] + np.float32(share**0.5) * noise
    leaf = rng.choice(len(centers), texts, p=_skewed(len(centers), 0.3)).astype(np.int32)
    vectors = np.empty((texts, DIMENSIONS), np.float32)
    for first in range(0, texts, 1 << 15):
        part = leaf[first : first + (1 << 15)]
        latent = centers[part] + np.float32(_NOISE**0.5) * rng.standard_normal((len(part), 200), dtype=np.float32)
        own = rng.standard_normal((len(part), DIMENSIONS), dtype=np.float32) * np.float32(0.1 / DIMENSIONS**0.5)
        rows = (latent * spectrum) @ rotation + common + own
        vectors[first : first + (1 << 15)] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors, leaf


def text_recall(vectors: Floats, neighbors: sp.csr_matrix, rng: np.random.Generator) -> float:
    """Share of the exact nearest texts that are found, of another sample than the index uses."""
    sample = np.sort(rng.choice(len(vectors), min(_SAMPLE, len(vectors)), replace=False))
    center, found = vectors.mean(axis=0), list[float]()
    for some in np.array_split(sample, 10):  # so that the check takes little memory
        cosine = np.empty((len(some), len(vectors)), np.float32)
        for first in range(0, len(vectors), 1 << 14):
            block = vectors[first : first + (1 << 14)] - center
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            cosine[:, first : first + (1 << 14)] = (vectors[some] - center) @ block.T
        for row, values in zip(some, cosine, strict=True):
            exact = np.argpartition(values, -TEXT_NEIGHBORS)[-TEXT_NEIGHBORS:]
            found.append(float(np.isin(exact, neighbors[row].indices).mean()))
    return round(float(np.mean(found)), 4)


def als_recall(snapshot: ProductSnapshot, rng: np.random.Generator, customers: int) -> tuple[Meter, float]:
    """Time of `best_scores` in blocks of 16 customers, and the share of the exact best products that it finds."""
    size = Recipe().candidates.als
    # A customer's factors are near a weighted sum of those of the products bought.
    bought = rng.integers(len(snapshot), size=(customers, 8))
    vectors = np.asarray(snapshot.factors)[bought].mean(axis=1)
    _ = snapshot.factors_by_norm
    found = []
    with Meter() as meter:
        for first in range(0, customers, 16):
            part = vectors[first : first + 16]
            found += list(best_scores(part, snapshot, np.full(len(part), size)).products)
    factors = np.ascontiguousarray(snapshot.factors.T)
    exact = [np.argpartition(-(vector @ factors), size)[:size] for vector in vectors]
    recall = np.mean([np.isin(best, near).mean() for best, near in zip(exact, found, strict=True)])
    return meter, round(float(recall), 4)


def a_snapshot(vectors: Floats, neighbors: sp.csr_matrix, leaf: Ints, rng: np.random.Generator) -> ProductSnapshot:
    """One text per product. Of the products, 40% have 40 neighbors of each kind, as in the demo, from their leaf."""
    products, recipe = len(vectors), Recipe()
    groups = 3_000
    sold = np.sort(rng.permutation(products)[: int(0.4 * products)])
    popularity = rng.permutation(np.exp(rng.normal(1, 1.2, products))).astype(np.float32)
    zeros = np.zeros(products, np.float32)
    directions = rng.standard_normal((groups, RANK), dtype=np.float32)[leaf % groups]
    factors = directions + 0.6 * rng.standard_normal((products, RANK), dtype=np.float32)
    # Lengths are like those of the demo's factors: median .29, nine of ten below .67.
    lengths = np.exp(rng.normal(np.log(0.29), 0.68, products)).astype(np.float32)
    factors *= (lengths / np.linalg.norm(factors, axis=1))[:, None]
    best = np.argsort(-popularity)[: min(recipe.co_purchase.ease_products, products)]
    return ProductSnapshot(
        as_of=dt.date(2024, 6, 30),
        product_ids=np.array([f"p{number:08}" for number in range(products)], object),
        titles=np.array([f"Product number {number} of the catalog" for number in range(products)], object),
        category=(leaf % groups).astype(np.int32),
        categories=np.array([f"category {number:04}" for number in range(groups)], object),
        brand=rng.integers(5_000, size=products).astype(np.int32),
        brands=np.array([f"brand {number:04}" for number in range(5_000)], object),
        **{texts: np.full(products, "", object) for texts in SHOWN_TEXTS.values()},
        in_stock=np.full(products, True),
        price=np.exp(rng.normal(2, 1, products)).astype(np.float32),
        list_price=zeros + 9,
        age_days=rng.integers(0, 700, products).astype(np.float32),
        order_lines=np.round(popularity),
        recent_order_lines=np.round(popularity / 8),
        recent_buyers=np.round(popularity / 10),
        new_buyers=np.round(popularity / 12),
        buyers=np.round(popularity / 2),
        returns=zeros,
        repeat_share=rng.random(products, dtype=np.float32),
        interval_days=zeros + 30,
        factors=factors,
        same_basket=_graph(sold, leaf, 40, products, rng),
        next_basket=_graph(sold, leaf, 40, products, rng),
        ease=_edges(best, rng.choice(best, (len(best), recipe.co_purchase.ease_neighbors)), products, rng),
        text=np.arange(products, dtype=np.int32),
        embeddings=vectors,
        text_neighbors=neighbors,
    )


def purchases(snapshot: ProductSnapshot, leaf: Ints, customers: int, rng: np.random.Generator) -> pd.DataFrame:
    """LINES history lines for each customer, as `interactions.history_lines`: half of them from twelve groups."""
    order = np.argsort(leaf, kind="stable")
    starts = np.searchsorted(leaf[order], np.arange(leaf.max() + 2))
    filled = np.flatnonzero(np.diff(starts))
    groups = rng.choice(filled, (customers, 12))[:, np.arange(LINES // 2) % 12]
    of_group = order[starts[groups] + (rng.random(groups.shape) * np.diff(starts)[groups]).astype(np.int64)]
    weights = np.cumsum(snapshot.order_lines, dtype=np.float64)
    popular = np.searchsorted(weights, rng.random((customers, LINES - LINES // 2)) * weights[-1])
    product = np.hstack([of_group, popular]).ravel()
    customer = np.repeat(np.char.add("c", np.char.zfill(np.arange(customers).astype(str), 6)).astype(object), LINES)
    age = np.tile(np.repeat(np.arange(0, 4 * (LINES // 5), 4), 5), customers)
    return pd.DataFrame(
        {
            "customer_id": customer, "product_id": snapshot.product_ids[product],
            "order_id": customer + "@" + pd.Series(age).astype(str).to_numpy(object), "age_days": age,
            "weight": 1.0, "rating": np.nan,
        }
    )  # fmt: skip


def a_ranker(candidates: pd.DataFrame, recipe: Recipe, rng: np.random.Generator) -> Ranker:
    """Trees of the usual number and depth, trained on made-up labels."""
    likely = 0.02 + 0.3 * (candidates["repeat_order_lines"] > 0) + 0.1 * candidates["als_relative"].clip(0, 1)
    return fit_ranker(
        TrainingSample.from_arrays(feature_matrix(candidates), rng.random(len(candidates)) < likely.to_numpy()),
        recipe.ranker,
        seed=recipe.seed,
    )


def _lists_of(lines: pd.DataFrame, folder: Path, model: bytes, features: tuple[str, ...]) -> tuple[float, float]:
    """Seconds for the candidates and for the lists of some customers."""
    snapshot, recipe = map_snapshot(folder), Recipe()
    titles, categories = _names(snapshot)
    started = time.perf_counter()
    candidates = find_candidates(lines, snapshot, recipe)
    found = time.perf_counter()
    lists = build_lists(candidates, Ranker.load(model, features), titles, categories, recipe.list_size)
    assert len(lists) == 2 * recipe.list_size * lines["customer_id"].nunique()
    return found - started, time.perf_counter() - found


_NAMES: list[tuple[dict[str, str], dict[str, str]]] = []


def _names(snapshot: ProductSnapshot) -> tuple[dict[str, str], dict[str, str]]:
    """Titles and categories by product, made once in each process, as the assets do."""
    if not _NAMES:
        categories = snapshot.categories[snapshot.category]
        _NAMES.append((
            dict(zip(snapshot.product_ids, snapshot.titles, strict=True)),
            dict(zip(snapshot.product_ids, categories, strict=True)),
        ))  # fmt: skip
    return _NAMES[0]


def _graph(sources: Longs, leaf: Ints, edges: int, products: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Edges from some products: half to products of the same group, half to any of the sources."""
    order = np.argsort(leaf, kind="stable")
    starts = np.searchsorted(leaf[order], np.arange(leaf.max() + 2))
    sizes = np.diff(starts)[leaf[sources]][:, None]
    same = order[starts[leaf[sources]][:, None] + (rng.random((len(sources), edges // 2)) * sizes).astype(np.int64)]
    return _edges(sources, np.hstack([same, rng.choice(sources, (len(sources), edges - edges // 2))]), products, rng)


def _edges(sources: Longs, targets: Longs, products: int, rng: np.random.Generator) -> sp.csr_matrix:
    """(products, products) random weights from each source to its row of targets."""
    weights = rng.random(targets.size, dtype=np.float32)
    shape = (products, products)
    graph = sp.csr_matrix((weights, (np.repeat(sources, targets.shape[1]), targets.ravel())), shape, np.float32)
    graph.sort_indices()
    return graph


def _skewed(count: int, power: float) -> Any:
    """(count,) shares that fall with a power of the rank."""
    shares = np.arange(1, count + 1) ** -power
    return shares / shares.sum()


if __name__ == "__main__":
    main()
