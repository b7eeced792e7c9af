"""Neighbors of many texts: by an index, and kept from day to day."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rec_assets.recsys.data import similar_texts as module
from rec_assets.recsys.data.similar_texts import TEXT_COLUMNS, SimilarTexts, similar_texts, update_similar_texts

faiss = pytest.importorskip("faiss")

KEEP = 10


def clustered(texts: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around common centers, in random order, with a common part."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(60, 16))
    vectors = centers[rng.integers(60, size=texts)] + 0.5 * rng.normal(size=(texts, 16)) + 2
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def hashes(*numbers: range) -> np.ndarray:
    return np.array([f"{number:05}" for some in numbers for number in some], object)


def recall(found: sp.csr_matrix, exact: sp.csr_matrix) -> float:
    return float(found.astype(bool).multiply(exact.astype(bool)).nnz / exact.nnz)


@pytest.fixture
def few_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EXACT_TEXTS", 1_000)
    monkeypatch.setattr(module, "_CELLS_PER_ROOT", 1)


def exactly(vectors: np.ndarray) -> sp.csr_matrix:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_EXACT_TEXTS", len(vectors))
        return similar_texts(vectors, KEEP)


@pytest.mark.usefixtures("few_are_exact")
def test_the_index_finds_nearly_all_exact_neighbors_with_their_squared_cosines() -> None:
    vectors = clustered(4_000)
    exact, found = exactly(vectors), similar_texts(vectors, KEEP)
    assert recall(found, exact) >= 0.98 and (found != exact).nnz > 0, "the index was used"
    both = found.astype(bool).multiply(exact.astype(bool))
    assert abs((found - exact).multiply(both)).max() < 1e-3
    assert (np.diff(found.indptr) == KEEP).all() and found.has_sorted_indices
    assert found.diagonal() == pytest.approx(np.ones(4_000), abs=1e-3)


@pytest.mark.usefixtures("few_are_exact")
def test_more_cells_are_searched_until_enough_neighbors_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(1).normal(size=(3_000, 24)).astype(np.float32)  # without any clusters
    exact = exactly(vectors)
    assert recall(similar_texts(vectors, KEEP), exact) >= 0.98
    monkeypatch.setattr(module, "TARGET_RECALL", 0.0)
    assert recall(similar_texts(vectors, KEEP), exact) < 0.9


@pytest.mark.usefixtures("few_are_exact")
def test_the_same_texts_have_the_same_neighbors_with_any_number_of_threads() -> None:
    vectors, threads = clustered(3_000), faiss.omp_get_max_threads()
    try:
        results = []
        for number in (1, 2):
            faiss.omp_set_num_threads(number)
            results.append(similar_texts(vectors, KEEP))
    finally:
        faiss.omp_set_num_threads(threads)
    one, two = results
    for part in ("data", "indices", "indptr"):
        assert (getattr(one, part) == getattr(two, part)).all()


@pytest.mark.usefixtures("few_are_exact")
def test_only_new_texts_are_looked_up_and_texts_that_are_gone_leave_all_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, before = clustered(3_060), hashes(range(3_000))
    known = update_similar_texts(before, vectors[:3_000], None, KEEP)
    after = hashes(range(30), range(60, 3_060))  # 30 are gone, 60 are new
    monkeypatch.setattr(module, "_by_index", lambda *_: pytest.fail("all texts are looked up"))
    monkeypatch.setattr(module, "_BLOCK_VALUES", 3_030 * 25)  # three blocks of new texts
    rows = np.r_[:30, 60:3_060]
    updated = update_similar_texts(after, vectors[rows], known, KEEP)
    assert updated.changed == 90 and (updated.center == known.center).all()
    assert (updated.content_hashes == after).all()
    neighbors, exact = updated.neighbors, exactly(vectors[rows])
    assert recall(neighbors, exact) > 0.97
    new = np.arange(2_970, 3_030)
    assert recall(neighbors[new], exact[new]) > 0.97, "a new text is compared with all"
    assert recall(neighbors[:, new], exact[:, new]) > 0.97, "a new text enters the lists of others"
    assert (np.diff(neighbors.indptr) <= KEEP).all() and neighbors.has_sorted_indices
    stayed = known.neighbors[60:, 60:]
    same = neighbors[30:2_970, 30:2_970].multiply(stayed.astype(bool))
    assert abs(same - stayed.multiply(same.astype(bool))).max() == 0, "known similarities are not computed again"


@pytest.mark.usefixtures("few_are_exact")
def test_nothing_new_changes_nothing() -> None:
    vectors, keys = clustered(2_000), hashes(range(2_000))
    known = update_similar_texts(keys, vectors, None, KEEP)
    again = update_similar_texts(keys, vectors, known, KEEP)
    assert (again.neighbors != known.neighbors).nnz == 0 and again.changed == 0


@pytest.mark.usefixtures("few_are_exact")
def test_after_many_changes_in_several_steps_all_texts_are_looked_up_again() -> None:
    vectors, keys = clustered(2_000), hashes(range(2_000))
    known = update_similar_texts(keys[:1_900], vectors[:1_900], None, KEEP)
    some = update_similar_texts(keys[:1_980], vectors[:1_980], known, KEEP)
    assert some.changed == 80
    everything = update_similar_texts(keys, vectors, some, KEEP)
    assert everything.changed == 100, "exactly the share that is allowed"
    fewer = update_similar_texts(keys[:1_999], vectors[:1_999], everything, KEEP)
    assert fewer.changed == 0
    assert fewer.center == pytest.approx(vectors[:1_999].mean(axis=0), abs=1e-5)
    assert (fewer.neighbors != similar_texts(vectors[:1_999], KEEP)).nnz == 0


def test_few_texts_are_compared_exactly_whatever_is_known() -> None:
    vectors, keys = clustered(300), hashes(range(300))
    known = SimilarTexts(keys, sp.csr_matrix((300, 300), dtype=np.float32), np.zeros(16, np.float32))
    assert (update_similar_texts(keys, vectors, known, KEEP).neighbors != similar_texts(vectors, KEEP)).nnz == 0


@pytest.mark.usefixtures("few_are_exact")
def test_what_is_kept_survives_its_table_in_any_order() -> None:
    vectors, keys = clustered(1_500), hashes(range(1_500))
    known = SimilarTexts(keys, similar_texts(vectors, KEEP), vectors.mean(axis=0), 12)
    table = known.to_table()
    assert tuple(table.column_names) == TEXT_COLUMNS
    read = SimilarTexts.from_table(table.take(np.random.default_rng(0).permutation(1_500)))  # Spark may reorder rows
    assert read is not None and (read.neighbors != known.neighbors).nnz == 0 and read.changed == 12
    assert (read.center == known.center).all() and (read.content_hashes == keys).all()
    none = update_similar_texts(np.zeros(0, object), np.zeros((0, 1), np.float32), None).to_table()
    assert none.schema == table.schema and SimilarTexts.from_table(none) is None
    assert pd.isna(none.to_pandas()).empty
