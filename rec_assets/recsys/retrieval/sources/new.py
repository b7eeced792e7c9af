"""New products: products first seen lately, by text similarity. It proposes candidates and adds no features."""

from __future__ import annotations

from rec_assets.recsys.retrieval.sources.base import CandidateSource, CustomerBlock, Pairs
from rec_assets.recsys.retrieval.sources.helpers import NeighborScores, best_of_groups
from rec_assets.recsys.retrieval.sources.text import Text


class New(CandidateSource[NeighborScores]):
    """Scores new products as text similarity does, which would rarely propose them among all products."""

    name = "new"

    def score(self, block: CustomerBlock) -> NeighborScores:
        """Scores of the texts."""
        return block.scores(Text())

    def propose(self, block: CustomerBlock) -> Pairs:
        """The most similar products of the last `new_days`."""
        snapshot, scores = block.snapshot, block.scores(self).profile.values
        excluded = block.bought | (snapshot.age_days >= block.recipe.candidates.new_days)
        return best_of_groups(*snapshot.products_of_text, scores, excluded, self.size(block.recipe))
