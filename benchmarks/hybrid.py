"""The hybrid as a row of the benchmark: the candidate sources, features and ranker of rec_assets, on a split's frames.

The assets call the same functions. This module only divides a split once more, into the history and the labels that the
ranker trains on.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.peers.text import embeddings
from benchmarks.protocols import HORIZON_DAYS, KS, hidden_products
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.product_statistics import product_statistics
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.ranking.in_spark import candidates_in_spark, lists_in_spark
from rec_assets.recsys.ranking.lists import ALL, DISCOVER
from rec_assets.recsys.ranking.ranker import TrainingSample, fit_ranker
from rec_assets.recsys.ranking.training import training_sample
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.retrieval.als_model import fit_als
from rec_assets.recsys.retrieval.co_purchase_graph import co_purchase_graph
from rec_assets.recsys.retrieval.product_texts import content_hash
from rec_assets.recsys.spark.arrow_rows import collect
from rec_assets.recsys.tuning.rules_of_thumb import choose
from rec_assets.recsys.tuning.shop_profile import profile_shop
from rec_assets.resources.spark import spark_resource
from rec_assets.settings import Settings

_PAIR = ["customer_id", "product_id"]
_LINES = (
    "customer_id string, product_id string, order_id string, age_days int, weight double, quantity double, "
    "unit_price double, rating double"
)
_AS_OF = dt.date(2000, 1, 1)
"""Any day: only ages matter."""

COUNTS = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers")
"""Counts of the snapshot that `min_count` raises."""

LONGEST = max(max(ks) for ks in KS.values())
"""Length of the lists."""

_HIDDEN_TENTH = 2
"""The tenth of the products hidden to train the ranker on unseen ones. Tuning and reports use other tenths."""


@dataclass
class Hybrid:
    """Candidate sources and a trained ranker.

    Attributes:
        recipe: Hyper-parameters chosen by hand, by dotted name. Others follow from the purchases, as in the asset
            `recipe`, or are the defaults.
        last_orders: Whether the labels are each customer's last order, instead of the purchases of the last horizon.
        unseen: Whether to rank products without purchases too. The ranker is then trained with a tenth of the products
            hidden from the other models (compare Volkovs et al. 2017, DropoutNet).
        min_count: Lower counts are raised to this. If a data set has only products with at least five purchases,
            lower counts in the history reveal that the other purchases are held out.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    last_orders: bool = False
    unseen: bool = False
    min_count: int = 0

    def fit(self, lines: pd.DataFrame, products: pd.DataFrame) -> Hybrid:
        """Train the models and the ranker, and make all lists. Parameters: see `protocols.Split`."""
        return self.train(lines, products).find_candidates().rank()

    def train(self, lines: pd.DataFrame, products: pd.DataFrame) -> Hybrid:
        """Train the models, on all lines and on the lines before the labels of the ranker."""
        self._folder = tempfile.TemporaryDirectory(prefix="hybrid_")
        of_shop = choose(profile_shop(_spark_lines(lines)))
        self._recipe = Recipe().with_fields(
            {**dict(zip(of_shop["name"], of_shop["value"], strict=True)), **self.recipe}
        )
        self._catalog = products.assign(content_hash=products["text"].map(content_hash), excluded=False)
        vectors, row = embeddings(products, "text")
        texts = self._catalog.assign(row=row)[["content_hash", "row"]].query("row >= 0").drop_duplicates()
        self._texts = pd.DataFrame(
            {"content_hash": texts["content_hash"].to_numpy(), "vector": list(vectors[texts["row"]])}
        )
        self._known, self._bought = self._history_and_labels(lines)
        self._earlier = self._models(self._known)
        self._lines, self._snapshot = lines, self._models(lines)
        return self

    def find_candidates(self, wanted: Collection[str] | None = None, **candidates: int) -> Hybrid:
        """Find the candidates to rank, and the labeled sample that the ranker trains on.

        Args:
            wanted: Customers who get lists; None for all.
            candidates: Candidate source → number of candidates, if it differs from the recipe.
        """
        sizes = self._recipe.candidates.model_copy(update=candidates)
        recipe = self._recipe.model_copy(update={"candidates": sizes})
        customers = self._known["customer_id"].drop_duplicates()
        if self.unseen:  # as in the test set: customers who buy an unseen product next
            customers = customers[customers.isin(self._bought["customer_id"])]
        chosen = customers.sample(min(len(customers), recipe.ranker.customers), random_state=recipe.seed)
        sampled = _spark_lines(self._known[self._known["customer_id"].isin(chosen)])
        earlier = candidates_in_spark(sampled, self._earlier, recipe, model_days={}).to_spark()
        # Products hidden from all lines have no labels either, and would look like products that nobody buys.
        sold = _spark_lines(self._lines).select("product_id").distinct()
        earlier = earlier.join(F.broadcast(sold), "product_id", "left_semi")
        purchases = _SPARK.spark_session.createDataFrame(self._bought)
        self._sample = collect(training_sample(earlier, purchases, recipe.ranker), Path(self._folder.name))
        lines = self._lines if wanted is None else self._lines[self._lines["customer_id"].isin(wanted)]
        frame = candidates_in_spark(_spark_lines(lines), self._snapshot, recipe, model_days={}).to_spark()
        path = f"{self._folder.name}/candidates"
        frame.write.mode("overwrite").parquet(path)
        self._candidates = frame.sparkSession.read.schema(frame.schema).parquet(path)
        return self

    def rank(self, without: Sequence[str] = ()) -> Hybrid:
        """Train the ranker and make the lists; the features in `without` are unknown for all candidates."""
        sample = self._sample.assign(**dict.fromkeys(without, np.float32(np.nan)))
        ranker = fit_ranker(TrainingSample.from_frame(sample), self._recipe.ranker, seed=self._recipe.seed)
        # `repeat_order_lines` also divides the lists into bought and not bought, so it stays.
        unknown = {name: F.lit(float("nan")).cast("float") for name in without if name != "repeat_order_lines"}
        candidates = self._candidates.withColumns(unknown) if unknown else self._candidates
        lists = lists_in_spark(candidates, ranker, self._catalog, LONGEST, model_days={}).to_spark()
        self._lists = lists.drop("reason").toPandas()
        return self

    def top(self, customers: NDArray[np.object_], k: int, exclude_bought: bool) -> pd.DataFrame:
        """See `peers.base.Peer`."""
        wanted = self._lists["list"] == (DISCOVER if exclude_bought else ALL)
        rows = self._lists[wanted & (self._lists["rank"] <= k) & self._lists["customer_id"].isin(customers)]
        return rows[[*_PAIR, "rank"]].reset_index(drop=True)

    def _history_and_labels(self, lines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The lines before the labels, and the labels: (customer, product) pairs bought next."""
        if self.last_orders:
            next_ = lines.groupby("customer_id")["order_id"].transform("max") == lines["order_id"]
            known = lines[~next_]
        else:
            next_ = lines["age_days"] < HORIZON_DAYS
            known = lines[~next_].assign(age_days=lines["age_days"] - HORIZON_DAYS)
        bought = lines.loc[next_, _PAIR].drop_duplicates()
        if self.unseen:
            hidden = hidden_products(self._catalog, _HIDDEN_TENTH)
            known = known[~known["product_id"].isin(hidden)]
            bought = bought[bought["product_id"].isin(hidden)]
        return known, bought

    def _models(self, lines: pd.DataFrame) -> ProductSnapshot:
        recipe = self._recipe
        purchases = _spark_lines(lines).persist()
        model = fit_als(purchases, recipe.als, seed=recipe.seed, explicit=False).where("kind = 'product'")
        oldest = lines.groupby("product_id")["age_days"].max()
        age = self._catalog["product_id"].map(oldest)
        if self.min_count:
            age = age.where(age.isna(), oldest.max())
        # A product without purchases is new if unseen products are ranked, and otherwise not known yet.
        age = age.fillna(0 if self.unseen else -1)
        snapshot = build_product_snapshot(
            _AS_OF,
            products=self._catalog.assign(first_seen=[_AS_OF - dt.timedelta(days=int(days)) for days in age]),
            statistics=product_statistics(purchases, recent_days=recipe.candidates.recent_days),
            factors=model.withColumnRenamed("id", "product_id").toPandas(),
            graph=co_purchase_graph(purchases, recipe.co_purchase).toPandas(),
            embeddings=self._texts,
        )
        purchases.sparkSession.catalog.clearCache()
        counts = {name: np.maximum(getattr(snapshot, name), self.min_count) for name in COUNTS}
        return replace(snapshot, **counts)


_SPARK = spark_resource(Settings())


def _spark_lines(lines: pd.DataFrame) -> DataFrame:
    columns = [column.split()[0] for column in _LINES.split(", ")]
    return _SPARK.spark_session.createDataFrame(lines.assign(weight=1.0, rating=np.nan)[columns], schema=_LINES)
