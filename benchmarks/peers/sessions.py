"""Session-based nearest neighbors: STAN, which extends V-SKNN. A customer's known purchases are a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from scipy import sparse

from benchmarks.datasets import BEAUTY
from benchmarks.peers.base import Floats, ScoringPeer, Space


@dataclass
class Stan(ScoringPeer):
    """STAN (Garg et al., SIGIR 2019, doi:10.1145/3331184.3331322).

    V-SKNN (Ludewig & Jannach 2018) with three decays: of items by their place in the current session, of past sessions
    by their age, and of a past session's items by their distance from the newest item that both sessions have. Without
    the second and the third it is V-SKNN.

    Attributes:
        place_decay: Places after which an item of the current session weighs 1 / e.
        age_decay: Days after which a past session weighs 1 / e.
        distance_decay: Places after which an item of a past session weighs 1 / e.
        neighbors: Most similar sessions whose items are scored.
    """

    place_decay: float = 3.54
    age_decay: float = 80.0
    distance_decay: float = 3.54
    neighbors: int = 500

    defaults: ClassVar = {BEAUTY: {"age_decay": 1000.0}}

    @classmethod
    def space(cls, dataset: str) -> Space:
        return {
            "place_decay": FloatDistribution(0.5, 20, log=True),
            "age_decay": FloatDistribution(50, 5000, log=True),
            "distance_decay": FloatDistribution(0.5, 50, log=True),
            "neighbors": IntDistribution(50, 2000, log=True),
        }

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        newest = pd.DataFrame({"row": self.line_row, "column": self.line_column, "order": lines["order_id"].to_numpy()})
        newest = newest.sort_values(["row", "order"]).drop_duplicates(["row", "column"], keep="last")
        place = newest.groupby("row").cumcount(ascending=False).to_numpy() + 1
        shape = (len(self.customer_ids), len(self.product_ids))
        self._places = sparse.csr_array((place.astype(np.float32), (newest["row"], newest["column"])), shape=shape)
        """Place of each item from the end of its session, from 1."""
        self._length = np.diff(self._places.indptr)
        last_day = lines["age_days"].groupby(self.line_row).min().to_numpy()
        self._recency = np.exp(-last_day / self.age_decay)

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        current = self._places[rows]
        weights = current.copy()
        weights.data = np.exp(-(weights.data - 1) / np.float32(self.place_decay))
        items = self._places.sign()
        similarity = (weights @ items.T).toarray() * (self._recency / np.sqrt(self._length))
        similarity[np.arange(len(rows)), rows] = 0
        k = min(self.neighbors, similarity.shape[1])
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        out = np.zeros((len(rows), len(self.product_ids)), np.float32)
        for row, sessions in enumerate(nearest):
            sessions = sessions[similarity[row, sessions] > 0]
            of_sessions = self._places[sessions].tocoo()
            session, column = of_sessions.coords
            place_here = np.zeros(out.shape[1], np.float32)
            begin, end = current.indptr[row : row + 2]
            place_here[current.indices[begin:end]] = current.data[begin:end]
            # The newest item of this session that the other has, and its place there.
            matched = np.where(place_here[column] > 0, place_here[column], np.inf)
            order = np.lexsort((matched, session))
            first = order[np.unique(session[order], return_index=True)[1]]
            place_there = np.zeros(len(sessions), np.float32)
            place_there[session[first]] = of_sessions.data[first]
            near = np.exp(-np.abs(of_sessions.data - place_there[session]) / self.distance_decay)
            np.add.at(out[row], column, near * similarity[row, sessions[session]])
        return out
