"""What the ranker learns from: past candidates with what became of them, sampled in Spark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rec_assets.recsys.ranking.features import FEATURES
from rec_assets.recsys.ranking.ranker import TrainingSample
from rec_assets.recsys.recipe import RankerRecipe
from rec_assets.recsys.spark.arrow_rows import written

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame


def collect_sample(rows: DataFrame, disk: Path) -> TrainingSample:
    """What `training_sample` gives, by files below a folder that tasks see, too: each number is held once."""
    with written(rows, disk) as files:
        count = sum(file.metadata.num_rows for file in files)
        found, end = TrainingSample(np.empty((count, len(FEATURES)), np.float32), np.empty(count, bool)), 0
        for batch in (batch for file in files for batch in file.iter_batches()):
            begin, end = end, end + len(batch)
            for place, name in enumerate(FEATURES):
                found.features[begin:end, place] = batch[name].to_numpy(zero_copy_only=False)
            found.bought[begin:end] = batch["bought"].to_numpy(zero_copy_only=False)
    return found


def training_sample(candidates: DataFrame, outcome: DataFrame, recipe: RankerRecipe) -> DataFrame:
    """The candidates to learn from, in Spark: every one that was bought and a fixed share of the others.

    Args:
        candidates: As they looked on the as-of day.
        outcome: customer_id, product_id; distinct pairs bought in the horizon after it.
        recipe: Shares; which rows and customers are taken is decided by hashes of their ids.

    Returns:
        FEATURES and `bought` (boolean), sorted by customer and product.
    """
    from pyspark.sql import functions as F

    customers = candidates.select("customer_id").distinct().count()
    share = min(1.0, recipe.customers / max(customers, 1))
    chosen = hash_below(share, "customer_id")
    labeled = candidates.where(chosen).join(
        outcome.withColumn("bought", F.lit(True)), ["customer_id", "product_id"], "left"
    )
    kept = labeled.where(F.col("bought") | hash_below(recipe.negatives, "product_id", "customer_id"))
    return kept.orderBy("customer_id", "product_id").select(
        *FEATURES, F.coalesce("bought", F.lit(False)).alias("bought")
    )


def hash_below(share: float, *columns: str) -> Column:
    """True for a fixed share of the values: the same in every run, and for every frame that has the columns."""
    from pyspark.sql import functions as F

    return F.pmod(F.xxhash64(*columns), F.lit(1_000_000)) < int(share * 1_000_000)
