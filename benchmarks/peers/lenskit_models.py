"""Models of the library LensKit (Ekstrand 2020, doi:10.1145/3340531.3412778): user and item k-NN.

They know no weights, so what is chosen instead is how far back history is read.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from lenskit.data import ItemList, RecQuery, from_interactions_df
from lenskit.knn import ItemKNNScorer, UserKNNScorer
from lenskit.training import TrainingOptions
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from benchmarks.datasets import BEAUTY, FASHION, JOURNEY
from benchmarks.peers.base import Floats, ScoringPeer, Space

_AGES: dict[str, BaseDistribution] = {
    JOURNEY: FloatDistribution(30, 400, log=True),
    BEAUTY: FloatDistribution(1, 50, log=True),
    FASHION: FloatDistribution(30, 400, log=True),
}


@dataclass
class _LensKitKnn(ScoringPeer):
    """A scorer of LensKit, applied to all products.

    Attributes:
        neighbors: Most neighbors that count for a score.
        learned_age, history_age: Only lines younger than this are learned from; only those are a customer's history.
    """

    neighbors: int = 50
    learned_age: float = 400.0
    history_age: float = 400.0

    defaults: ClassVar = {BEAUTY: {"learned_age": 50.0, "history_age": 50.0}}

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {
            "neighbors": IntDistribution(3, 500, log=True),
            "learned_age": _AGES[dataset],
            "history_age": _AGES[dataset],
        }

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        pairs = pd.DataFrame({"user_id": self.line_row, "item_id": self.line_column})
        learned = pairs[self.line_age < self.learned_age].drop_duplicates()
        self._scorer = self.scorer()
        self._scorer.train(from_interactions_df(learned), TrainingOptions())
        # LensKit 2025.8 falls over products in a history that it has not learned.
        usable = (self.line_age < self.history_age) & pairs["item_id"].isin(learned["item_id"]).to_numpy()
        history = pairs[usable].drop_duplicates().sort_values(["user_id", "item_id"])
        self._items = history["item_id"].to_numpy()
        self._starts = np.searchsorted(history["user_id"], np.arange(len(self.customer_ids) + 1))
        self._known = ItemList(item_ids=self._scorer.items.ids(), vocabulary=self._scorer.items)

    @abstractmethod
    def scorer(self) -> ItemKNNScorer | UserKNNScorer:
        """The component of LensKit."""

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        scores = np.zeros((len(rows), len(self.product_ids)), dtype=np.float32)
        known = self._known.ids()
        for place, row in enumerate(rows):
            bought = self._items[self._starts[row] : self._starts[row + 1]]
            if len(bought):
                query = RecQuery(user_id=int(row), history_items=ItemList(item_ids=bought))
                scores[place, known] = np.nan_to_num(
                    np.asarray(self._scorer(query, self._known).scores(), dtype=np.float32)
                )
        return scores


@dataclass
class LensKitItemKnn(_LensKitKnn):
    """Cosine item k-NN on binary purchases (Deshpande & Karypis 2004, doi:10.1145/963770.963776)."""

    def scorer(self) -> ItemKNNScorer:
        return ItemKNNScorer(max_nbrs=self.neighbors, save_nbrs=500, feedback="implicit")


@dataclass
class LensKitUserKnn(_LensKitKnn):
    """Cosine user k-NN on binary purchases."""

    def scorer(self) -> UserKNNScorer:
        return UserKNNScorer(max_nbrs=self.neighbors, feedback="implicit")
