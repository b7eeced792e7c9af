"""ALS in `speed`: fits by Spark, by the asset's solver "implicit" and by that library alone; and top lists.

Top lists are computed for blocks of customers in Spark tasks, as in the asset `candidates`, with a matrix product and
`top_columns`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.sql import DataFrame, SparkSession
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.datasets import complete_journey
from benchmarks.protocols import REPORTED, Split, journey_splits
from rec_assets.recsys.evaluation.metrics import ranking_metrics
from rec_assets.recsys.recipe import AlsRecipe
from rec_assets.recsys.retrieval.als_model import fit_als
from rec_assets.recsys.retrieval.sources.helpers import top_columns
from rec_assets.resources.spark import spark_resource
from rec_assets.settings import Settings

SIZE, BLOCK = 100, 512
SEED = 7
COMPARED_CUSTOMERS = 500


def session() -> SparkSession:
    """The project's Spark session."""
    return spark_resource(Settings()).spark_session


@dataclass
class Factors:
    """An ALSModel in a folder, as Spark writes it."""

    folder: Path
    customers: int
    products: int

    def side(self, name: str) -> DataFrame:
        """userFactors or itemFactors: id, features."""
        return session().read.parquet(str(self.folder / name))


@dataclass
class FitTask:
    """Purchases known on the reported day, and the splits that evaluate the factors."""

    splits: list[Split]
    recipe: AlsRecipe
    lines: pd.DataFrame

    @classmethod
    def of_journey(cls) -> FitTask:
        """The Complete Journey."""
        splits = journey_splits(*complete_journey(), REPORTED)
        lines = splits[0].lines[["customer_id", "product_id", "age_days"]].assign(weight=1.0, rating=np.nan)
        return cls(splits, AlsRecipe(), lines)

    def systems(self) -> dict[str, Callable[[], pd.DataFrame]]:
        """Name → a function that fits ALS from the lines; the reference first."""
        frame = session().createDataFrame(self.lines).persist()
        frame.count()
        on_one_machine = self.recipe.model_copy(update={"solver": "implicit"})
        return {
            "implicit": self._by_the_library,
            "rec_assets, solver implicit": lambda: fit_als(frame, on_one_machine, seed=SEED, explicit=False).toPandas(),
            "rec_assets, Spark ML": lambda: fit_als(frame, self.recipe, seed=SEED, explicit=False).toPandas(),
        }

    def _by_the_library(self) -> pd.DataFrame:
        """With the lines in pandas and without Spark."""
        from implicit.cpu.als import AlternatingLeastSquares

        recipe = self.recipe
        weight = np.exp2(-self.lines["age_days"] / recipe.half_life_days)
        keys = ["customer_id", "product_id"]
        pairs = weight.groupby([self.lines[key] for key in keys], observed=True).sum().rename("strength").reset_index()
        buyers = pairs.groupby("product_id")["customer_id"].transform("size")
        pairs = pairs[buyers >= recipe.min_buyers]
        customer, customers = pd.factorize(pairs["customer_id"], sort=True)
        product, products = pd.factorize(pairs["product_id"], sort=True)
        confidence = (1 + recipe.alpha * pairs["strength"]).to_numpy(np.float32)
        with threadpool_limits(limits=1, user_api="blas"):
            model = AlternatingLeastSquares(
                factors=recipe.rank, iterations=recipe.iterations, random_state=SEED,
                regularization=recipe.implicit_regularization,
            )  # fmt: skip
            model.fit(sparse.csr_matrix((confidence, (customer, product))), show_progress=False)
        sides = (("customer", customers, model.user_factors), ("product", products, model.item_factors))
        return pd.concat(
            [pd.DataFrame({"kind": kind, "id": ids, "factors": list(vectors)}) for kind, ids, vectors in sides]
        )

    def ndcg(self, factors: pd.DataFrame) -> tuple[float, ...]:
        """NDCG@10 of the lists by these factors alone, for all and for novel purchases."""
        customers, products = (factors[factors["kind"] == kind] for kind in ("customer", "product"))
        users, items = pd.Index(customers["id"]), pd.Index(products["id"])
        scores = np.stack(customers["factors"].to_list()) @ np.stack(products["factors"].to_list()).T
        found = []
        for split in self.splits:
            if split.exclude_bought:
                row, column = (
                    users.get_indexer(split.lines["customer_id"]),
                    items.get_indexer(split.lines["product_id"]),
                )
                scores[row[(row >= 0) & (column >= 0)], column[(row >= 0) & (column >= 0)]] = -np.inf
            best = top_columns(scores, 10)
            lists = pd.DataFrame(
                {"customer_id": np.repeat(users, 10), "product_id": items.to_numpy()[best.ravel()],
                 "rank": np.tile(np.arange(1, 11), len(users))}
            )  # fmt: skip
            judged = lists[lists["customer_id"].isin(split.truth["customer_id"])]
            found.append(float(ranking_metrics(judged, split.truth, (10,))["ndcg@10"].mean()))
        return tuple(found)


def journey_factors(folder: Path) -> Factors:
    """Factors of the Complete Journey, by Spark ML."""
    task = FitTask.of_journey()
    factors = fit_als(session().createDataFrame(task.lines), task.recipe, seed=SEED, explicit=False).toPandas()
    vectors = {kind: np.stack(rows["factors"].to_list()) for kind, rows in factors.groupby("kind")}
    return _write_model(folder / "journey", vectors["customer"], vectors["product"])


def synthetic_factors(folder: Path, customers: int, products: int) -> Factors:
    """Random factors of so many."""
    rng, rank = np.random.default_rng(SEED), AlsRecipe().rank
    users, items = (rng.normal(size=(count, rank)).astype(np.float32) for count in (customers, products))
    return _write_model(folder / "synthetic", users, items)


def _write_model(folder: Path, users: np.ndarray, items: np.ndarray) -> Factors:
    """An ALSModel with these factors: a small one is fitted for its metadata, then gets them."""
    pairs = session().createDataFrame([(0, 0, 1.0), (1, 1, 1.0)], "user int, item int, rating float")
    ALS(rank=1, maxIter=1, implicitPrefs=True).fit(pairs).write().save(str(folder))
    metadata = next((folder / "metadata").glob("part-*"))
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "rank": users.shape[1]}) + "\n")
    for checksum in folder.rglob(".*.crc"):
        checksum.unlink()
    for name, vectors in (("userFactors", users), ("itemFactors", items)):
        shutil.rmtree(folder / name)
        (folder / name).mkdir()
        starts = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
        table = pa.table(
            {
                "id": np.arange(len(vectors), dtype=np.int32),
                "features": pa.ListArray.from_arrays(starts, vectors.ravel()),
            }
        )
        pq.write_table(table, folder / name / "0.parquet", row_group_size=len(vectors) // 8 + 1)
    return Factors(folder, len(users), len(items))


def recommend_for_all_users(factors: Factors, part: float) -> None:
    """Spark's own lists of a part of the customers, which must all be computed."""
    model = ALSModel.load(str(factors.folder))
    if part == 1:
        found = model.recommendForAllUsers(SIZE)
    else:
        some = factors.side("userFactors").where(f"id < {int(part * factors.customers)}").selectExpr("id as user")
        found = model.recommendForUserSubset(some, SIZE)
    found.write.format("noop").mode("overwrite").save()


def top_for_all(factors: Factors) -> None:
    """Lists of all customers by `top_columns`, in Spark tasks."""
    _top(factors, factors.side("userFactors")).write.format("noop").mode("overwrite").save()


def _top(factors: Factors, users: DataFrame) -> DataFrame:
    # Product-sized, so it may come to the driver, from where it goes to every task.
    items = factors.side("itemFactors").orderBy("id").toArrow()
    vectors = _matrix(items["features"].combine_chunks())
    ids = items["id"].to_numpy()

    def best(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with threadpool_limits(limits=1, user_api="blas"):  # Spark has a task on every core
            for batch in batches:
                for first in range(0, len(batch), BLOCK):
                    block = batch.slice(first, BLOCK)
                    scores = _matrix(block["features"]) @ vectors.T
                    top = top_columns(scores, SIZE)
                    starts = np.arange(len(block) + 1, dtype=np.int32) * top.shape[1]
                    values = np.take_along_axis(scores, top, axis=1)
                    yield pa.record_batch(
                        {
                            "id": block["id"],
                            "products": pa.ListArray.from_arrays(starts, ids[top].ravel()),
                            "scores": pa.ListArray.from_arrays(starts, values.ravel()),
                        }
                    )

    return users.mapInArrow(best, "id int, products array<int>, scores array<float>")


def _matrix(vectors: pa.ListArray) -> np.ndarray:
    return vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)


def agreement(factors: Factors) -> float:
    """Share of the places of some customers' lists on which both agree; equal scores, to float32, may change places."""
    users = factors.side("userFactors").where(f"id < {COMPARED_CUSTOMERS}").cache()
    ours = _top(factors, users).toPandas().set_index("id")
    theirs = ALSModel.load(str(factors.folder)).recommendForUserSubset(users.selectExpr("id as user"), SIZE).toPandas()
    same = 0
    for user, recommendations in zip(theirs["user"], theirs["recommendations"], strict=True):
        their_scores = np.array([each["rating"] for each in recommendations])
        same += int(np.isclose(their_scores, np.array(ours.at[user, "scores"]), rtol=1e-4, atol=1e-6).sum())
    return same / (len(theirs) * SIZE)
