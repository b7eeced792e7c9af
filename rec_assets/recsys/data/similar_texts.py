"""Similar texts: the nearest neighbors of each text by its embedding, and how they are kept from day to day.

Up to MAX_EXACT_TEXTS, all pairs are compared. Beyond, faiss finds the neighbors with an inverted file: texts are
divided into cells by k-means, and a text is compared with those of the nearest cells only. See docs/scaling.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Longs
from rec_assets.recsys.data.list_columns import matrix_of_lists, neighbor_lists, rows_of_lists, vector_lists

TEXT_NEIGHBORS = 200
"""Neighbors kept of each text."""

MAX_EXACT_TEXTS = 50_000
"""Texts of which all pairs are compared, in a minute. The time grows with the square: a million would take hours."""

TARGET_RECALL = 0.985
"""Share of the exact neighbors that the index must find for a sample of the texts: more cells are searched until then.
Another sample may be slightly worse."""

REBUILD_SHARE = 0.05
"""If more texts than this share were added or removed since all were looked up, all are looked up again."""

TEXT_COLUMNS = ("content_hash", "similar_texts", "similar_texts_weight", "center", "changed")
"""Columns of the stored neighbors, in order."""

_TEXT_BLOCK = 1024
_CELLS_PER_ROOT, _TRAINED_PER_CELL, _ITERATIONS, _FIRST_CELLS = 4, 40, 8, 8
_SAMPLE, _SEED = 256, 7
_BLOCK_VALUES = 1 << 26
"""Cosines held at once: 256 MB."""


@dataclass(frozen=True, eq=False)
class SimilarTexts:
    """The neighbors of T texts, and what is needed to look up more texts in the same way.

    Attributes:
        content_hashes: (T,) keys of the texts, ascending.
        neighbors: (T, T) as from `similar_texts`.
        center: (d,) vector that was subtracted from all embeddings: their mean when all texts were looked up.
        changed: Texts added and removed since then.
    """

    content_hashes: npt.NDArray[np.object_]
    neighbors: sp.csr_matrix
    center: Floats
    changed: int = 0

    def to_table(self) -> pa.Table:
        """TEXT_COLUMNS. Neighbors are given by their rows in the table, from 0; `center` is in the first row alone."""
        every, first = np.ones(len(self.content_hashes), bool), np.arange(len(self.content_hashes)) == 0
        columns = {
            "content_hash": pa.array(self.content_hashes, pa.string()),
            **neighbor_lists("similar_texts", self.neighbors, every),
            "center": vector_lists(self.center[None][: first.sum()], first),
            "changed": pa.array(np.full(len(every), self.changed, np.int64)),
        }
        return pa.table({name: columns[name] for name in TEXT_COLUMNS})

    @classmethod
    def from_table(cls, table: pa.Table) -> SimilarTexts | None:
        """From what `to_table` has made; None if that has no rows."""
        if not len(table):
            return None
        table = table.sort_by("content_hash").combine_chunks()
        return cls(
            table["content_hash"].to_numpy(),
            matrix_of_lists(table, "similar_texts", len(table)),
            rows_of_lists(table["center"])[0],
            int(table["changed"][0].as_py()),
        )


def needs_index(texts: int) -> bool:
    """Whether there are too many texts to compare all pairs."""
    return texts > MAX_EXACT_TEXTS


def similar_texts(vectors: Floats, keep: int = TEXT_NEIGHBORS) -> sp.csr_matrix:
    """(T, T) squared cosines of embeddings (T, d) to the `keep` nearest neighbors, the text itself included.

    The mean embedding is subtracted first, because what all texts of a shop share does not tell them apart. Squaring
    makes a few close texts count more than many distant ones. Up to MAX_EXACT_TEXTS, ties are included. Beyond, a few
    neighbors are missing (TARGET_RECALL). Seeds are fixed, so the same vectors give the same result.
    """
    if needs_index(len(vectors)):
        return _by_index(vectors, vectors.mean(axis=0), keep)
    centered = _centered(vectors, vectors.mean(axis=0) if len(vectors) > 1 else np.float32(0))
    blocks = []
    for first in range(0, len(centered), _TEXT_BLOCK):
        cosine = np.maximum(centered[first : first + _TEXT_BLOCK] @ centered.T, 0)
        blocks.append(sp.csr_matrix(np.square(_without_distant(cosine, keep))))
    return sp.csr_matrix(sp.vstack(blocks)) if blocks else sp.csr_matrix((0, 0), dtype=np.float32)


def update_similar_texts(
    content_hashes: npt.NDArray[np.object_], vectors: Floats, known: SimilarTexts | None, keep: int = TEXT_NEIGHBORS
) -> SimilarTexts:
    """The neighbors of these texts. Beyond MAX_EXACT_TEXTS, only the texts that `known` lacks are looked up.

    A new text is compared with all texts, so that it also enters the lists of others. Texts that are gone are dropped,
    and the lists that had them stay shorter. If too much has changed (REBUILD_SHARE), all texts are looked up.

    Args:
        content_hashes: (T,) keys, ascending.
        vectors: (T, d) their embeddings.
        known: From an earlier day. Its `center` is used on.
        keep: See `similar_texts`.
    """
    if known is not None and needs_index(len(vectors)):
        place = pd.Index(content_hashes).get_indexer(pd.Index(known.content_hashes))
        is_new = np.ones(len(content_hashes), bool)
        is_new[place[place >= 0]] = False
        changed = known.changed + int(is_new.sum()) + int((place < 0).sum())
        if changed <= REBUILD_SHARE * len(content_hashes):
            kept = _moved(known.neighbors, place, len(content_hashes))
            neighbors = _with_new(kept, vectors, known.center, np.flatnonzero(is_new), keep)
            return SimilarTexts(content_hashes, neighbors, known.center, changed)
    return SimilarTexts(content_hashes, similar_texts(vectors, keep), vectors.sum(axis=0) / max(len(vectors), 1))


def _centered(vectors: Floats, center: Floats | np.float32) -> Floats:
    """Unit vectors of embeddings without the center."""
    centered = vectors - center
    return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12))


def _without_distant(cosine: Floats, keep: int) -> Floats:
    """The cosines (rows, T), in place: 0 where they are below the `keep` highest of the row."""
    if cosine.shape[1] > keep:
        lowest_kept = np.partition(cosine, -keep, axis=1)[:, [-keep]]
        cosine[cosine < lowest_kept] = 0
    return cosine


def _by_index(vectors: Floats, center: Floats, keep: int) -> sp.csr_matrix:
    """`similar_texts` by an inverted file of half-precision vectors: half the memory, and as good to three digits."""
    import faiss  # here, because few shops need it

    texts, random = len(vectors), np.random.default_rng(_SEED)
    cells = int(_CELLS_PER_ROOT * texts**0.5)
    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.seed, index.cp.max_points_per_centroid = _ITERATIONS, _SEED, _TRAINED_PER_CELL
    index.by_residual = False  # otherwise BLAS, and so the number of threads, changes the last bits of cosines
    trained = np.sort(random.choice(texts, min(_TRAINED_PER_CELL * cells, texts), replace=False))
    index.train(_centered(vectors[trained], center))
    for first in range(0, texts, _TEXT_BLOCK):
        index.add(_centered(vectors[first : first + _TEXT_BLOCK], center))
    sample = np.sort(random.choice(texts, min(_SAMPLE, texts), replace=False))
    index.nprobe = _cells_to_search(index, vectors, center, sample, keep)
    # Texts of one cell search the same cells, which are then in the processor's cache.
    lists = index.invlists
    sizes = [lists.list_size(cell) for cell in range(cells)]
    by_cell = np.concatenate([faiss.rev_swig_ptr(lists.get_ids(cell), size) for cell, size in enumerate(sizes) if size])
    squares, columns = np.empty((texts, keep), np.float32), np.empty((texts, keep), np.int32)
    for first in range(0, texts, _TEXT_BLOCK):
        rows = by_cell[first : first + _TEXT_BLOCK]
        cosine, found = index.search(_centered(vectors[rows], center), keep)
        order = np.argsort(found, axis=1)
        columns[rows] = np.take_along_axis(found, order, axis=1)
        squares[rows] = np.square(np.clip(np.take_along_axis(cosine, order, axis=1), 0, 1))
    index.reset()
    is_neighbor = squares > 0
    starts = np.append(0, np.cumsum(is_neighbor.sum(axis=1)))
    return sp.csr_matrix((squares[is_neighbor], columns[is_neighbor], starts), shape=(texts, texts))


def _cells_to_search(index: Any, vectors: Floats, center: Floats, sample: Longs, keep: int) -> int:
    """The number of cells, raised by half until the index finds TARGET_RECALL of the exact neighbors of the sample."""
    wanted, queries = _exact(vectors, center, sample, keep), _centered(vectors[sample], center)
    cells, recall = _FIRST_CELLS, 0.0
    while True:
        index.nprobe = min(cells, index.nlist)
        found = index.search(queries, keep)[1]
        recall = float(np.mean([np.isin(exact, near).mean() for exact, near in zip(wanted, found, strict=True)]))
        if recall >= TARGET_RECALL or index.nprobe == index.nlist:
            return int(index.nprobe)
        cells += cells // 2


def _exact(vectors: Floats, center: Floats, rows: Longs, keep: int) -> list[Longs]:
    """The `keep` nearest texts of each of some texts, compared with all."""
    lengths, nearest = _lengths(vectors, center), list[Longs]()
    for cosine in _cosines(vectors, center, lengths, rows):
        nearest += [np.argpartition(row, -min(keep, len(row)))[-keep:] for row in cosine]
    return nearest


def _lengths(vectors: Floats, center: Floats) -> Floats:
    """(T,) lengths of the embeddings without the center."""
    firsts = range(0, len(vectors), _TEXT_BLOCK)
    return np.concatenate([np.linalg.norm(vectors[one : one + _TEXT_BLOCK] - center, axis=1) for one in firsts])


def _cosines(vectors: Floats, center: Floats, lengths: Floats, rows: Longs) -> Iterator[Floats]:
    """Blocks (some, T) of the cosines of some texts with all, at most _BLOCK_VALUES at once."""
    step = max(_BLOCK_VALUES // len(vectors), 1)
    for first in range(0, len(rows), step):
        queries = _centered(vectors[rows[first : first + step]], center)
        cosine = queries @ vectors.T  # the center is subtracted afterward, which saves a copy of all vectors
        cosine -= (queries @ center)[:, None]
        cosine /= np.maximum(lengths, 1e-12)
        yield cosine


def _moved(neighbors: sp.csr_matrix, place: Longs, texts: int) -> sp.csr_matrix:
    """(texts, texts) the neighbors with row and column i at `place`[i], ascending, without those whose place is -1."""
    column, lengths = place.astype(np.int32)[neighbors.indices], np.diff(neighbors.indptr)
    gone = (column < 0) | np.repeat(place < 0, lengths)
    data = np.where(gone, np.float32(0), neighbors.data)
    moved = sp.csr_matrix((data, np.maximum(column, 0), neighbors.indptr.copy()), shape=(len(place), texts))
    moved.eliminate_zeros()
    length = np.zeros(texts, np.int64)
    length[place[place >= 0]] = np.diff(moved.indptr)[place >= 0]
    return sp.csr_matrix((moved.data, moved.indices, np.append(0, np.cumsum(length))), shape=(texts, texts))


def _with_new(kept: sp.csr_matrix, vectors: Floats, center: Floats, new: Longs, keep: int) -> sp.csr_matrix:
    """The neighbors with those of the new texts, and with the new texts among the neighbors of others.

    A new text enters a list if it is nearer than the last of the list, also if that has become shorter: between the two
    may be texts that the list never had.
    """
    known = np.flatnonzero(np.diff(kept.indptr))
    lowest = np.full(len(vectors), np.inf, np.float32)  # new texts get a list of their own
    lowest[known] = np.minimum.reduceat(kept.data, kept.indptr[known])
    rows, columns, squares, done = [], [], [], 0
    for cosine in _cosines(vectors, center, _lengths(vectors, center), new):
        some, done = new[done : done + len(cosine)], done + len(cosine)
        np.maximum(cosine, 0, out=cosine)
        square = np.square(cosine, out=cosine)
        of_new, entering = np.nonzero(square > lowest)
        rows += [entering]
        columns += [some[of_new]]
        squares += [square[of_new, entering]]
        of_new, near = np.nonzero(_without_distant(square, keep))
        rows += [some[of_new]]
        columns += [near]
        squares += [square[of_new, near]]
    if not rows:
        return kept
    entered = sp.csr_matrix((np.concatenate(squares), (np.concatenate(rows), np.concatenate(columns))), kept.shape)
    return _nearest(sp.csr_matrix(kept + entered), keep)


def _nearest(neighbors: sp.csr_matrix, keep: int) -> sp.csr_matrix:
    """The neighbors, in place, without those below the `keep` nearest of each text."""
    for row in np.flatnonzero(np.diff(neighbors.indptr) > keep):
        squares = neighbors.data[neighbors.indptr[row] : neighbors.indptr[row + 1]]
        squares[squares < np.partition(squares, -keep)[-keep]] = 0
    neighbors.eliminate_zeros()
    neighbors.sort_indices()
    return neighbors
