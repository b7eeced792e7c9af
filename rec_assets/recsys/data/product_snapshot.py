"""The product snapshot: all that is known of the products on one day, as arrays and lookups.

Candidates and features are computed from a `ProductSnapshot` and customer histories. The same code runs in Spark tasks,
in the API and in a notebook. Training the factors, the graph or the embeddings belongs elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Ints, Longs, Mask
from rec_assets.recsys.data.attributes import Attributes
from rec_assets.recsys.data.snapshot_arrays import EASE, NEXT_BASKET, SAME_BASKET, SnapshotArrays
from rec_assets.recsys.data.tastes import Tastes
from rec_assets.recsys.data.variants import Variants

UNKNOWN = ""
"""The category or brand of a product that has none."""

_PRIOR_LINES = np.float32(10)


@dataclass(frozen=True, eq=False)
class Coverage:
    """The products that a candidate source can score: U of P. Scores are computed for those alone.

    Attributes:
        products: (U,) positions, ascending.
        column: (P,) column of each product among the scores; U, a column of zeros, for a product not covered.
    """

    products: Longs
    column: Ints

    @classmethod
    def from_mask(cls, covered: Mask) -> Coverage:
        """The products for which `covered` (P,) is true."""
        products = np.flatnonzero(covered)
        return cls(products, np.where(covered, np.cumsum(covered) - 1, len(products)).astype(np.int32))


@dataclass(frozen=True, eq=False)
class Edges:
    """E weighted edges from products to the columns of scores.

    Attributes:
        starts, ends: (P,) range of each product's edges.
        column, weight: (E,)
        columns: Number of columns. The last one has no edges.
    """

    starts: Longs
    ends: Longs
    column: Ints
    weight: Floats
    columns: int


@dataclass(frozen=True)
class ProductSnapshot(SnapshotArrays):
    """The stored arrays, with lookups and derived arrays. Each property is computed once, at its first use.

    Attributes:
        folder: Where `map_snapshot` has read it from, else None. Pickling a mapped snapshot pickles only its folder, so
            Spark's tasks map the same files, which they must see.
    """

    folder: Path | None = field(init=False, default=None, compare=False, repr=False)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return (map_snapshot, (self.folder,)) if self.folder else super().__reduce_ex__(protocol)

    def __len__(self) -> int:
        return len(self.product_ids)

    def positions(self, product_ids: pd.Series) -> Longs:
        """Positions of ids in `product_ids`; -1 for unknown products."""
        return np.asarray(self._index.get_indexer(pd.Index(product_ids)), dtype=np.int64)

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.product_ids)

    @cached_property
    def catalog(self) -> pd.DataFrame:
        """product_id, title, category, link ("" if unknown), and counts of order lines and buyers by product."""
        counts = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers")
        names = {"product_id": self.product_ids, "title": self.titles, "category": self.categories[self.category]}
        names["link"] = self.links
        return pd.DataFrame(names | {name: getattr(self, name) for name in counts})

    @cached_property
    def attributes(self) -> Attributes:
        """Attributes of the products; of a product with variants, those of all variants."""
        return Attributes.from_json(self.attributes_json)

    @cached_property
    def variants(self) -> Variants:
        """Variants of the products."""
        return Variants.from_json(self.variants_json)

    @cached_property
    def tastes(self) -> Tastes:
        """Attribute values by which category taste compares products."""
        return Tastes.from_json(self.tastes_json)

    @cached_property
    def padded_ids(self) -> npt.NDArray[np.object_]:
        """(P + 1,) `product_ids`, with "" at the end, for position -1."""
        return np.append(self.product_ids, "")

    @cached_property
    def has_factors(self) -> Mask:
        """(P,) whether a product has ALS factors."""
        return np.asarray(self.factors.any(axis=1))

    @cached_property
    def als_coverage(self) -> Coverage:
        """The products with ALS factors."""
        return Coverage.from_mask(self.has_factors)

    @cached_property
    def covered_factors(self) -> Floats:
        """(k, U + 1) factors of the products in `als_coverage`, and a column of zeros.

        In this layout, the scores of one customer are fast, and equal those of a block to the last bit.
        """
        covered = np.zeros((self.factors.shape[1], len(self.als_coverage.products) + 1), np.float32)
        covered[:, :-1] = self.factors[self.als_coverage.products].T
        return covered

    @cached_property
    def factors_by_norm(self) -> tuple[Longs, Floats, Floats]:
        """(U,) products with factors by falling length of these, (U,) the lengths, and (U, k) the factors."""
        products = self.als_coverage.products
        norms = np.linalg.norm(self.factors[products], axis=1)
        order = np.argsort(-norms, kind="stable")
        return products[order], norms[order], self.factors[products[order]]

    @cached_property
    def gram(self) -> npt.NDArray[np.float64]:
        """(k, k) Gram matrix of the product factors."""
        return (self.factors.T @ self.factors).astype(np.float64)

    @cached_property
    def co_purchase(self) -> sp.csr_matrix:
        """(P, P) sum of `same_basket` and `next_basket`."""
        return sp.csr_matrix(self.same_basket + self.next_basket)

    @cached_property
    def co_purchase_coverage(self) -> Coverage:
        """The products that are a same-basket or next-basket neighbor of another product."""
        return Coverage.from_mask(_is_neighbor(self.same_basket) | _is_neighbor(self.next_basket))

    @cached_property
    def ease_coverage(self) -> Coverage:
        """The products that are an EASE neighbor of another product."""
        return Coverage.from_mask(_is_neighbor(self.ease))

    @cached_property
    def edges(self) -> dict[str, Edges]:
        """Kind → edges to the products that are a neighbor of another product."""
        both, edges = self.co_purchase_coverage, {}
        for kind, covered in ((SAME_BASKET, both), (NEXT_BASKET, both), (EASE, self.ease_coverage)):
            graph = getattr(self, kind)
            starts, column = graph.indptr.astype(np.int64), covered.column[graph.indices]
            edges[kind] = Edges(starts[:-1], starts[1:], column, graph.data, len(covered.products) + 1)
        return edges

    @cached_property
    def text_edges(self) -> Edges:
        """Edges of `text_neighbors`, from products to texts."""
        graph = self.text_neighbors
        starts = np.append(graph.indptr, 0).astype(np.int64)  # products without a text, -1, get an empty range
        ends = np.append(graph.indptr[1:], 0).astype(np.int64)
        return Edges(starts[self.text], ends[self.text], graph.indices, graph.data, graph.shape[0] + 1)

    @cached_property
    def products_of_text(self) -> tuple[Longs, Longs]:
        """(T + 1,) start of each text's products in the second array, which holds their positions, ascending."""
        texts = self.embeddings.shape[0]
        has_text = np.flatnonzero(self.text >= 0)
        order = np.argsort(self.text[has_text], kind="stable")
        starts = np.append(0, np.cumsum(np.bincount(self.text[has_text], minlength=texts)))
        return starts, has_text[order]

    @cached_property
    def shop_return_rate(self) -> float:
        """Share of all lines in the lookback window that were returned."""
        returned, kept = float(self.returns.sum()), float(self.order_lines.sum())
        return returned / max(returned + kept, 1.0)

    @cached_property
    def return_rate(self) -> Floats:
        """(P,) expected share of a product's lines that are returned; see `shrunk_rate`."""
        return shrunk_rate(self.returns, self.order_lines, self.shop_return_rate)

    @cached_property
    def share_in_category(self) -> Floats:
        """(P,) share of the product in the recent order lines of its category."""
        return _share_in_group(self.recent_order_lines, self.category)

    @cached_property
    def shares_in_text(self) -> tuple[Floats, Floats]:
        """(P,) and (P,) share of the product in all, and in the recent, order lines of the products of its text.

        0 without a text.
        """
        has_text = self.text >= 0
        group = np.where(has_text, self.text, 0)
        both = (np.where(has_text, lines, 0) for lines in (self.order_lines, self.recent_order_lines))
        share, recent_share = (_share_in_group(lines, group) for lines in both)
        return share, recent_share

    @cached_property
    def recently_sold(self) -> tuple[Longs, Ints, Floats]:
        """Positions (ascending) of products with recent order lines, their categories, and their shares in these."""
        products = np.flatnonzero(self.recent_order_lines > 0)
        return products, self.category[products], self.share_in_category[products]

    @cached_property
    def log_price(self) -> Floats:
        """(P,) NaN if there is no price."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(np.where(self.price > 0, self.price, np.nan)), np.float32)

    @cached_property
    def trend(self) -> Floats:
        """(P,) log ratio of a product's share of the recent order lines to its share of all order lines."""
        recent, total = max(float(self.recent_order_lines.sum()), 1.0), max(float(self.order_lines.sum()), 1.0)
        return np.asarray(
            np.log((self.recent_order_lines / recent + 1e-6) / (self.order_lines / total + 1e-6)), np.float32
        )

    @cached_property
    def by_order_lines(self) -> tuple[Longs, Longs]:
        """(P,) and (P,) positions by recent and by all order lines, descending; ties go to the lower id."""
        return np.argsort(-self.recent_order_lines, kind="stable"), np.argsort(-self.order_lines, kind="stable")

    @cached_property
    def popularity(self) -> Floats:
        """(P, 7) the features of `sources.popular`, in their order. Counts are log(1 + x)."""
        counts = (self.order_lines, self.recent_order_lines, self.buyers, self.new_buyers)
        lines, recent_lines, buyers, new_buyers = map(np.log1p, counts)
        values = (lines, recent_lines, self.trend, buyers, new_buyers, self.repeat_share, self.interval_days)
        return np.stack(values, axis=1).astype(np.float32)

    @cached_property
    def by_recent_buyers(self) -> Longs:
        """(P,) positions by recent buyers, then by order lines, descending; ties go to the lower id."""
        return np.lexsort((-self.order_lines, -self.recent_buyers))

    @cached_property
    def known_category(self) -> Ints:
        """(P,) `category`, with -1 for products without one."""
        return np.where(self.categories[self.category] == UNKNOWN, -1, self.category).astype(np.int32)

    @cached_property
    def known_brand(self) -> Ints:
        """(P,) `brand`, with -1 for products without one."""
        return np.where(self.brands[self.brand] == UNKNOWN, -1, self.brand).astype(np.int32)


@lru_cache(maxsize=2)
def map_snapshot(folder: Path) -> ProductSnapshot:
    """The snapshot that `save` wrote to a folder, mapped into memory, once in each process."""
    snapshot = ProductSnapshot.load(folder, mapped=True)
    object.__setattr__(snapshot, "folder", folder)
    return snapshot


def shrunk_rate(returned: Floats, kept: Floats, shop_rate: float) -> Floats:
    """(returned + m · shop_rate) / (returned + kept + m), m = 10 lines: the mean of a beta-binomial posterior."""
    return np.asarray((returned + _PRIOR_LINES * shop_rate) / (returned + kept + _PRIOR_LINES), np.float32)


def _share_in_group(order_lines: Floats, group: Ints) -> Floats:
    """(P,) share of each product in the order lines of its group; 0 if the group has none."""
    return np.asarray(order_lines / np.maximum(np.bincount(group, weights=order_lines)[group], 1), np.float32)


def _is_neighbor(graph: sp.csr_matrix) -> Mask:
    """(P,) whether an edge of another product leads to it."""
    return np.bincount(graph.indices, minlength=graph.shape[1]) > 0
