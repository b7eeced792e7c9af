"""Similar products: substitutes (same category, similar texts and buyers) and complements (bought together)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.compiled import compiled
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_arrays import SAME_BASKET

SUBSTITUTE, COMPLEMENT = "substitute", "complement"
SIMILAR_COLUMNS = ("product_id", "kind", "rank", "similar_product_id", "score", "reason")

_BLOCK = 512


def substitutes(snapshot: ProductSnapshot, category: int, size: int) -> pd.DataFrame:
    """The substitutes of each product of one category: the products of the category with the highest `similarity`.

    Returns:
        SIMILAR_COLUMNS. Products without a text and without factors are left out.
    """
    members = np.flatnonzero(snapshot.category == category)
    # Ties, such as equal texts, go to the better seller.
    best_sellers = members[np.argsort(-snapshot.order_lines[members], kind="stable")]
    own = np.argsort(best_sellers)  # members are in ascending order
    frames = []
    for first in range(0, len(members), _BLOCK):
        score = similarity(snapshot, members[first : first + _BLOCK], best_sellers)
        score[np.arange(len(score)), own[first : first + _BLOCK]] = 0
        row, rank, column = _highest(score, size)
        frames.append(
            pd.DataFrame(
                {
                    "product_id": snapshot.product_ids[members[row + first]],
                    "kind": SUBSTITUTE,
                    "rank": rank.astype(np.int32) + 1,
                    "similar_product_id": snapshot.product_ids[best_sellers[column]],
                    "score": score[row, column].astype(np.float64),
                    "reason": f"also {snapshot.categories[category]}" if snapshot.categories[category] else "similar",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@compiled
def _highest(score: Floats, size: int) -> tuple[Longs, Longs, Longs]:
    """Row, rank (from 0) and column of the `size` highest positive scores of each row; ties go to the lower column."""
    rows, columns = score.shape
    row, rank, column = (
        np.empty(rows * size, np.int64),
        np.empty(rows * size, np.int64),
        np.empty(rows * size, np.int64),
    )
    value, end = np.empty(size, np.float32), 0
    for number in range(rows if size else 0):
        count = 0
        for place in range(columns):
            new = score[number, place]
            if new <= 0 or (count == size and new <= value[size - 1]):
                continue
            count = min(count + 1, size)
            position = count - 1
            while position > 0 and value[position - 1] < new:
                value[position], column[end + position] = value[position - 1], column[end + position - 1]
                position -= 1
            value[position], column[end + position] = new, place
        for position in range(count):
            row[end + position], rank[end + position] = number, position
        end += count
    return row[:end], rank[:end], column[:end]


def similarity(snapshot: ProductSnapshot, rows: Longs, columns: Longs) -> Floats:
    """(rows, columns) mean of the cosines of texts and of ALS factors, of the ones that both products have."""
    total, count = np.zeros((len(rows), len(columns)), np.float32), np.zeros((len(rows), len(columns)), np.float32)
    texts = _text_vectors(snapshot, rows), _text_vectors(snapshot, columns)
    factors = _unit(snapshot.factors[rows]), _unit(snapshot.factors[columns])
    for left, right in (texts, factors):
        total += left @ right.T
        count += np.outer(left.any(axis=1), right.any(axis=1))
    return np.asarray(total / np.maximum(count, 1), np.float32)


def complements(graph: pd.DataFrame, categories: pd.Series, size: int) -> pd.DataFrame:
    """The complements of each product: its strongest same-basket neighbors of other categories, as SIMILAR_COLUMNS.

    `graph` is from `co_purchase_graph`; `categories` are product_id → category.
    """
    edges = graph[graph["kind"] == SAME_BASKET]
    category, of_neighbor = (edges[name].map(categories).fillna("") for name in ("product_id", "neighbor_id"))
    edges = edges[(category != of_neighbor) | (category == "")]
    edges = edges.sort_values(["product_id", "weight", "neighbor_id"], ascending=[True, False, True])
    rank = edges.groupby("product_id", sort=False).cumcount() + 1
    edges, rank = edges[rank <= size], rank[rank <= size]
    return pd.DataFrame(
        {
            "product_id": edges["product_id"].to_numpy(),
            "kind": COMPLEMENT,
            "rank": rank.to_numpy(np.int32),
            "similar_product_id": edges["neighbor_id"].to_numpy(),
            "score": edges["weight"].to_numpy(np.float64),
            "reason": [f"bought together in {count} baskets" for count in edges["support"]],
        }
    )


def _text_vectors(snapshot: ProductSnapshot, members: Longs) -> Floats:
    """(members, d) text vectors; zero rows for products without a text."""
    out = np.zeros((len(members), snapshot.embeddings.shape[1]), np.float32)
    has_text = snapshot.text[members] >= 0
    out[has_text] = snapshot.embeddings[snapshot.text[members[has_text]]]
    return out


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
