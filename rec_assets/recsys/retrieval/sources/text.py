"""Text similarity: products whose texts are nearest neighbors of the texts of the profile items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Longs, Mask
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.retrieval.sources.base import Baseline, CandidateSource, CustomerBlock, FeatureValues, Pairs
from rec_assets.recsys.retrieval.sources.helpers import (
    NeighborScores,
    as_pairs,
    best_of_row,
    concatenate_ranges,
    neighbor_scores,
    orders_since,
)

if TYPE_CHECKING:
    from rec_assets.recsys.retrieval.candidates import Candidates


class Text(CandidateSource[NeighborScores]):
    """Scores a text, and with it all products that have this text. See `similar_texts.similar_texts`."""

    name = "text"
    features = ("text_score", "text_relative", "text_last_visit", "text_orders_since")
    sentence = "similar to {anchor}"
    blend_weights = (("text_relative", 1.0),)
    baselines = (
        Baseline("text alone", "Products whose texts are most similar to the customer's purchases.", ("text_score",)),
    )
    has_anchor = True

    def score(self, block: CustomerBlock) -> NeighborScores:
        """(n, T + 1) scores of the texts. Products without a text have row -1: the last column, which is 0."""
        snapshot, weights = block.snapshot, _by_text(block.profile_and_last_visit, block.snapshot)
        return neighbor_scores(weights, snapshot.padded_text_neighbors, snapshot.text)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The products with the highest scores of their texts."""
        rows, size, text = [], self.size(block.recipe), block.snapshot.text
        for scores, bought in zip(block.scores(self).profile.values, block.bought, strict=True):
            products = _products_of_best_texts(scores, size, bought, block.snapshot)
            rows.append(best_of_row(products, scores[text[products]], size, bought))
        return as_pairs(rows)

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """Scores from the whole profile and from the last visit, and orders since the text was last bought."""
        since = orders_since(block.histories, block.snapshot.text, customer, product)
        return {**block.scores(self).features(self.name, customer, product), "text_orders_since": since}

    def anchors(self, candidates: Candidates, rows: Longs) -> Longs:
        """The profile item with the nearest text, other than the candidate itself; -1 for candidates scored 0."""
        customer, product, snapshot = candidates.customer[rows], candidates.product[rows], candidates.snapshot
        is_scored = candidates.feature("text_score")[rows] > 0
        profile, out = candidates.profile, np.full(len(rows), -1, np.int64)
        bounds = np.searchsorted(customer, np.arange(profile.shape[0] + 1))
        for row in range(profile.shape[0]):
            pairs = np.arange(bounds[row], bounds[row + 1])
            pairs = pairs[is_scored[pairs] & (snapshot.text[product[pairs]] >= 0)]
            items = profile.indices[profile.indptr[row] : profile.indptr[row + 1]]
            items = items[snapshot.text[items] >= 0]
            if not len(pairs) or not len(items):
                continue
            texts, text_row = np.unique(snapshot.text[product[pairs]], return_inverse=True)
            similarity = (snapshot.embeddings[texts] @ snapshot.embeddings[snapshot.text[items]].T)[text_row]
            similarity[product[pairs][:, None] == items[None, :]] = -np.inf
            best = similarity.argmax(axis=1)
            out[pairs] = np.where(np.isfinite(similarity[np.arange(len(pairs)), best]), items[best], -1)
        return out


def _by_text(items: sp.csr_matrix, snapshot: ProductSnapshot) -> sp.csr_matrix:
    """(rows, T) weights of texts from (rows, P) weights of products. A row may have several entries of one text."""
    text = snapshot.text[items.indices]
    has_text = text >= 0
    starts = np.append(0, np.cumsum(has_text))[items.indptr]
    return sp.csr_matrix((items.data[has_text], text[has_text], starts), (items.shape[0], len(snapshot.embeddings)))


def _products_of_best_texts(scores: Floats, size: int, is_bought: Mask, snapshot: ProductSnapshot) -> Longs:
    """Products (ascending) of the `size` best texts, ties included, by (T + 1,) scores of texts.

    Choosing texts first is cheaper: a hundred products may share one text.
    """
    starts, products = snapshot.products_of_text
    lengths = np.diff(starts)
    texts = snapshot.text[np.flatnonzero(is_bought)]
    all_bought = np.bincount(texts[texts >= 0], minlength=len(lengths)) >= lengths
    positive = np.flatnonzero((scores[:-1] > 0) & ~all_bought)
    if len(positive) > size:
        values = scores[positive]
        positive = positive[values >= np.partition(values, len(values) - size)[len(values) - size]]
    return np.sort(products[concatenate_ranges(starts[positive], lengths[positive])])
