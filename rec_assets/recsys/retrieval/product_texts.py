"""Product texts: joining columns into one, and encoding the distinct ones into unit vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rec_assets.recsys.arrays import Floats
from rec_assets.recsys.data.distinct import strip_text

Encode = Callable[[list[str]], Floats]


def join_columns(frame: pd.DataFrame, columns: Sequence[str], separator: str) -> pd.Series:
    """Non-empty values of the columns, stripped and joined row by row; null if all are empty."""
    joined = pd.Series("", frame.index)
    for column in columns:
        value = strip_text(frame[column])
        both = (joined != "") & (value != "")
        joined = joined + both.map({True: separator, False: ""}) + value
    null: Any = None  # the stubs of pandas don't allow None here
    return joined.where(joined != "", null)


def content_hash(text: str | None) -> str | None:
    """SHA-256 of a text, so that equal texts are embedded once; None without a text."""
    return hashlib.sha256(text.encode()).hexdigest() if isinstance(text, str) and text else None


def embed_new(products: pd.DataFrame, known: pd.DataFrame, encode: Encode) -> pd.DataFrame:
    """Embeddings of all distinct texts. Only new texts are encoded.

    Args:
        products: content_hash, text. Rows without text are ignored.
        known: content_hash, vector from an earlier run. Vectors of texts that no product has any more are kept, in
            case the product returns.
        encode: Function from texts to (texts, d) unit vectors.

    Returns:
        content_hash, vector (list of float32), sorted by hash.
    """
    texts = products.dropna(subset=["content_hash"]).drop_duplicates("content_hash")
    new = texts[~texts["content_hash"].isin(known["content_hash"])].sort_values("content_hash")
    if len(new):
        vectors = list(np.asarray(encode(new["text"].to_list()), dtype=np.float32))
        fresh = pd.DataFrame({"content_hash": new["content_hash"].to_numpy(), "vector": vectors})
        known = pd.concat([known, fresh], ignore_index=True) if len(known) else fresh
    return known.sort_values("content_hash", ignore_index=True)
