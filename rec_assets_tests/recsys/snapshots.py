"""A product snapshot of a few columns, for tests in which the others make no difference."""

import datetime as dt
from collections.abc import Sequence

import pandas as pd

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot

_COUNTS = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers")
NOTHING = pd.DataFrame(
    columns=["product_id", "factors", "kind", "neighbor_id", "weight", "content_hash", "vector"], dtype=object
)


def small_snapshot(
    ids: Sequence[str], listed: object = 1.0, paid: object = 1.0, factors: pd.DataFrame = NOTHING
) -> ProductSnapshot:
    """Products without texts and neighbors, with their prices in the table of products and the mean prices paid."""
    plain = {"title": "Product", "category": None, "brand": None, "content_hash": None, "excluded": False}
    products = pd.DataFrame({"product_id": ids, "price": listed, "first_seen": dt.date(2024, 1, 1), **plain})
    counts = {**dict.fromkeys(_COUNTS, 1), "returns": 0, "repeat_share": 0.0, "interval_days": 1.0}
    statistics = pd.DataFrame({"product_id": ids, "price": paid, **counts})
    tables = {"products": products, "statistics": statistics, "graph": NOTHING, "embeddings": NOTHING}
    return build_product_snapshot(dt.date(2024, 6, 30), factors=factors, **tables)
