"""Builds a product snapshot from the tables of one as-of day, and gives it other models."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats
from rec_assets.recsys.data.product_snapshot import UNKNOWN, ProductSnapshot
from rec_assets.recsys.data.similar_texts import SimilarTexts, needs_index, update_similar_texts
from rec_assets.recsys.data.snapshot_arrays import KINDS, SHOWN_TEXTS

_COUNTS = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers", "returns", "repeat_share")


def build_product_snapshot(
    as_of: dt.date,
    *,
    products: pd.DataFrame,
    statistics: pd.DataFrame,
    factors: pd.DataFrame,
    graph: pd.DataFrame,
    embeddings: pd.DataFrame,
    neighbors: SimilarTexts | None = None,
) -> ProductSnapshot:
    """Join the tables of one day into arrays.

    Products that are excluded, or first seen after `as_of`, are left out: nobody could be recommended them.

    Args:
        products: product_id, title, category, brand, price, content_hash, first_seen (date), excluded, and what can be
            shown of them, if there is anything: image, link, attributes, taste, variants, in_stock.
        statistics: product_id, order_lines, recent_order_lines, recent_buyers, new_buyers, buyers, returns,
            repeat_share, interval_days, price.
        factors: product_id, factors (list of floats) from ALS; may be empty.
        graph: kind (one of KINDS), product_id, neighbor_id, weight.
        embeddings: content_hash, vector (list of floats).
        neighbors: The similar texts of these embeddings or most of them, so that only the others are looked up.
    """
    known = products[~products["excluded"].astype(bool)]
    known = known[pd.to_datetime(known["first_seen"]).dt.date <= as_of]
    known = known.sort_values("product_id", kind="stable").reset_index(drop=True)
    stats = statistics.set_index("product_id").reindex(known["product_id"])
    index = pd.Index(known["product_id"])
    # Object arrays: numpy's text arrays make every value as wide as the longest one.
    category, categories = pd.factorize(known["category"].fillna(UNKNOWN).astype(str).to_numpy(object), sort=True)
    brand, brands = pd.factorize(known["brand"].fillna(UNKNOWN).astype(str).to_numpy(object), sort=True)
    # Texts of other products would change the mean embedding and so the similarities.
    texts, vectors = _texts_of(embeddings, known["content_hash"])
    text = pd.Index(texts).get_indexer(pd.Index(known["content_hash"].fillna("")))
    listed = known.set_index("product_id")["price"]
    price = stats["price"].fillna(listed)
    age = (pd.Timestamp(as_of) - pd.to_datetime(known["first_seen"])).dt.days.astype(np.float32)
    return ProductSnapshot(
        as_of=as_of,
        product_ids=known["product_id"].to_numpy(object),
        titles=known["title"].fillna("").to_numpy(object),
        category=category.astype(np.int32),
        categories=categories.astype(object),
        brand=brand.astype(np.int32),
        brands=brands.astype(object),
        **{texts: _texts_or_empty(known, name) for name, texts in SHOWN_TEXTS.items()},
        in_stock=known["in_stock"].to_numpy(bool) if "in_stock" in known else np.full(len(known), True),
        price=price.to_numpy(np.float32),
        list_price=listed.fillna(price).round(2).to_numpy(np.float32),
        age_days=age.to_numpy(),
        **{name: stats[name].fillna(0).to_numpy(np.float32) for name in _COUNTS},
        interval_days=stats["interval_days"].to_numpy(np.float32),
        factors=_align_vectors(factors, "product_id", "factors", index),
        **{kind: _to_matrix(graph[graph["kind"] == kind], index) for kind in KINDS},
        text=text.astype(np.int32),
        embeddings=vectors,
        text_neighbors=update_similar_texts(texts, vectors, neighbors).neighbors,
    )


def _texts_or_empty(products: pd.DataFrame, name: str) -> Any:
    values = products[name] if name in products else pd.Series("", products.index)
    return values.fillna("").astype(str).to_numpy(object)


def neighbors_to_keep(embeddings: pd.DataFrame, texts: pd.Series, known: SimilarTexts | None) -> SimilarTexts:
    """The similar texts of all products, for the snapshots of the next days.

    None are kept up to MAX_EXACT_TEXTS, which each snapshot compares itself.

    Args:
        embeddings: content_hash, vector (list of floats).
        texts: content_hash of each product; null without a text.
        known: What was kept so far.
    """
    keys, vectors = _texts_of(embeddings, texts)
    if not needs_index(len(keys)):
        keys, vectors = keys[:0], vectors[:0]
    return update_similar_texts(keys, vectors, known)


def with_models(snapshot: ProductSnapshot, factors: pd.DataFrame, graph: pd.DataFrame) -> ProductSnapshot:
    """The same products with other models; see `build_product_snapshot`."""
    index = pd.Index(snapshot.product_ids)
    return replace(
        snapshot,
        factors=_align_vectors(factors, "product_id", "factors", index),
        **{kind: _to_matrix(graph[graph["kind"] == kind], index) for kind in KINDS},
    )


def _texts_of(embeddings: pd.DataFrame, texts: pd.Series) -> tuple[npt.NDArray[np.object_], Floats]:
    """The content hashes (T,), ascending, and the embeddings (T, d) of the texts that products have."""
    rows = embeddings[embeddings["content_hash"].isin(texts)].sort_values("content_hash")
    return rows["content_hash"].to_numpy(object), _stack(rows["vector"])


def _stack(vectors: pd.Series) -> Floats:
    return np.stack(vectors.to_list()).astype(np.float32) if len(vectors) else np.zeros((0, 1), np.float32)


def _align_vectors(frame: pd.DataFrame, key: str, vector: str, index: pd.Index) -> Floats:
    """(len(index), d) vectors in the order of `index`; zero rows for keys that the frame lacks."""
    position = index.get_indexer(pd.Index(frame[key]))
    vectors = _stack(frame[vector])
    out = np.zeros((len(index), vectors.shape[1]), np.float32)
    out[position[position >= 0]] = vectors[position >= 0]
    return out


def _to_matrix(edges: pd.DataFrame, index: pd.Index) -> sp.csr_matrix:
    """(P, P) weights of the edges between products of `index`."""
    row = index.get_indexer(pd.Index(edges["product_id"]))
    column = index.get_indexer(pd.Index(edges["neighbor_id"]))
    known = (row >= 0) & (column >= 0)
    weights = edges["weight"].to_numpy(np.float32)[known]
    matrix = sp.csr_matrix((weights, (row[known], column[known])), shape=(len(index), len(index)), dtype=np.float32)
    matrix.sort_indices()
    return matrix
