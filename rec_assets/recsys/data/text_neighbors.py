"""Similarity of product texts: the nearest neighbors of each text by its embedding."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats

TEXT_NEIGHBORS = 200
"""Neighbors kept of each text."""

_BLOCK = 1024


def similar_texts(vectors: Floats, keep: int = TEXT_NEIGHBORS) -> sp.csr_matrix:
    """(T, T) squared cosines of embeddings (T, d) to the `keep` nearest neighbors, the text itself and ties included.

    The mean embedding is subtracted first, because what all texts of a shop share does not tell them apart. Squaring
    makes a few close texts count more than many distant ones.
    """
    centered = vectors - vectors.mean(axis=0) if len(vectors) > 1 else vectors
    centered = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    blocks = []
    for first in range(0, len(centered), _BLOCK):
        cosine = np.maximum(centered[first : first + _BLOCK] @ centered.T, 0)
        if cosine.shape[1] > keep:
            lowest_kept = np.partition(cosine, -keep, axis=1)[:, [-keep]]
            cosine[cosine < lowest_kept] = 0
        blocks.append(sp.csr_matrix(np.square(cosine)))
    return sp.csr_matrix(sp.vstack(blocks)) if blocks else sp.csr_matrix((0, 0), dtype=np.float32)
