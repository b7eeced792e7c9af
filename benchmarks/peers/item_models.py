"""Own implementations of item-to-item models: EASE, and transitions in customers' sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import sparse

from benchmarks.datasets import BEAUTY
from benchmarks.peers.base import DEFAULT_HALF_LIFE, HALF_LIFE, Floats, ScoringPeer, Space
from rec_assets.recsys.retrieval.ease_weights import solve


@dataclass
class Ease(ScoringPeer):
    """EASE (Steck 2019, doi:10.1145/3308558.3313710): a linear item model in closed form, without self-similarity.

    With P = (XᵀX + λI)⁻¹, the weights are B_ij = −P_ij / P_jj, and 0 on the diagonal.

    Attributes:
        regularization: λ.
        half_life: Of the history that is multiplied with B; X itself is binary.
        size: So many of the products sold most are learned and shown; of Amazon Beauty all.
    """

    regularization: float = 300.0
    half_life: float = 120.0
    size: int = 8000

    defaults: ClassVar = {**DEFAULT_HALF_LIFE, BEAUTY: {"regularization": 100.0, "half_life": 2.0, "size": 20_000}}

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {"regularization": FloatDistribution(20, 3000, log=True), "half_life": HALF_LIFE[dataset]}

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        sold = self.matrix().sign()[:, : self.size].astype(np.float32)
        self._weights = solve((sold.T @ sold).toarray(), self.regularization)
        self._history = self.matrix(self.half_life)[:, : self.size]

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        scores = np.full((len(rows), len(self.product_ids)), -np.inf, dtype=np.float32)
        scores[:, : self.size] = self._history[rows] @ self._weights
        return scores


@dataclass
class Transitions(ScoringPeer):
    """Products bought within the next `window` purchases after the customer's products; recent ones have more weight.

    A pair (i, then j) counts 1 / distance, and pairs are divided by (lines of i)^damping · (lines of j)^damping:
    a first-order Markov chain with skips, close to what session-based k-NN models do (Ludewig & Jannach 2018,
    doi:10.1007/s11257-018-9209-6).
    """

    window: int = 5
    half_life: float = 2.0
    damping: float = 0.5
    backwards: float = 0.5
    """Weight of a pair in the opposite direction, j to i."""

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {
            "half_life": HALF_LIFE[dataset],
            "damping": FloatDistribution(0, 1),
            "backwards": CategoricalDistribution([0.0, 0.5, 1.0]),
            "window": IntDistribution(3, 10),
        }

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        order = np.lexsort((lines["order_id"], self.line_row))
        row, column = self.line_row[order], self.line_column[order]
        n = len(self.product_ids)
        pairs = sparse.csr_array((n, n), dtype=np.float32)
        for distance in range(1, self.window + 1):
            same = row[distance:] == row[:-distance]
            entries = np.full(same.sum(), 1 / distance, dtype=np.float32)
            pairs += sparse.csr_array(
                sparse.coo_array((entries, (column[:-distance][same], column[distance:][same])), shape=(n, n))
            )
        pairs = pairs + self.backwards * pairs.T
        discount = np.maximum(np.bincount(column, minlength=n), 1).astype(np.float32) ** -self.damping
        self._weights = sparse.csr_array(sparse.diags_array(discount) @ pairs @ sparse.diags_array(discount))
        self._history = self.matrix(self.half_life)

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        return (self._history[rows] @ self._weights).toarray().astype(np.float32)
