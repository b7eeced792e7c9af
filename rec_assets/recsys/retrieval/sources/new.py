"""New products: products first seen lately, by text similarity. It proposes candidates and adds no features."""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.retrieval.sources.base import CandidateSource, CustomerBlock, Pairs
from rec_assets.recsys.retrieval.sources.helpers import NeighborScores, best_unbought
from rec_assets.recsys.retrieval.sources.text import Text


class New(CandidateSource[NeighborScores]):
    """Scores new products as text similarity does, which would rarely propose them among all products."""

    name = "new"

    def score(self, block: CustomerBlock) -> NeighborScores:
        """Scores of the texts."""
        return block.scores(Text())

    def propose(self, block: CustomerBlock) -> Pairs:
        """The most similar products of the last `new_days`."""
        snapshot, size = block.snapshot, self.size(block.recipe)
        by_age, ages = snapshot.by_age
        products = np.sort(by_age[: np.searchsorted(ages, block.recipe.candidates.new_days)])
        scores = block.scores(self).profile.values[:, snapshot.text[products]]
        return best_unbought(block, products, scores, size)
