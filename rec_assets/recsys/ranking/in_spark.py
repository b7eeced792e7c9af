"""Candidates, lists and substitutes for all customers and products: the plain functions, applied in Spark tasks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from rec_assets.recsys.data.histories import HISTORY_COLUMNS
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.events import IMPRESSION
from rec_assets.recsys.ranking.lists import build_lists
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.candidates import CANDIDATE_COLUMNS, KEY_COLUMNS, find_candidates
from rec_assets.recsys.retrieval.similar import substitutes
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, in_pandas
from rec_assets.recsys.spark.customers import map_customers, repartition

SIMILAR_TYPES = "product_id string, kind string, rank int, similar_product_id string, score double, reason string"
"""Spark types of `similar.SIMILAR_COLUMNS`."""


def candidates_in_spark(
    lines: DataFrame | LazyArrowRows,
    snapshot: ProductSnapshot,
    recipe: Recipe,
    model_days: Mapping[str, dt.date | None],
) -> LazyArrowRows:
    """`find_candidates` for every customer in `lines` (`interactions.customer_histories`).

    `model_days` are columns with the as-of days of the models, added to each row.
    """

    def apply(rows: pd.DataFrame) -> pd.DataFrame:
        return find_candidates(rows, snapshot, recipe).assign(**model_days)

    types = [f"{name} {'string' if name in KEY_COLUMNS else 'float'}" for name in CANDIDATE_COLUMNS]
    types += [f"{name} date" for name in model_days]
    return map_customers(lines.select(*HISTORY_COLUMNS), apply, ", ".join(types))


def lists_in_spark(
    candidates: DataFrame | LazyArrowRows,
    ranker: Ranker,
    products: pd.DataFrame,
    size: int,
    model_days: Mapping[str, dt.date | None],
    rules: CompiledRules | None = None,
) -> LazyArrowRows:
    """`build_lists` for every customer in `candidates`.

    Args:
        candidates: From `candidates_in_spark`.
        ranker, size, rules: See `build_lists`. The version of the rules becomes the column `rules_version`.
        products: product_id, title, category, for the reasons.
        model_days: See `candidates_in_spark`.
    """
    model, features = ranker.dump(), ranker.features
    rules_version = rules.version if rules else ""
    titles = dict(zip(products["product_id"], products["title"].fillna(""), strict=True))
    categories = dict(zip(products["product_id"], products["category"].fillna(""), strict=True))

    def apply(rows: pd.DataFrame) -> pd.DataFrame:
        lists = build_lists(rows, Ranker.load(model, features), titles, categories, size, rules)
        return lists.assign(**model_days, rules_version=rules_version)

    types = ["customer_id string", "list string", "rank int", "product_id string", "score float", "source string",
             "reason string", "rule string", "rules_version string"]  # fmt: skip
    types += [f"{name} date" for name in model_days]
    return map_customers(candidates, apply, ", ".join(types))


def with_frequency_capped(candidates: DataFrame, events: DataFrame, impressions: int, column: str) -> DataFrame:
    """Add a boolean column: whether the customer has this number of impressions of a candidate, and no other event.

    `events` are the `raw_feedback_events` of the days that the frequency cap counts.
    """
    pair = ["customer_id", "product_id"]
    counts = events.where(F.col("customer_id").isNotNull()).groupBy(*pair).agg(
        F.count("*").alias("all"), F.count(F.when(F.col("type") == IMPRESSION, 1)).alias("seen")
    )  # fmt: skip
    capped = counts.where((F.col("seen") >= impressions) & (F.col("seen") == F.col("all")))
    return candidates.join(capped.select(*pair, F.lit(True).alias(column)), pair, "left").fillna(False, [column])


def substitutes_in_spark(session: SparkSession, snapshot: ProductSnapshot, size: int) -> LazyArrowRows:
    """`substitutes` of every category."""
    categories = session.createDataFrame(
        pd.DataFrame({"category": np.arange(len(snapshot.categories), dtype=np.int32)}), "category int"
    )

    def task(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        return (substitutes(snapshot, int(category), size) for frame in frames for category in frame["category"])

    by_category = LazyArrowRows.from_frame(repartition(categories, "category").sortWithinPartitions("category"))
    return by_category.then(in_pandas(task, SIMILAR_TYPES), SIMILAR_TYPES)
