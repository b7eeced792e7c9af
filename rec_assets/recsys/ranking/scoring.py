"""Candidates, lists and substitutes for all: the functions of `candidates`, `hybrid` and `similar` in Spark tasks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rec_assets.recsys.data.histories import HISTORY_COLUMNS
from rec_assets.recsys.data.interactions import repartition
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.events import IMPRESSION
from rec_assets.recsys.ranking.hybrid import make_lists
from rec_assets.recsys.ranking.ranker import Ranker
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.candidates import BLOCK, CANDIDATE_COLUMNS, find_candidates
from rec_assets.recsys.retrieval.similar import substitutes
from rec_assets.recsys.rules.compiled import CompiledRules
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, in_pandas

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_AT_ONCE = 4 * BLOCK
"""Customers that a task works on at a time: its memory doesn't grow with their number."""

SIMILAR_TYPES = "product_id string, kind string, rank int, similar_product_id string, score double, reason string"
"""Spark's types of `similar.SIMILAR_COLUMNS`."""

_KEYS = ("customer_id", "product_id", "together_with", "similar_to")


def candidates_in_spark(
    interactions: DataFrame, state: ProductSnapshot, recipe: Recipe, versions: Mapping[str, dt.date]
) -> LazyArrowRows:
    """`find_candidates` for every customer in `interactions`.

    Args:
        interactions: Of the lookback (`interactions.history_lines`).
        state: What is known of the products that day; sent to every task.
        recipe: How many candidates, which decay.
        versions: Columns that say which models were used, added to each row.
    """

    def block(lines: pd.DataFrame) -> pd.DataFrame:
        return find_candidates(lines, state, recipe).assign(**versions)

    types = [f"{name} {'string' if name in _KEYS else 'float'}" for name in CANDIDATE_COLUMNS]
    types += [f"{name} date" for name in versions]
    return by_customers(interactions.select(*HISTORY_COLUMNS), block, ", ".join(types))


def lists_in_spark(
    candidates: DataFrame | LazyArrowRows,
    ranker: Ranker,
    products: pd.DataFrame,
    size: int,
    versions: Mapping[str, dt.date | None],
    book: CompiledRules | None = None,
) -> LazyArrowRows:
    """`make_lists` for every customer in `candidates`.

    Args:
        candidates: As `candidates_in_spark` gives them.
        ranker: The blend; sent to every task.
        products: product_id, title, category, for the reasons.
        size: Length of a list.
        versions: Columns that say which models were used, added to each row.
        book: Rules that the lists keep to, sent to every task; their version is the column `rules_version`.
    """
    model, features = ranker.dump(), ranker.features
    rules = {"rules_version": book.version if book else ""}
    titles = dict(zip(products["product_id"], products["title"].fillna(""), strict=True))
    categories = dict(zip(products["product_id"], products["category"].fillna(""), strict=True))

    def block(rows: pd.DataFrame) -> pd.DataFrame:
        return make_lists(rows, Ranker.load(model, features), titles, categories, size, book).assign(
            **versions, **rules
        )

    types = ["customer_id string", "list string", "rank int", "product_id string", "score float", "source string",
             "reason string", "rule string", "rules_version string"]  # fmt: skip
    types += [f"{name} date" for name in versions]
    return by_customers(candidates, block, ", ".join(types))


def with_frequency_capped(candidates: DataFrame, events: DataFrame, most: int, column: str) -> DataFrame:
    """The candidates and whether each rests: its customer saw it `most` times or more and did nothing with it.

    Args:
        candidates: As `candidates_in_spark` gives them.
        events: `raw_feedback_events` of the days that count.
        most: Impressions.
        column: Name of what is added.
    """
    from pyspark.sql import functions as F

    pair = ["customer_id", "product_id"]
    seen = events.where(F.col("customer_id").isNotNull()).groupBy(*pair).agg(
        F.count("*").alias("all"), F.count(F.when(F.col("type") == IMPRESSION, 1)).alias("seen")
    )  # fmt: skip
    tired = seen.where((F.col("seen") >= most) & (F.col("seen") == F.col("all")))
    rests = tired.select(*pair, F.lit(True).alias(column))
    return candidates.join(rests, pair, "left").fillna(False, [column])


def lists_as_of(
    interactions: DataFrame, state: ProductSnapshot, ranker: Ranker, products: pd.DataFrame, recipe: Recipe, size: int
) -> LazyArrowRows:
    """Everybody's lists in one go, as a model would have made them on the state's day; see the two functions above."""
    found = candidates_in_spark(interactions, state, recipe, {})
    return lists_in_spark(found, ranker, products, size, {})


def substitutes_in_spark(session: SparkSession, state: ProductSnapshot, size: int) -> DataFrame:
    """`substitutes` of every category, spread over tasks."""
    categories = session.createDataFrame(
        pd.DataFrame({"category": np.arange(len(state.categories), dtype=np.int32)}), "category int"
    )

    def task(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        return (substitutes(state, int(category), size) for frame in frames for category in frame["category"])

    return repartition(categories, "category").sortWithinPartitions("category").mapInPandas(task, SIMILAR_TYPES)


def by_customers(
    rows: DataFrame | LazyArrowRows, work: Callable[[pd.DataFrame], pd.DataFrame], types: str
) -> LazyArrowRows:
    """Do work on rows of whole customers, some hundred at a time, in tasks that their ids are spread over.

    Args:
        rows: A frame in any order; or what this function gave, at once or read back from the files it was written to:
            partitions of whole customers, one after another. That is not looked at.
        work: On the rows of these customers.
        types: DDL of what comes out.
    """
    if not isinstance(rows, LazyArrowRows):
        rows = LazyArrowRows.of(repartition(rows).sortWithinPartitions("customer_id"))

    def task(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        return map(work, whole_customers(frames, _AT_ONCE))

    return rows.then(in_pandas(task, types), types)


def whole_customers(frames: Iterable[pd.DataFrame], customers: int) -> Iterator[pd.DataFrame]:
    """Frames sorted by `customer_id` cut anew, as soon as so many customers are together: none is in two of them."""
    held: list[pd.DataFrame] = []
    count = 0
    for frame in frames:
        held.append(frame)
        count += frame["customer_id"].nunique()
        if count > customers:
            rows = pd.concat(held, ignore_index=True)
            whole = rows["customer_id"] != rows["customer_id"].iloc[-1]  # of the last one more may follow
            if whole.any():
                yield rows[whole]
            held, count = [rows[~whole]], 1
    if held:
        yield pd.concat(held, ignore_index=True)
