"""The stored part of a product snapshot: its arrays, and how they are saved to a folder and loaded from it.

Values derived from these arrays belong in `product_snapshot.py`. `snapshot_builder.py` makes the arrays from tables.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from rec_assets.recsys.arrays import Floats, Ints, Mask

if TYPE_CHECKING:
    from typing_extensions import Self

SAME_BASKET, NEXT_BASKET, EASE = KINDS = ("same_basket", "next_basket", "ease")
"""The kinds of edges of the co-purchase graph. Each kind is also the name of a matrix of the snapshot."""

SHOWN_TEXTS = {
    "image": "images", "link": "links", "attributes": "attributes_json", "taste": "tastes_json",
    "variants": "variants_json",
}  # fmt: skip
"""Column of `products` → array of its texts."""

_TEXTS = ("product_ids", "titles", "categories", "brands", *SHOWN_TEXTS.values())
_GRAPHS = (*KINDS, "text_neighbors")
_PARTS = ("data", "indices", "indptr")
_DENSE = (
    "category", "brand", "price", "list_price", "age_days", "order_lines", "recent_order_lines", "recent_buyers",
    "new_buyers", "buyers", "returns", "repeat_share", "interval_days", "in_stock", "factors", "text",
    "embeddings",
)  # fmt: skip
SNAPSHOT_LAYOUT = (*_TEXTS, *_GRAPHS, *_DENSE)
"""Names of all arrays that a saved snapshot holds."""


@dataclass(frozen=True)
class SnapshotArrays:
    """The products known on `as_of`. P products, C categories, B brands, k factors, T distinct texts of d dimensions.

    Attributes:
        as_of: Day whose knowledge the snapshot holds.
        product_ids: (P,) ids as the shop writes them, sorted.
        titles: (P,) names shown to people.
        category: (P,) index into `categories`.
        categories: (C,) category names; "" for products without a category.
        brand: (P,) index into `brands`.
        brands: (B,) brand names; "" for products without a brand.
        images, links: (P,) URLs; "" if unknown.
        attributes_json, tastes_json, variants_json: (P,) see `products`; "" if there are none.
        price: (P,) mean unit price paid in the lookback window, else `list_price`; NaN if unknown.
        list_price: (P,) current price to show, rounded to cents: from the catalog, else the mean price of all days; NaN
            if unknown. Features must not use it, because it is not the price on the as-of day.
        age_days: (P,) days since the product was first seen.
        order_lines: (P,) order lines in the lookback window.
        recent_order_lines: (P,) order lines in the last `recent_days`.
        recent_buyers: (P,) distinct customers with an order line in the last `recent_days`.
        new_buyers: (P,) customers whose first purchase of the product is in the last `recent_days`.
        buyers: (P,) distinct customers in the window.
        returns: (P,) returned lines in the window.
        repeat_share: (P,) share of buyers who bought on more than one day.
        interval_days: (P,) mean days between two purchases by one customer; NaN if nobody bought twice.
        in_stock: (P,) whether the catalog has the product, or a variant of it, in stock.
        factors: (P, k) ALS product factors; zero rows for products without factors.
        same_basket: (P, P) weight of row product → column product bought on the same day.
        next_basket: (P, P) weight of row product → column product bought in the customer's next orders.
        ease: (P, P) EASE weight of row product → column product.
        text: (P,) row of `embeddings`; -1 for products without a text.
        embeddings: (T, d) unit vectors of the distinct texts.
        text_neighbors: (T, T) sparse similarity of texts (`similar_texts.similar_texts`).
    """

    as_of: dt.date
    product_ids: npt.NDArray[np.object_]
    titles: npt.NDArray[np.object_]
    category: Ints
    categories: npt.NDArray[np.object_]
    brand: Ints
    brands: npt.NDArray[np.object_]
    images: npt.NDArray[np.object_]
    links: npt.NDArray[np.object_]
    attributes_json: npt.NDArray[np.object_]
    tastes_json: npt.NDArray[np.object_]
    variants_json: npt.NDArray[np.object_]
    price: Floats
    list_price: Floats
    age_days: Floats
    order_lines: Floats
    recent_order_lines: Floats
    recent_buyers: Floats
    new_buyers: Floats
    buyers: Floats
    returns: Floats
    repeat_share: Floats
    interval_days: Floats
    in_stock: Mask
    factors: Floats
    same_basket: sp.csr_matrix
    next_basket: sp.csr_matrix
    ease: sp.csr_matrix
    text: Ints
    embeddings: Floats
    text_neighbors: sp.csr_matrix

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder` and create it if needed. `load` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _DENSE:
            np.save(folder / f"{name}.npy", getattr(self, name))
        for name in _GRAPHS:
            for part in _PARTS:
                np.save(folder / f"{name}.{part}.npy", getattr(getattr(self, name), part))
        texts = {name: [str(value) for value in getattr(self, name)] for name in _TEXTS}
        (folder / "products.json").write_text(json.dumps({"as_of": self.as_of.isoformat(), **texts}))

    @classmethod
    def load(cls, folder: Path, *, mapped: bool = False) -> Self:
        """Read what `save` wrote; or map it into memory, so that processes of one machine share it.

        Raises:
            ValueError: the arrays of a graph don't fit together.
        """

        def read(name: str) -> npt.NDArray[Any]:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r" if mapped else None))

        texts = json.loads((folder / "products.json").read_text())
        return cls(
            as_of=dt.date.fromisoformat(texts["as_of"]),
            **{name: np.array(texts[name], dtype=object) for name in _TEXTS},
            **{name: read(name) for name in _DENSE},
            **{name: _graph(*(read(f"{name}.{part}") for part in _PARTS)) for name in _GRAPHS},
        )


def _graph(data: Floats, indices: Ints, indptr: Ints) -> sp.csr_matrix:
    graph = sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1,) * 2)
    graph.check_format()  # otherwise a column beyond the last is read from anywhere in memory
    return graph
