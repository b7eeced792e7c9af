"""Text similarity: all-MiniLM-L6-v2 (Wang et al. 2020), the encoder that the project packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from scipy import sparse

from benchmarks.datasets import BEAUTY, FASHION, JOURNEY
from benchmarks.peers.base import DEFAULT_HALF_LIFE, HALF_LIFE, Floats, ScoringPeer, Space
from rec_assets.recsys.data.similar_texts import similar_texts
from rec_assets.recsys.retrieval.product_texts import content_hash, embed_new

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "embeddings.parquet"


def embeddings(products: pd.DataFrame, column: str) -> tuple[Floats, NDArray[np.int64]]:
    """Unit vectors of the distinct texts and, by product, the row of its text (-1: no text). Stored in `CACHE`.

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
    """Similarity of a product's text to those of the customer's products; recent ones have more weight.

    Attributes:
        half_life: Half-life of the history.
        text: The column with the text: the project's combined text, or the title alone.
        compared: "mean": cosine with the mean of the customer's texts. "single": squared, centered cosines with each
            text among the nearest neighbors, as in the hybrid (`similar_texts`).
    """

    half_life: float = 120.0
    text: str = "text"
    compared: str = "mean"

    defaults = DEFAULT_HALF_LIFE

    @classmethod
    def space(cls, dataset: str) -> Space:
        columns = {JOURNEY: ["text"], BEAUTY: ["text", "title"], FASHION: ["text", "title"]}[
            dataset
        ]  # titles of the Journey tell sizes apart
        return {
            "half_life": HALF_LIFE[dataset],
            "text": CategoricalDistribution(columns),
            "compared": CategoricalDistribution(["mean", "single"]),
        }

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        vectors, row = embeddings(products, self.text)
        by_product = pd.Series(row, index=products["product_id"]).reindex(self.product_ids).to_numpy()
        has_text = np.flatnonzero(by_product >= 0)
        ones, shape = np.ones(len(has_text), np.float32), (len(self.product_ids), len(vectors))
        self._text_of = sparse.csr_array((ones, (has_text, by_product[has_text])), shape=shape)
        texts = self.matrix(self.half_life) @ self._text_of
        if self.compared == "single":
            self._likeness = texts @ sparse.csr_array(similar_texts(vectors))
        else:
            self._likeness = texts @ vectors
        self._vectors = vectors

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        likeness = self._likeness[rows]
        if self.compared == "mean":
            likeness = likeness @ self._vectors.T
        scores = likeness @ self._text_of.T
        return np.asarray(scores.toarray() if sparse.issparse(scores) else scores, np.float32)


class UnseenFirstTextSimilarity(TextSimilarity):
    """`TextSimilarity` that ranks all products without buyers first."""

    def learn(self, lines: pd.DataFrame, products: pd.DataFrame) -> None:
        super().learn(lines, products)
        self._is_unseen = np.bincount(self.line_column, minlength=len(self.product_ids)) == 0

    def scores(self, rows: NDArray[np.int64]) -> Floats:
        scores = super().scores(rows)
        beyond = 1 + (scores.max() - scores.min())
        return scores + beyond * self._is_unseen.astype(np.float32)
