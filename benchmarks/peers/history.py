"""Models of the customer's own history: decayed counts, and TIFU-KNN, which also uses nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from scipy import sparse

from benchmarks.peers.base import DEFAULT_HALF_LIFE, HALF_LIFE, Floats, ScoringPeer, Space


@dataclass
class OwnPurchases(ScoringPeer):
    """Decayed counts of the customer's purchases: each line counts 0.5^(age / half_life)."""

    half_life: float = 120.0

    defaults = DEFAULT_HALF_LIFE

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {"half_life": HALF_LIFE[dataset]}

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        self._history = self.matrix(self.half_life)

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        return self._history[rows].toarray()


@dataclass
class TifuKnn(ScoringPeer):
    """TIFU-KNN (Hu et al., SIGIR 2020, doi:10.1145/3397271.3401066), for the next baskets.

    A customer's baskets are cut into groups of `group_size`, counted from the newest. A basket weighs
    `within`^(newer baskets of its group), a group `across`^(newer groups); a customer's vector is the mean over groups
    of the mean over their baskets. The score is `own` · own vector + (1 − own) · mean of the `neighbors` vectors that
    are nearest by Euclidean distance.
    """

    group_size: int = 7
    within: float = 0.9
    across: float = 0.7
    neighbors: int = 300
    own: float = 0.7

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {
            "group_size": IntDistribution(2, 40, log=True),
            "within": FloatDistribution(0.8, 1.0),
            "across": FloatDistribution(0.4, 1.0),
            "neighbors": IntDistribution(20, 1000, log=True),
            "own": FloatDistribution(0.3, 1.0),
        }

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        baskets = pd.DataFrame({"row": self.line_row, "age": self.line_age, "order": lines["order_id"].to_numpy()})
        baskets = baskets.drop_duplicates(["row", "order"]).sort_values(
            ["row", "age", "order"], ascending=[True, True, False], ignore_index=True
        )
        newer = baskets.groupby("row").cumcount()
        group, place = newer // self.group_size, newer % self.group_size
        size = baskets.groupby(["row", group])["order"].transform("size")
        groups = (baskets.groupby("row")["order"].transform("size") + self.group_size - 1) // self.group_size
        baskets["weight"] = self.within**place * self.across**group / (size * groups)
        pairs = pd.DataFrame(
            {"row": self.line_row, "order": lines["order_id"].to_numpy(), "column": self.line_column}
        ).drop_duplicates()
        pairs = pairs.merge(baskets[["row", "order", "weight"]], on=["row", "order"])
        shape = (len(self.customer_ids), len(self.product_ids))
        entries = (pairs["weight"].to_numpy(np.float32), (pairs["row"], pairs["column"]))
        self._vectors = sparse.csr_array(sparse.coo_array(entries, shape=shape))

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        vectors = self._vectors[rows]
        squares = np.asarray(self._vectors.power(2).sum(axis=1)).ravel()
        # Squared distance less the customer's own square, which is the same for all neighbors.
        distance = squares - 2 * (vectors @ self._vectors.T).toarray()
        distance[np.arange(len(rows)), rows] = np.inf
        k = min(self.neighbors, distance.shape[1] - 1)
        nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
        share = np.full(nearest.size, 1 / k, dtype=np.float32)
        entries = (share, (np.repeat(np.arange(len(rows)), k), nearest.ravel()))
        mean = sparse.csr_array(sparse.coo_array(entries, shape=distance.shape)) @ self._vectors
        return (self.own * vectors + (1 - self.own) * mean).toarray().astype(np.float32)
