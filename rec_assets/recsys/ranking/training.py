"""The training sample of the ranker: past candidates, labeled by purchases, sampled in Spark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.ranker import Batch, TrainingSample
from rec_assets.recsys.recipe import RankerRecipe
from rec_assets.recsys.spark.arrow_rows import as_parquet_files, equal_tables

BATCH_ROWS = 2**20
"""Candidates in memory at once."""


@contextmanager
def stored_sample(rows: DataFrame, disk: Path) -> Iterator[TrainingSample]:
    """The result of `training_sample` in files under `disk`, which are deleted afterward."""
    with as_parquet_files(rows, disk) as files:

        def batches() -> Iterator[Batch]:
            tables = (pa.Table.from_batches([batch]) for file in files for batch in file.iter_batches())
            return map(_to_arrays, equal_tables(tables, BATCH_ROWS))  # they do not depend on the files

        bought = sum(pc.sum(file.read(["bought"])["bought"]).as_py() or 0 for file in files)
        yield TrainingSample(sum(file.metadata.num_rows for file in files), bought, batches)


def _to_arrays(rows: pa.Table) -> Batch:
    features = np.empty((len(rows), len(FEATURES)), np.float32)
    for column, name in enumerate(FEATURES):
        features[:, column] = rows[name].to_numpy()
    return features, rows["bought"].to_numpy()


def training_sample(candidates: DataFrame, purchases: DataFrame, recipe: RankerRecipe) -> DataFrame:
    """Every candidate that was bought, and a fixed share of the others.

    Args:
        candidates: Of the as-of day.
        purchases: customer_id, product_id: distinct pairs bought in the horizon after it.
        recipe: Shares. Hashes of ids decide which customers and rows are in the sample.

    Returns:
        FEATURES and `bought` (boolean), sorted by customer and product.
    """
    customers = candidates.select("customer_id").distinct().count()
    chosen = hash_below(min(1.0, recipe.customers / max(customers, 1)), "customer_id")
    labeled = candidates.where(chosen).join(
        purchases.withColumn("bought", F.lit(True)), ["customer_id", "product_id"], "left"
    )
    kept = labeled.where(F.col("bought") | hash_below(recipe.negatives, "product_id", "customer_id"))
    return kept.orderBy("customer_id", "product_id").select(
        *FEATURES, F.coalesce("bought", F.lit(False)).alias("bought")
    )


def hash_below(share: float, *columns: str) -> Column:
    """True for a fixed share of the values: the same ones in every run and every frame that has the columns."""
    return F.pmod(F.xxhash64(*columns), F.lit(1_000_000)) < int(share * 1_000_000)
