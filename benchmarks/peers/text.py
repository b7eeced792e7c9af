"""Likeness of texts: all-MiniLM-L6-v2 (Wang et al. 2020), the encoder that the project packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from benchmarks.datasets import BEAUTY, JOURNEY
from benchmarks.peers.base import DEFAULT_HALF_LIFE, HALF_LIFE, Floats, ScoringPeer, Space
from rec_assets.recsys.text import content_hash, embed_new

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "embeddings.parquet"


def embeddings(products: pd.DataFrame, column: str) -> tuple[Floats, NDArray[np.int64]]:
    """Unit vectors of the distinct texts and, by product, the row of its own (-1: no text). Kept in `CACHE`.

    Returns:
        Vectors of shape (texts, dimensions), rows of shape (products,).
    """
    from rec_assets.resources.encoder import PACKAGED, EncoderResource

    texts = pd.DataFrame({"text": products[column], "content_hash": products[column].map(content_hash)})
    known = pd.read_parquet(CACHE) if CACHE.is_file() else pd.DataFrame({"content_hash": [], "vector": []})
    table = embed_new(texts, known, EncoderResource(model=PACKAGED).encode)
    if len(table) > len(known):
        CACHE.parent.mkdir(exist_ok=True)
        table.to_parquet(CACHE)
    table = table[table["content_hash"].isin(texts["content_hash"])]
    rows = pd.Index(table["content_hash"]).get_indexer(texts["content_hash"])
    return np.stack(table["vector"].to_list()).astype(np.float32), rows


@dataclass
class TextSimilarity(ScoringPeer):
    """Cosine of a product's text with the decayed sum of the texts of the customer's products.

    Attributes:
        half_life: Of the history.
        text: The column that is read: the project's joint text, or the title alone.
    """

    half_life: float = 120.0
    text: str = "text"

    defaults = DEFAULT_HALF_LIFE

    @classmethod
    def space(cls, dataset: str) -> Space:
        """See `ScoringPeer`."""
        columns = {JOURNEY: ["text"], BEAUTY: ["text", "title"]}[dataset]  # titles of the Journey tell sizes apart
        return {"half_life": HALF_LIFE[dataset], "text": CategoricalDistribution(columns)}

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        """See `ScoringPeer`."""
        vectors, row = embeddings(products, self.text)
        by_product = pd.Series(row, index=products["product_id"]).reindex(self.product_ids).to_numpy()
        self._vectors = np.where(by_product[:, None] >= 0, vectors[by_product], 0)
        self._profiles = self.matrix(self.half_life) @ self._vectors

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        """See `ScoringPeer`."""
        return (self._profiles[rows] @ self._vectors.T).astype(np.float32)
