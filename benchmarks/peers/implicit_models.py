"""Models of the library implicit (Ben Frederickson): matrix factorization by ALS, and three item k-NN."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, ItemItemRecommender, TFIDFRecommender
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import sparse

from benchmarks.peers.base import DEFAULT_HALF_LIFE, HALF_LIFE, Floats, ScoringPeer, Space


@dataclass
class ImplicitAls(ScoringPeer):
    """ALS for implicit feedback (Hu, Koren & Volinsky 2008, doi:10.1109/ICDM.2008.22).

    Confidence is 1 + `alpha` · the decayed number of lines.
    """

    factors: int = 64
    regularization: float = 0.05
    alpha: float = 5.0
    half_life: float = 120.0
    iterations: int = 15

    defaults = DEFAULT_HALF_LIFE

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {
            "factors": IntDistribution(32, 256, log=True),
            "regularization": FloatDistribution(0.005, 5, log=True),
            "alpha": FloatDistribution(0.05, 50, log=True),
            "half_life": HALF_LIFE[dataset],
        }

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        self._model = AlternatingLeastSquares(
            factors=self.factors,
            regularization=self.regularization,
            alpha=1.0,
            iterations=self.iterations,
            random_state=0,
        )
        confidence = sparse.csr_matrix(self.matrix(self.half_life))
        # The library takes confidences, 1 for what was not bought; its own alpha would only multiply them.
        confidence.data = 1 + np.float32(self.alpha) * confidence.data
        self._model.fit(confidence, show_progress=False)

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        return self._model.user_factors[rows] @ self._model.item_factors.T


@dataclass
class _ItemKnn(ScoringPeer):
    """Item k-NN: the decayed history times the similarities of each product to its nearest neighbors.

    Attributes:
        neighbors: Products kept for each; the product itself is one of them.
        half_life: Of the history of the customer who is shown a list.
        learned_from: Similarities come from the numbers of lines, from their decayed sums, or from bought or not.
    """

    neighbors: int = 100
    half_life: float = 120.0
    learned_from: str = "counts"

    defaults = DEFAULT_HALF_LIFE

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {
            "neighbors": IntDistribution(3, 1000, log=True),
            "half_life": HALF_LIFE[dataset],
            "learned_from": CategoricalDistribution(["counts", "decayed", "bought"]),
        }

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        self._history = self.matrix(self.half_life)
        learned_from = {"counts": self.matrix(), "decayed": self._history, "bought": self.matrix().sign()}
        model = self.model()
        warnings.filterwarnings("ignore", message="Method expects CSR input")  # said by implicit of its own matrix
        model.fit(sparse.csr_matrix(learned_from[self.learned_from], dtype=np.float64), show_progress=False)
        self._similarity = sparse.csr_array(model.similarity).astype(np.float32)

    @abstractmethod
    def model(self) -> ItemItemRecommender:
        """The recommender of implicit."""

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        return (self._history[rows] @ self._similarity).toarray()


@dataclass
class CosineKnn(_ItemKnn):
    """Cosine similarity of the products' columns."""

    def model(self) -> ItemItemRecommender:
        return CosineRecommender(K=self.neighbors)


@dataclass
class TfIdfKnn(_ItemKnn):
    """Cosine similarity of the columns weighted by TF-IDF."""

    def model(self) -> ItemItemRecommender:
        return TFIDFRecommender(K=self.neighbors)


@dataclass
class Bm25Knn(_ItemKnn):
    """Products of the columns weighted by BM25, with its `k1` and `b`."""

    k1: float = 1.2
    b: float = 0.75

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {**super().space(dataset), "k1": FloatDistribution(0.2, 100, log=True), "b": FloatDistribution(0, 1)}

    def model(self) -> ItemItemRecommender:
        return BM25Recommender(K=self.neighbors, K1=self.k1, B=self.b)
