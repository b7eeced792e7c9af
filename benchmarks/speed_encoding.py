"""Encoding of the demo's product texts for `speed`: row by row as in a notebook, and as the asset does it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.datasets import complete_journey
from rec_assets.recsys.retrieval.product_texts import content_hash, embed_new
from rec_assets.resources.encoder import EncoderResource
from rec_assets.settings import Settings

_NOTHING = pd.DataFrame({"content_hash": pd.Series(dtype=str), "vector": pd.Series(dtype=object)})


def products() -> pd.DataFrame:
    """content_hash, text of every product."""
    _, catalog = complete_journey()
    return pd.DataFrame({"content_hash": catalog["text"].map(content_hash), "text": catalog["text"]})


def encode_every_row(rows: pd.DataFrame) -> pd.DataFrame:
    """content_hash, vector of each row, as in the documentation of the library."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(EncoderResource(model=Settings().encoder).location, device="cpu")
    vectors = encoder.encode(rows["text"].to_list(), normalize_embeddings=True, show_progress_bar=False)
    return pd.DataFrame({"content_hash": rows["content_hash"].to_numpy(), "vector": list(vectors)})


def encode_new(rows: pd.DataFrame, known: pd.DataFrame = _NOTHING) -> pd.DataFrame:
    """As in the asset `product_embeddings`."""
    return embed_new(rows, known, EncoderResource(model=Settings().encoder).encode)


def min_cosine(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """The lowest cosine between the vectors of both frames, over the texts of the first one."""
    both = one.drop_duplicates("content_hash").merge(other, on="content_hash", suffixes=("", "_other"))
    left, right = (np.stack(both[name].to_list()) for name in ("vector", "vector_other"))
    return float((left * right).sum(axis=1).min())
