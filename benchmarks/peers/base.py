"""The interface of all benchmark models, `Peer`, and the base class of models that score every product, `ScoringPeer`.

Here belong positions, blocks, masks and ties, in which models must not differ. What a score is, the models say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from scipy import sparse
from typing_extensions import Self

from benchmarks.datasets import BEAUTY, FASHION, JOURNEY

Floats = NDArray[np.float32]
Space = Mapping[str, BaseDistribution]
"""Name of a hyper-parameter → its range."""

_BLOCK_CELLS = 20_000_000
"""Scores in memory at once: 80 MB of float32."""


class Peer(Protocol):
    """Trains on lines, then makes lists."""

    def fit(self, lines: pd.DataFrame, products: pd.DataFrame) -> Self:
        """Train; both frames as in `protocols.Split`."""
        ...

    def top(self, customers: NDArray[np.object_], k: int, exclude_bought: bool) -> pd.DataFrame:
        """The best k products of each customer: customer_id, product_id, rank (from 1)."""
        ...


class ScoringPeer(ABC):
    """A model that scores all products; equal scores are sorted by number of sales, then by id.

    So every list is full, and an unknown customer gets the best sellers.

    Attributes:
        customer_ids: (customers,) those with history, sorted; rows of all matrices.
        product_ids: (products,) the catalog by falling number of lines; columns of all matrices.
        line_row, line_column, line_age: (lines,) of each line its row, column and age.
    """

    customer_ids: pd.Index
    product_ids: pd.Index
    line_row: NDArray[np.int64]
    line_column: NDArray[np.int64]
    line_age: Floats

    defaults: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    """Data set → values of the first trial, if they differ from those of the constructor."""

    @classmethod
    def space(cls, dataset: str) -> Space:
        """The ranges of tuned hyper-parameters; none by default."""
        return {}

    def fit(self, lines: pd.DataFrame, products: pd.DataFrame) -> Self:
        lines_of = lines["product_id"].value_counts()
        catalog = products["product_id"].sort_values()
        popular_first = (-catalog.map(lines_of).fillna(0).to_numpy()).argsort(kind="stable")
        self.product_ids = pd.Index(catalog.to_numpy()[popular_first])
        self.customer_ids = pd.Index(np.sort(lines["customer_id"].unique()))
        self.line_row = self.customer_ids.get_indexer(pd.Index(lines["customer_id"]))
        self.line_column = self.product_ids.get_indexer(pd.Index(lines["product_id"]))
        self.line_age = lines["age"].to_numpy(np.float32)
        self._bought = self.matrix().astype(bool)
        self.learn(lines, products)
        return self

    @abstractmethod
    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        """Fit the model; the attributes are set."""

    @abstractmethod
    def scores(self, rows: NDArray[np.int64]) -> Floats:
        """(rows, products) scores of these customers; -inf: never show."""

    def matrix(self, half_life: float = np.inf) -> sparse.csr_array:
        """(customers, products) Σ over the pair's lines of 0.5^(age / half_life); without one, numbers of lines."""
        shape = (len(self.customer_ids), len(self.product_ids))
        weight = np.exp2(-self.line_age / np.float32(half_life))
        return sparse.csr_array(sparse.coo_array((weight, (self.line_row, self.line_column)), shape=shape))

    def top(self, customers: NDArray[np.object_], k: int, exclude_bought: bool) -> pd.DataFrame:
        rows = self.customer_ids.get_indexer(pd.Index(customers))
        size = max(1, _BLOCK_CELLS // len(self.product_ids))
        columns = [
            self._top_columns(rows[start : start + size], k, exclude_bought) for start in range(0, len(rows), size)
        ]
        chosen = np.concatenate(columns)
        depth = chosen.shape[1]
        lists = pd.DataFrame(
            {
                "customer_id": np.repeat(customers, depth),
                "product_id": self.product_ids.to_numpy()[chosen.ravel()],
                "rank": np.tile(np.arange(1, depth + 1), len(customers)),
            }
        )
        return lists[chosen.ravel() >= 0].reset_index(drop=True)

    def _top_columns(self, rows: NDArray[np.int64], k: int, exclude_bought: bool) -> NDArray[np.int64]:
        """(rows, k) columns, best first; -1 without a product."""
        known = rows >= 0
        scores = np.zeros((len(rows), len(self.product_ids)), dtype=np.float32)
        scores[known] = self.scores(rows[known])
        if exclude_bought:
            block = self._bought[rows[known]].tocoo()
            scores[np.flatnonzero(known)[block.coords[0]], block.coords[1]] = -np.inf
        k = min(k, scores.shape[1])
        # Whichever of equal scores torch takes: only the lowest value counts.
        kth = torch.from_numpy(scores).topk(k, dim=1).values[:, -1:].numpy()
        above = scores > kth
        tied = scores == kth
        tied &= tied.cumsum(axis=1, dtype=np.int32) <= k - above.sum(axis=1, keepdims=True)
        columns = np.nonzero(above | tied)[1].reshape(len(rows), k)
        value = np.take_along_axis(scores, columns, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        columns = np.take_along_axis(columns, order, axis=1)
        columns[np.isneginf(np.take_along_axis(value, order, axis=1))] = -1
        return columns


HALF_LIFE: Mapping[str, BaseDistribution] = {
    JOURNEY: FloatDistribution(10, 1000, log=True),
    BEAUTY: FloatDistribution(0.7, 70, log=True),
    FASHION: FloatDistribution(10, 1000, log=True),
}
"""Half-life of a purchase's weight: in days, and in later purchases of the customer."""

DEFAULT_HALF_LIFE: Mapping[str, Mapping[str, float]] = {JOURNEY: {"half_life": 120.0}, BEAUTY: {"half_life": 2.0}}
"""0.5^(age / 2) is about the 0.7^age of published results."""
