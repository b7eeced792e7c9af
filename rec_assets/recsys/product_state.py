"""What is known of the products on one day, as plain arrays: ids, prices, popularity, factors, graph, text.

Candidates and features are computed from a `ProductState` and customers' histories, by the same code in Spark
tasks, in the released model and in a notebook. It is made from the tables of one as-of day and can be saved as
a folder of arrays. Learning the factors, the graph or the embeddings belongs elsewhere.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

UNKNOWN_CATEGORY = ""


@dataclass(frozen=True)
class ProductState:
    """Products known on `as_of`. P products, C categories, k factors, T distinct texts of d dimensions.

    Attributes:
        as_of: Last day that anything here knows of.
        product_ids: (P,) ids as the shop writes them, sorted.
        titles: (P,) names shown to people.
        category: (P,) index into `categories`.
        categories: (C,) category names; "" where a product has none.
        price: (P,) usual unit price, NaN where unknown.
        age_days: (P,) days since the product was first seen.
        orders: (P,) order lines in the lookback window.
        recent_orders: (P,) order lines in the last `recent_days`.
        buyers: (P,) distinct customers in the window.
        repeat_share: (P,) share of buyers who bought on more than one day.
        interval_days: (P,) usual days between two purchases by one customer, NaN where nobody bought twice.
        factors: (P, k) ALS product factors; zero rows where a product has none.
        same_basket: (P, P) row product → column product bought in the same basket.
        next_basket: (P, P) row product → column product bought on the customer's next shopping day.
        text: (P,) row of `embeddings`, -1 where a product has no text.
        embeddings: (T, d) unit vectors of the distinct texts.
    """

    as_of: dt.date
    product_ids: npt.NDArray[np.object_]
    titles: npt.NDArray[np.object_]
    category: Ints
    categories: npt.NDArray[np.object_]
    price: Floats
    age_days: Floats
    orders: Floats
    recent_orders: Floats
    buyers: Floats
    repeat_share: Floats
    interval_days: Floats
    factors: Floats
    same_basket: sp.csr_matrix
    next_basket: sp.csr_matrix
    text: Ints
    embeddings: Floats

    def __len__(self) -> int:
        return len(self.product_ids)

    def positions(self, product_ids: pd.Series) -> npt.NDArray[np.int64]:
        """Positions of ids in `product_ids`; -1 where the state doesn't know the product."""
        return np.asarray(pd.Index(self.product_ids).get_indexer(pd.Index(product_ids)), dtype=np.int64)

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder` (made if missing); `load` reads them back, memory-mapped."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _DENSE:
            np.save(folder / f"{name}.npy", getattr(self, name))
        for name in _GRAPHS:
            graph = getattr(self, name)
            for part in ("data", "indices", "indptr"):
                np.save(folder / f"{name}.{part}.npy", getattr(graph, part))
        texts = {name: [str(value) for value in getattr(self, name)] for name in _TEXTS}
        (folder / "products.json").write_text(json.dumps({"as_of": self.as_of.isoformat(), **texts}))

    @classmethod
    def load(cls, folder: Path) -> ProductState:
        """Read what `save` wrote."""
        texts = json.loads((folder / "products.json").read_text())
        count = len(texts["product_ids"])
        graphs = {
            name: sp.csr_matrix(
                tuple(np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("data", "indices", "indptr")),
                shape=(count, count),
            )
            for name in _GRAPHS
        }
        return cls(
            as_of=dt.date.fromisoformat(texts["as_of"]),
            **{name: np.array(texts[name], dtype=object) for name in _TEXTS},
            **{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _DENSE},
            **graphs,
        )


_TEXTS = ("product_ids", "titles", "categories")
_GRAPHS = ("same_basket", "next_basket")
_DENSE = (
    "category", "price", "age_days", "orders", "recent_orders", "buyers", "repeat_share", "interval_days",
    "factors", "text", "embeddings",
)  # fmt: skip


def build_product_state(
    as_of: dt.date,
    *,
    products: pd.DataFrame,
    statistics: pd.DataFrame,
    factors: pd.DataFrame,
    graph: pd.DataFrame,
    embeddings: pd.DataFrame,
) -> ProductState:
    """Join one day's tables into arrays.

    Args:
        as_of: The day the tables speak of.
        products: product_id, title, category, price, content_hash, first_seen (date), excluded.
        statistics: product_id, orders, recent_orders, buyers, repeat_share, interval_days, price.
        factors: product_id, factors (list of floats), of ALS; may be empty.
        graph: kind ("same_basket" or "next_basket"), product_id, neighbour_id, weight.
        embeddings: content_hash, vector (list of floats).

    Products first seen after `as_of`, and excluded ones, are left out: nobody could have been recommended them.
    """
    known = products[~products["excluded"].astype(bool)]
    known = known[pd.to_datetime(known["first_seen"]).dt.date <= as_of]
    known = known.sort_values("product_id", kind="stable").reset_index(drop=True)
    stats = statistics.set_index("product_id").reindex(known["product_id"])
    index = pd.Index(known["product_id"])
    categories, codes = np.unique(known["category"].fillna(UNKNOWN_CATEGORY).to_numpy(str), return_inverse=True)
    rows = embeddings.sort_values("content_hash").reset_index(drop=True)
    text = pd.Index(rows["content_hash"]).get_indexer(pd.Index(known["content_hash"].fillna("")))
    price = stats["price"].fillna(known.set_index("product_id")["price"])
    age = (pd.Timestamp(as_of) - pd.to_datetime(known["first_seen"])).dt.days.astype(np.float32)
    return ProductState(
        as_of=as_of,
        product_ids=known["product_id"].to_numpy(object),
        titles=known["title"].fillna("").to_numpy(object),
        category=codes.astype(np.int32),
        categories=categories.astype(object),
        price=price.to_numpy(np.float32),
        age_days=age.to_numpy(),
        orders=stats["orders"].fillna(0).to_numpy(np.float32),
        recent_orders=stats["recent_orders"].fillna(0).to_numpy(np.float32),
        buyers=stats["buyers"].fillna(0).to_numpy(np.float32),
        repeat_share=stats["repeat_share"].fillna(0).to_numpy(np.float32),
        interval_days=stats["interval_days"].to_numpy(np.float32),
        factors=_rows_of(factors, "product_id", "factors", index),
        same_basket=_matrix(graph[graph["kind"] == "same_basket"], index),
        next_basket=_matrix(graph[graph["kind"] == "next_basket"], index),
        text=text.astype(np.int32),
        embeddings=_stack(rows["vector"]),
    )


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
    col = index.get_indexer(pd.Index(edges["neighbour_id"]))
    both = (row >= 0) & (col >= 0)
    weights = edges["weight"].to_numpy(np.float32)[both]
    matrix = sp.csr_matrix((weights, (row[both], col[both])), shape=(len(index), len(index)), dtype=np.float32)
    matrix.sort_indices()
    return matrix
