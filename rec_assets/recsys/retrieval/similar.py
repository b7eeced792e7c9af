"""Similar products: substitutes (same need, alike in text and buyers) and complements (bought along)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from rec_assets.recsys.data.product_snapshot import Floats, ProductSnapshot

SUBSTITUTE, COMPLEMENT = "substitute", "complement"
SIMILAR_COLUMNS = ("product_id", "kind", "rank", "similar_product_id", "score", "reason")

_BLOCK = 512


def substitutes(state: ProductSnapshot, category: int, size: int) -> pd.DataFrame:
    """The products of one category that could stand in for one another.

    The score is the mean of the cosines of texts and of ALS factors, over those of the two that both products have.

    Returns:
        SIMILAR_COLUMNS for the products of the category, those without text and factors left out.
    """
    members = np.flatnonzero(state.category == category)
    frames = []
    for first in range(0, len(members), _BLOCK):
        score = likeness(state, members[first : first + _BLOCK], members)
        score[np.arange(score.shape[0]), np.arange(first, first + score.shape[0])] = -np.inf
        # Equal scores (the same text) go to the better seller.
        order = np.lexsort((np.broadcast_to(-state.orders[members], score.shape), -score), axis=1)[:, :size]
        row, rank = np.nonzero(np.take_along_axis(score, order, axis=1) > 0)
        column = order[row, rank]
        frames.append(
            pd.DataFrame(
                {
                    "product_id": state.product_ids[members[row + first]],
                    "kind": SUBSTITUTE,
                    "rank": rank.astype(np.int32) + 1,
                    "similar_product_id": state.product_ids[members[column]],
                    "score": score[row, column].astype(np.float64),
                    "reason": f"also {state.categories[category]}" if state.categories[category] else "alike",
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def likeness(state: ProductSnapshot, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Floats:
    """(rows, columns) mean of the cosines of texts and of ALS factors, over those of the two that both have."""
    score, voices = np.zeros((len(rows), len(columns)), np.float32), np.zeros((len(rows), len(columns)), np.float32)
    for ours, theirs in (
        (_text_vectors(state, rows), _text_vectors(state, columns)),
        (_unit(state.factors[rows]), _unit(state.factors[columns])),
    ):
        score += ours @ theirs.T
        voices += np.outer(ours.any(axis=1), theirs.any(axis=1))
    return np.asarray(score / np.maximum(voices, 1), np.float32)


def complements(graph: pd.DataFrame, categories: pd.Series, size: int) -> pd.DataFrame:
    """What goes with a product: its strongest neighbors in shared baskets that serve another need (category).

    Args:
        graph: As `co_purchase_graph` gives it.
        categories: product_id → category.
        size: Neighbors per product.

    Returns:
        SIMILAR_COLUMNS.
    """
    edges = graph[graph["kind"] == "same_basket"]
    ours, theirs = (
        edges["product_id"].map(categories).fillna(""),
        edges["neighbor_id"].map(categories).fillna(""),
    )
    edges = edges[(ours != theirs) | (ours == "")]
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


def _text_vectors(state: ProductSnapshot, members: npt.NDArray[np.int64]) -> Floats:
    """(members, d) text vectors, zero rows where a product has none."""
    out = np.zeros((len(members), state.embeddings.shape[1]), np.float32)
    has_text = state.text[members] >= 0
    out[has_text] = state.embeddings[state.text[members[has_text]]]
    return out


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
