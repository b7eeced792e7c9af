"""The training sample of the ranker: past candidates, labeled by purchases, sampled in Spark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.ranker import TrainingSample
from rec_assets.recsys.recipe import RankerRecipe
from rec_assets.recsys.spark.arrow_rows import as_parquet_files


def collect_sample(rows: DataFrame, disk: Path) -> TrainingSample:
    """Collect the result of `training_sample` through files under `disk`, so that memory holds each number once."""
    with as_parquet_files(rows, disk) as files:
        count = sum(file.metadata.num_rows for file in files)
        sample, end = TrainingSample(np.empty((count, len(FEATURES)), np.float32), np.empty(count, bool)), 0
        for batch in (batch for file in files for batch in file.iter_batches()):
            begin, end = end, end + len(batch)
            for column, name in enumerate(FEATURES):
                sample.features[begin:end, column] = batch[name].to_numpy(zero_copy_only=False)
            sample.bought[begin:end] = batch["bought"].to_numpy(zero_copy_only=False)
    return sample


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
