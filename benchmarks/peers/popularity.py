"""Best sellers: in total, of the last days, and of the categories of a customer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import IntDistribution

from benchmarks.datasets import BEAUTY, FASHION, JOURNEY
from benchmarks.peers.base import DEFAULT_HALF_LIFE, HALF_LIFE, Floats, ScoringPeer, Space


@dataclass
class Popularity(ScoringPeer):
    """Products by number of lines."""

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        self._sold = np.bincount(self.line_column, minlength=len(self.product_ids)).astype(np.float32)

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        return np.broadcast_to(self._sold, (len(rows), len(self._sold)))


@dataclass
class RecentPopularity(Popularity):
    """Products by number of lines of the last days before the as-of day."""

    days: int = 14

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {"days": IntDistribution(1, {JOURNEY: 120, BEAUTY: 1000, FASHION: 120}[dataset], log=True)}

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        recent = lines["age_days"].to_numpy() < self.days
        self._sold = np.bincount(self.line_column[recent], minlength=len(self.product_ids)).astype(np.float32)


@dataclass
class CategoryPopularity(ScoringPeer):
    """Number of lines of a product times the share of its category in the customer's history.

    Attributes:
        half_life: Of the weights of the history.
        impute: A product without lines counts as the mean of the others of its category, instead of as 0.
    """

    half_life: float = 120.0
    impute: bool = False

    defaults = DEFAULT_HALF_LIFE

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {"half_life": HALF_LIFE[dataset]}

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        names = products.set_index("product_id")["category"].reindex(self.product_ids)
        self._category, categories = pd.factorize(names, use_na_sentinel=False)
        sold = np.bincount(self.line_column, minlength=len(self.product_ids)).astype(np.float32)
        if self.impute:
            seen = np.bincount(self._category[sold > 0], minlength=len(categories))
            total = np.bincount(self._category, weights=sold, minlength=len(categories))
            sold = np.where(sold > 0, sold, (total / np.maximum(seen, 1))[self._category]).astype(np.float32)
        self._sold = sold
        history = self.matrix(self.half_life)
        one_hot = np.zeros((len(self.product_ids), len(categories)), dtype=np.float32)
        one_hot[np.arange(len(one_hot)), self._category] = 1
        self._taste = history @ one_hot

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        return (self._taste[rows][:, self._category] * self._sold).astype(np.float32)


class ImputedCategoryPopularity(CategoryPopularity):
    """`CategoryPopularity` in which a product without buyers has the mean popularity of its category."""

    def __init__(self, half_life: float = 120.0) -> None:
        super().__init__(half_life=half_life, impute=True)
