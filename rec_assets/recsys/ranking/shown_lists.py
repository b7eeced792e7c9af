"""Lists as a shop shows them: what is in stock, and of each product the variant that fits the customer.

The API does the same for each request. This is for all customers at once, for the export.
"""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
from pyspark.sql import functions as F

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.lists import ALL, DISCOVER
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.spark.customers import map_customers

SHOWN_TYPES = "customer_id string, products string, discover string"
"""Spark types of the shown lists: JSON lists of ids, best first. They are variants, where a product has some."""

_SIGNS = "weight >= 1 or (weight <= -1 and wrong_size)"
"""Lines that tell the size of a customer."""


def shown_lists(scores: LazyArrowRows, histories: LazyArrowRows, snapshot: ProductSnapshot, size: int) -> LazyArrowRows:
    """One row for each customer: SHOWN_TYPES.

    Args:
        scores: `hybrid_scores` of a day.
        histories: `customer_histories` of the day, for the sizes of the customers.
        snapshot: Products of the day.
        size: Length of a list. It is shorter if less of the list is in stock.
    """
    columns = ("customer_id", "product_id", "list", "rank", "variant_id", "weight")
    lists = scores.select("customer_id", "product_id", "list", "rank").to_spark()
    lists = lists.withColumn("variant_id", F.lit(None).cast("string")).withColumn("weight", F.lit(0.0))
    rows = lists.select(*columns)
    if len(snapshot.variants):
        bought = histories.select("customer_id", "product_id", "variant_id", "weight", "wrong_size").to_spark()
        bought = bought.where(f"variant_id is not null and ({_SIGNS})")
        bought = bought.withColumn("list", F.lit(None).cast("string")).withColumn("rank", F.lit(None).cast("int"))
        rows = rows.unionByName(bought.select(*columns))
    return map_customers(rows, partial(_of_customers, snapshot=snapshot, size=size), SHOWN_TYPES)


def _of_customers(rows: pd.DataFrame, snapshot: ProductSnapshot, size: int) -> pd.DataFrame:
    variants, ids = snapshot.variants, snapshot.product_ids
    product = snapshot.positions(rows["product_id"])
    variant = np.array([variants.positions.get(each, -1) for each in rows["variant_id"]])
    found = []
    for customer, of_customer in rows.groupby("customer_id").indices.items():
        lists = rows["list"].to_numpy(object)[of_customer]
        is_bought = pd.isna(lists)
        lines = zip(variant[of_customer[is_bought]], rows["weight"].to_numpy()[of_customer[is_bought]], strict=True)
        sizes = variants.sizes_bought(snapshot.category, lines)
        shown = {}
        for name in (ALL, DISCOVER):
            of_list = of_customer[lists == name]
            of_list = of_list[np.argsort(rows["rank"].to_numpy()[of_list])]
            chosen: list[str] = []
            for place in product[of_list]:
                if place < 0 or not snapshot.in_stock[place] or len(chosen) == size:
                    continue
                best = variants.choose(int(place), int(snapshot.category[place]), variants.in_stock, sizes)
                if best >= 0:
                    chosen.append(str(variants.ids[best]))
                elif not variants.has_variants[place]:
                    chosen.append(str(ids[place]))
            shown[name] = json.dumps(chosen)
        if any(~is_bought):
            found.append((customer, shown[ALL], shown[DISCOVER]))
    return pd.DataFrame(found, columns=["customer_id", "products", "discover"])
