"""What is known of the products on one day, as plain arrays: ids, prices, popularity, factors, graph, text.

Candidates and features are computed from a `ProductSnapshot` and customers' histories, by the same code in Spark
tasks, in the released model and in a notebook. It is made from the tables of one as-of day and can be saved as
a folder of arrays. Learning the factors, the graph or the embeddings belongs elsewhere.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

UNKNOWN = ""
"""The category or brand of a product that has none."""

SAME_BASKET, NEXT_BASKET, SAME_CUSTOMER = KINDS = ("same_basket", "next_basket", "same_customer")
"""The kinds of edges of the co-purchase graph, which are also the names of their matrices here."""

ALIKE = 200
"""Texts kept as most alike to each one."""


@dataclass(frozen=True, eq=False)
class ScoredProducts:
    """The products that a source can speak of: U of P. Scores are worked out for those alone.

    Attributes:
        products: (U,) positions, rising.
        column: (P,) place of each product there; U, a column of zeros, of one that the source can't speak of.
    """

    products: Longs
    column: Ints

    @classmethod
    def where(cls, can: npt.NDArray[np.bool_]) -> ScoredProducts:
        """The products for which (P,) holds."""
        products = np.flatnonzero(can)
        return cls(products, np.where(can, np.cumsum(can) - 1, len(products)).astype(np.int32))

    @property
    def width(self) -> int:
        """U + 1: columns of its scores, the last 0."""
        return len(self.products) + 1


@dataclass(frozen=True)
class ProductSnapshot:
    """Products known on `as_of`. P products, C categories, k factors, T distinct texts of d dimensions.

    Attributes:
        as_of: Last day that anything here knows of.
        product_ids: (P,) ids as the shop writes them, sorted.
        titles: (P,) names shown to people.
        category: (P,) index into `categories`.
        categories: (C,) category names; "" where a product has none.
        brand: (P,) index into `brands`.
        brands: (B,) brand names; "" where a product has none.
        price: (P,) usual unit price: the mean of what was paid in the window, NaN where unknown.
        list_price: (P,) price to show, in cents' steps: the catalog's, else the mean of all that was paid; NaN where
            unknown.
        age_days: (P,) days since the product was first seen.
        orders: (P,) order lines in the lookback window.
        recent_orders: (P,) order lines in the last `recent_days`.
        recent_buyers: (P,) distinct customers with an order line in the last `recent_days`.
        new_buyers: (P,) customers who bought it for the first time in the last `recent_days`.
        buyers: (P,) distinct customers in the window.
        returns: (P,) lines given back in the window.
        repeat_share: (P,) share of buyers who bought on more than one day.
        interval_days: (P,) usual days between two purchases by one customer, NaN where nobody bought twice.
        factors: (P, k) ALS product factors; zero rows where a product has none.
        same_basket: (P, P) row product → column product bought on the same day.
        next_basket: (P, P) row product → column product bought in the customer's next orders.
        same_customer: (P, P) row product → column product that its customers buy too (EASE).
        text: (P,) row of `embeddings`, -1 where a product has no text.
        embeddings: (T, d) unit vectors of the distinct texts.
        alike: (T, T) sparse, how alike two texts are (`similar_texts`).
    """

    as_of: dt.date
    product_ids: npt.NDArray[np.object_]
    titles: npt.NDArray[np.object_]
    category: Ints
    categories: npt.NDArray[np.object_]
    brand: Ints
    brands: npt.NDArray[np.object_]
    price: Floats
    list_price: Floats
    age_days: Floats
    orders: Floats
    recent_orders: Floats
    recent_buyers: Floats
    new_buyers: Floats
    buyers: Floats
    returns: Floats
    repeat_share: Floats
    interval_days: Floats
    factors: Floats
    same_basket: sp.csr_matrix
    next_basket: sp.csr_matrix
    same_customer: sp.csr_matrix
    text: Ints
    embeddings: Floats
    alike: sp.csr_matrix

    def __len__(self) -> int:
        return len(self.product_ids)

    def positions(self, product_ids: pd.Series) -> Longs:
        """Positions of ids in `product_ids`; -1 where the state doesn't know the product."""
        return np.asarray(self._index.get_indexer(pd.Index(product_ids)), dtype=np.int64)

    # What follows is worked out once, at its first use: one customer's answer must not wait for it.

    @cached_property
    def has_factors(self) -> npt.NDArray[np.bool_]:
        """(P,) whether a product has ALS factors."""
        return np.asarray(self.factors.any(axis=1))

    @cached_property
    def with_factors(self) -> ScoredProducts:
        """The products that have ALS factors."""
        return ScoredProducts.where(self.has_factors)

    @cached_property
    def factors_of_known(self) -> Floats:
        """(U + 1, k) factors of the products `with_factors`, and a row of zeros."""
        known = self.factors[self.with_factors.products]
        return np.concatenate([known, np.zeros((1, self.factors.shape[1]), np.float32)])

    @cached_property
    def sold_lately(self) -> tuple[Longs, Ints, Floats]:
        """Positions (rising) of the products with recent orders, their categories and their shares in these."""
        products = np.flatnonzero(self.recent_orders > 0)
        return products, self.category[products], self.share_in_category[products]

    @cached_property
    def in_graph(self) -> ScoredProducts:
        """The products that go with, or follow, any other."""
        return ScoredProducts.where(_is_neighbor(self.same_basket) | _is_neighbor(self.next_basket))

    @cached_property
    def of_customers(self) -> ScoredProducts:
        """The products that customers of any other buy too."""
        return ScoredProducts.where(_is_neighbor(self.same_customer))

    @cached_property
    def neighbors(self) -> sp.csr_matrix:
        """(P, …) same basket and next basket, to the products `in_graph`, and same customer, to those `of_customers`.

        Side by side, so that one product of matrices does for all; each with a last column of zeros.
        """
        parts = ((self.same_basket, self.in_graph), (self.next_basket, self.in_graph),
                 (self.same_customer, self.of_customers))  # fmt: skip
        return sp.csr_matrix(
            sp.hstack([
                sp.csr_matrix((graph.data, scope.column[graph.indices], graph.indptr), (len(self), scope.width))
                for graph, scope in parts
            ])
        )  # fmt: skip

    @cached_property
    def alike_or_none(self) -> sp.csr_matrix:
        """(T, T + 1) `alike` with a last column of zeros."""
        alike, texts = self.alike, self.alike.shape[0]
        return sp.csr_matrix((alike.data, alike.indices, alike.indptr), (texts, texts + 1))

    @cached_property
    def of_text(self) -> tuple[Longs, Longs]:
        """(T + 1,) where each text's products begin in the second array, which has their positions, rising."""
        texts = self.embeddings.shape[0]
        has_text = np.flatnonzero(self.text >= 0)
        order = np.argsort(self.text[has_text], kind="stable")
        starts = np.append(0, np.cumsum(np.bincount(self.text[has_text], minlength=texts)))
        return starts, has_text[order]

    @cached_property
    def gram(self) -> npt.NDArray[np.float64]:
        """(k, k) the product factors' products with one another, summed over products."""
        return (self.factors.T @ self.factors).astype(np.float64)

    @cached_property
    def return_share(self) -> float:
        """Lines given back among all lines, kept or given back."""
        returned, kept = float(self.returns.sum()), float(self.orders.sum())
        return returned / max(returned + kept, 1.0)

    @cached_property
    def return_rate(self) -> Floats:
        """(P,) expected share of a product's lines that are given back; see `shrunk_rate`."""
        return shrunk_rate(self.returns, self.orders, self.return_share)

    @cached_property
    def co_purchase(self) -> sp.csr_matrix:
        """(P, P) same basket and next basket together."""
        return sp.csr_matrix(self.same_basket + self.next_basket)

    @cached_property
    def share_in_category(self) -> Floats:
        """(P,) a product's share of its category's recent orders."""
        sold = np.bincount(self.category, weights=self.recent_orders, minlength=len(self.categories))
        return np.asarray(self.recent_orders / np.maximum(sold[self.category], 1), np.float32)

    @cached_property
    def log_price(self) -> Floats:
        """(P,) NaN where there is no price."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.log(np.where(self.price > 0, self.price, np.nan)), np.float32)

    @cached_property
    def trend(self) -> Floats:
        """(P,) log of a product's share of recent orders over its share of all."""
        recent, total = max(float(self.recent_orders.sum()), 1.0), max(float(self.orders.sum()), 1.0)
        return np.asarray(np.log((self.recent_orders / recent + 1e-6) / (self.orders / total + 1e-6)), np.float32)

    @cached_property
    def best_sellers(self) -> tuple[Longs, Longs]:
        """(P,) and (P,) positions by falling recent orders, and by falling orders; ties go to the lower id."""
        return np.argsort(-self.recent_orders, kind="stable"), np.argsort(-self.orders, kind="stable")

    @cached_property
    def popular(self) -> Longs:
        """(P,) positions by falling recent buyers, then by falling orders; ties go to the lower id."""
        return np.lexsort((-self.orders, -self.recent_buyers))

    @cached_property
    def known_category(self) -> Ints:
        """(P,) as `category`, -1 where a product has none."""
        return np.where(self.categories[self.category] == UNKNOWN, -1, self.category).astype(np.int32)

    @cached_property
    def known_brand(self) -> Ints:
        """(P,) as `brand`, -1 where a product has none."""
        return np.where(self.brands[self.brand] == UNKNOWN, -1, self.brand).astype(np.int32)

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.product_ids)

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder` (made if missing); `load` reads them back."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _DENSE:
            np.save(folder / f"{name}.npy", getattr(self, name))
        for name in _GRAPHS:
            graph = getattr(self, name)
            for part in ("data", "indices", "indptr"):
                np.save(folder / f"{name}.{part}.npy", getattr(graph, part))
        texts = {name: [str(value) for value in getattr(self, name)] for name in _TEXTS}
        about = {"as_of": self.as_of.isoformat(), "sizes": {name: getattr(self, name).shape[0] for name in _GRAPHS}}
        (folder / "products.json").write_text(json.dumps({**about, **texts}))

    @classmethod
    def load(cls, folder: Path) -> ProductSnapshot:
        """Read what `save` wrote.

        Raises:
            ValueError: a graph's arrays don't fit together.
        """
        texts = json.loads((folder / "products.json").read_text())
        graphs = {
            name: sp.csr_matrix(
                tuple(np.load(folder / f"{name}.{part}.npy") for part in ("data", "indices", "indptr")),
                shape=(texts["sizes"][name],) * 2,
            )
            for name in _GRAPHS
        }
        for graph in graphs.values():
            graph.check_format()  # a column beyond the last would be read from anywhere in memory
        return cls(
            as_of=dt.date.fromisoformat(texts["as_of"]),
            **{name: np.array(texts[name], dtype=object) for name in _TEXTS},
            **{name: _saved(folder, name) for name in _DENSE},
            **graphs,
        )


def _saved(folder: Path, name: str) -> npt.NDArray[Any]:
    path = folder / f"{name}.npy"
    return np.load(path if path.exists() else folder / f"{_BEFORE[name]}.npy")


def shrunk_rate(returns: Floats, kept: Floats, shop: float) -> Floats:
    """(returns + m·shop) / (returns + kept + m), m = 10: the mean of a beta-binomial posterior.

    Args:
        returns, kept: Lines given back, and kept.
        shop: The share of all lines that are given back.
    """
    return np.asarray((returns + _SHOP_LINES * shop) / (returns + kept + _SHOP_LINES), np.float32)


_SHOP_LINES = np.float32(10)
_TEXTS = ("product_ids", "titles", "categories", "brands")
_TEXT_BLOCK = 1024
_GRAPHS = (*KINDS, "alike")
_BEFORE = {"list_price": "price", "recent_buyers": "recent_orders"}
"""What stands in for arrays that the folders of earlier versions lack."""
_DENSE = (
    "category", "brand", "price", "list_price", "age_days", "orders", "recent_orders", "recent_buyers", "new_buyers",
    "buyers", "returns", "repeat_share", "interval_days", "factors", "text", "embeddings",
)  # fmt: skip
SNAPSHOT_LAYOUT = (*_TEXTS, *_GRAPHS, *_DENSE)
"""Names of all that a saved state holds."""


def build_product_snapshot(
    as_of: dt.date,
    *,
    products: pd.DataFrame,
    statistics: pd.DataFrame,
    factors: pd.DataFrame,
    graph: pd.DataFrame,
    embeddings: pd.DataFrame,
) -> ProductSnapshot:
    """Join one day's tables into arrays.

    Args:
        as_of: The day the tables speak of.
        products: product_id, title, category, brand, price, content_hash, first_seen (date), excluded.
        statistics: product_id, orders, recent_orders, recent_buyers, new_buyers, buyers, returns, repeat_share,
            interval_days, price.
        factors: product_id, factors (list of floats), of ALS; may be empty.
        graph: kind (one of KINDS), product_id, neighbor_id, weight.
        embeddings: content_hash, vector (list of floats).

    Products first seen after `as_of`, and excluded ones, are left out: nobody could have been recommended them.
    """
    known = products[~products["excluded"].astype(bool)]
    known = known[pd.to_datetime(known["first_seen"]).dt.date <= as_of]
    known = known.sort_values("product_id", kind="stable").reset_index(drop=True)
    stats = statistics.set_index("product_id").reindex(known["product_id"])
    index = pd.Index(known["product_id"])
    # Not as numpy's text, which is as wide as the longest everywhere.
    category, categories = pd.factorize(known["category"].fillna(UNKNOWN).astype(str).to_numpy(object), sort=True)
    brand, brands = pd.factorize(known["brand"].fillna(UNKNOWN).astype(str).to_numpy(object), sort=True)
    # Texts of products that are gone, or are still to come, would shift what is alike.
    rows = embeddings[embeddings["content_hash"].isin(known["content_hash"])]
    rows = rows.sort_values("content_hash").reset_index(drop=True)
    vectors = _stack(rows["vector"])
    text = pd.Index(rows["content_hash"]).get_indexer(pd.Index(known["content_hash"].fillna("")))
    listed = known.set_index("product_id")["price"]
    price = stats["price"].fillna(listed)
    age = (pd.Timestamp(as_of) - pd.to_datetime(known["first_seen"])).dt.days.astype(np.float32)
    return ProductSnapshot(
        as_of=as_of,
        product_ids=known["product_id"].to_numpy(object),
        titles=known["title"].fillna("").to_numpy(object),
        category=category.astype(np.int32),
        categories=categories.astype(object),
        brand=brand.astype(np.int32),
        brands=brands.astype(object),
        price=price.to_numpy(np.float32),
        list_price=listed.fillna(price).round(2).to_numpy(np.float32),
        age_days=age.to_numpy(),
        orders=stats["orders"].fillna(0).to_numpy(np.float32),
        recent_orders=stats["recent_orders"].fillna(0).to_numpy(np.float32),
        recent_buyers=recent_buyers(stats).fillna(0).to_numpy(np.float32),
        new_buyers=stats["new_buyers"].fillna(0).to_numpy(np.float32),
        buyers=stats["buyers"].fillna(0).to_numpy(np.float32),
        returns=stats["returns"].fillna(0).to_numpy(np.float32),
        repeat_share=stats["repeat_share"].fillna(0).to_numpy(np.float32),
        interval_days=stats["interval_days"].to_numpy(np.float32),
        factors=_rows_of(factors, "product_id", "factors", index),
        **{kind: _matrix(graph[graph["kind"] == kind], index) for kind in KINDS},
        text=text.astype(np.int32),
        embeddings=vectors,
        alike=similar_texts(vectors),
    )


def recent_buyers(statistics: pd.DataFrame) -> pd.Series:
    """Recent buyers of each product; recent lines where an earlier version counted no such buyers."""
    return statistics["recent_buyers" if "recent_buyers" in statistics else "recent_orders"]


def similar_texts(vectors: Floats, keep: int = ALIKE) -> sp.csr_matrix:
    """(T, T) squared cosines of the `keep` most alike texts of each, itself and ties included, from embeddings (T, d).

    The mean of all texts is taken off first: what every text of a shop has in common tells nothing. Squares make a few
    near texts count more than many that are a little alike.
    """
    centered = vectors - vectors.mean(axis=0) if len(vectors) > 1 else vectors
    centered = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    blocks = []
    for first in range(0, len(centered), _TEXT_BLOCK):
        cosine = np.maximum(centered[first : first + _TEXT_BLOCK] @ centered.T, 0)
        if cosine.shape[1] > keep:
            least = np.partition(cosine, -keep, axis=1)[:, [-keep]]
            cosine[cosine < least] = 0
        blocks.append(sp.csr_matrix(np.square(cosine)))
    return sp.csr_matrix(sp.vstack(blocks)) if blocks else sp.csr_matrix((0, 0), dtype=np.float32)


def _is_neighbor(graph: sp.csr_matrix) -> npt.NDArray[np.bool_]:
    """(P,) whether any other product points to it."""
    return np.bincount(graph.indices, minlength=graph.shape[1]) > 0


def _stack(vectors: pd.Series) -> Floats:
    return np.stack(vectors.to_list()).astype(np.float32) if len(vectors) else np.zeros((0, 1), np.float32)


def _rows_of(frame: pd.DataFrame, key: str, vector: str, index: pd.Index) -> Floats:
    where = index.get_indexer(pd.Index(frame[key]))
    vectors = _stack(frame[vector])
    out = np.zeros((len(index), vectors.shape[1]), np.float32)
    out[where[where >= 0]] = vectors[where >= 0]
    return out


def _matrix(edges: pd.DataFrame, index: pd.Index) -> sp.csr_matrix:
    row = index.get_indexer(pd.Index(edges["product_id"]))
    col = index.get_indexer(pd.Index(edges["neighbor_id"]))
    both = (row >= 0) & (col >= 0)
    weights = edges["weight"].to_numpy(np.float32)[both]
    matrix = sp.csr_matrix((weights, (row[both], col[both])), shape=(len(index), len(index)), dtype=np.float32)
    matrix.sort_indices()
    return matrix
