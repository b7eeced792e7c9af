"""A shop with a plain pattern: half of the customers buy tea, the other half cake, with many repeat purchases."""

from __future__ import annotations

import datetime as dt
import hashlib
import random

import numpy as np
import pandas as pd

FIRST = dt.date(2024, 1, 1)
CUSTOMERS = 24
PRODUCTS = 30
"""Products of each taste. The first ones are bought most."""


def cleaned_lines(days: int, seed: int = 1) -> pd.DataFrame:
    """CLEANED_SCHEMA and `date`: every customer buys 3 products of their taste on every other day."""
    rng = random.Random(seed)
    rows = []
    for number in range(days):
        day = FIRST + dt.timedelta(days=number)
        for customer in range(CUSTOMERS):
            if (customer + number) % 2:
                continue
            taste = "tea" if customer < CUSTOMERS // 2 else "cake"
            for line, product in enumerate({int(PRODUCTS * rng.random() ** 2) for _ in range(3)}):
                rows.append((day, f"c{customer:02}", f"{taste}{product:02}", f"{number}-{customer}", line))
    lines = pd.DataFrame(rows, columns=["date", "customer_id", "product_id", "order_id", "line_id"])
    return lines.assign(
        line_id=lines["order_id"] + "-" + lines["line_id"].astype(str),
        variant_id=None,
        event="purchase",
        event_time=pd.to_datetime(lines["date"], utc=True),
        weight=1.0,
        quantity=1.0,
        net_quantity=1.0,
        unit_price=2.0,
        rating=np.nan,
        wrong_size=False,
        title=lines["product_id"],
        category=lines["product_id"].str[:-2],
        brand=None,
        text=lines["product_id"].str[:-2],
    )


def products() -> pd.DataFrame:
    """One row per product, all known since the first day."""
    ids = [f"{taste}{number:02}" for taste in ("cake", "tea") for number in range(PRODUCTS)]
    texts = [name[:-2] for name in ids]
    return pd.DataFrame(
        {
            "product_id": ids, "title": ids, "category": texts, "brand": None, "text": texts,
            "content_hash": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
            "price": 2.0, "first_seen": FIRST, "in_catalog": False, "excluded": False,
        }
    )  # fmt: skip


def embeddings() -> pd.DataFrame:
    """Two orthogonal vectors."""
    hashes = sorted(products()["content_hash"].unique())
    return pd.DataFrame({"content_hash": hashes, "vector": list(np.eye(2, dtype=np.float32))})
