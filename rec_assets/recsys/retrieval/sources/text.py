"""Text similarity: products whose texts are nearest neighbors of the texts of the profile items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rec_assets.recsys.arrays import Longs
from rec_assets.recsys.retrieval.sources.base import Baseline, CandidateSource, CustomerBlock, FeatureValues, Pairs
from rec_assets.recsys.retrieval.sources.helpers import (
    NeighborScores,
    best_of_groups,
    group_sums,
    neighbor_scores,
    orders_since,
)

if TYPE_CHECKING:
    from rec_assets.recsys.retrieval.candidates import Candidates


class Text(CandidateSource[NeighborScores]):
    """Scores a text, and with it all products that have this text. See `similar_texts.similar_texts`."""

    name = "text"
    features = (
        "text_score", "text_relative", "text_last_visit", "text_orders_since", "text_lines", "text_products",
        "text_share", "text_expected", "text_expected_recent",
    )  # fmt: skip
    sentence = "similar to {anchor}"
    blend_weights = (("text_relative", 1.0),)
    baselines = (
        Baseline("text alone", "Products whose texts are most similar to the customer's purchases.", ("text_score",)),
    )
    has_anchor = True

    def score(self, block: CustomerBlock) -> NeighborScores:
        """(n, T + 1) scores of the texts. Products without a text have row -1: the last column, which is 0."""
        return neighbor_scores(block, block.snapshot.text_edges, block.snapshot.text)

    def propose(self, block: CustomerBlock) -> Pairs:
        """The products with the highest scores of their texts."""
        scores = block.scores(self).profile.values
        return best_of_groups(*block.snapshot.products_of_text, scores, block.bought, self.size(block.recipe))

    def compute_features(self, block: CustomerBlock, customer: Longs, product: Longs) -> FeatureValues:
        """Scores from the whole profile and from the last visit, and the customer's history of the same text.

        In many shops, products of one text are of one kind, such as a brand's milks. The customer's lines of the text ×
        the product's share in those of all customers are the lines to expect.
        """
        histories, snapshot = block.histories, block.snapshot
        of_text = snapshot.text, customer, product
        lines = group_sums(histories, histories.decayed_lines(block.recipe.candidates.repeat_half_life_days), *of_text)
        share, recent_share = (shares[product] for shares in snapshot.shares_in_text)
        return {
            **block.scores(self).features(self.name, customer, product),
            "text_orders_since": orders_since(histories, *of_text),
            "text_lines": lines,
            "text_products": group_sums(histories, np.ones_like(histories.order_lines), *of_text),
            "text_share": share,
            "text_expected": lines * share,
            "text_expected_recent": lines * recent_share,
        }

    def anchors(self, candidates: Candidates, rows: Longs) -> Longs:
        """The profile item with the nearest text, other than the candidate itself; -1 for candidates scored 0."""
        customer, product, snapshot = candidates.customer[rows], candidates.product[rows], candidates.snapshot
        is_scored = candidates.feature("text_score")[rows] > 0
        profile, out = candidates.profile, np.full(len(rows), -1, np.int64)
        bounds = np.searchsorted(customer, np.arange(len(profile.starts)))
        for row in range(len(profile.starts) - 1):
            pairs = np.arange(bounds[row], bounds[row + 1])
            pairs = pairs[is_scored[pairs] & (snapshot.text[product[pairs]] >= 0)]
            items = profile.items[profile.starts[row] : profile.starts[row + 1]]
            items = items[snapshot.text[items] >= 0]
            if not len(pairs) or not len(items):
                continue
            # By distinct texts, so that items of one text are exactly tied. The first of them is the anchor.
            texts, text_row = np.unique(snapshot.text[product[pairs]], return_inverse=True)
            item_texts, text_column = np.unique(snapshot.text[items], return_inverse=True)
            similarity = (snapshot.embeddings[texts] @ snapshot.embeddings[item_texts].T)[text_row][:, text_column]
            similarity[product[pairs][:, None] == items[None, :]] = -np.inf
            best = similarity.argmax(axis=1)
            out[pairs] = np.where(np.isfinite(similarity[np.arange(len(pairs)), best]), items[best], -1)
        return out
