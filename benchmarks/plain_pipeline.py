"""`python -m benchmarks.plain_pipeline SOURCE DAY`: the work of `make demo` as a plain script.

It is the reference for the run time of the asset graph: the same functions on the same windows, without Dagster, lake,
MLflow, checks and previews. Results of a step stay in memory or in one temporary file. The script prints the hybrid's
NDCG@10, which shows that it does the same work.
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from rec_assets.recsys.data.cleaning import CLEANED_SCHEMA, CleaningSettings, clean_day
from rec_assets.recsys.data.interactions import IS_PURCHASE, history_lines, net_purchases
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.data.product_statistics import product_statistics
from rec_assets.recsys.data.products import build_products
from rec_assets.recsys.data.snapshot_builder import build_product_snapshot
from rec_assets.recsys.evaluation.baselines import BASELINES, baseline_lists_in_spark, fallback_lists
from rec_assets.recsys.evaluation.evaluate import CatalogStatistics, evaluate, make_slices
from rec_assets.recsys.evaluation.kpis import business_kpis
from rec_assets.recsys.ranking.features import feature_matrix
from rec_assets.recsys.ranking.in_spark import candidates_in_spark, lists_in_spark, substitutes_in_spark
from rec_assets.recsys.ranking.lists import LISTS
from rec_assets.recsys.ranking.ranker import Ranker, TrainingSample, fit_ranker
from rec_assets.recsys.ranking.training import training_sample
from rec_assets.recsys.retrieval.als_model import fit_als
from rec_assets.recsys.retrieval.co_purchase_graph import co_purchase_graph
from rec_assets.recsys.retrieval.product_texts import embed_new
from rec_assets.recsys.retrieval.similar import complements
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.encoder import EncoderResource
from rec_assets.resources.spark import spark_resource
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.stored import SERVED_COLUMNS, StoredHistories, StoredList
from rec_assets.settings import Settings
from rec_assets.sources.catalog import read_catalog
from rec_assets.sources.reader import read_day
from rec_assets.sources.spec import DataSource, load_data_source

DEPTH = 20


@dataclass
class Script:
    """The shop's data, and the results so far."""

    settings: Settings
    source: DataSource
    spark: SparkSession
    folder: Path

    def read_and_clean(self, first: dt.date, last: dt.date) -> None:
        """Read all lines of these days into one file, and the catalog."""
        self.catalog = read_catalog(self.source)
        listed = self.catalog.to_pandas()
        rules = CleaningSettings(
            time_zone=self.source.time_zone,
            has_price=self.source.has_price,
            excluded_products=frozenset(listed.loc[listed["excluded"], "product_id"]),
        )
        schema = CLEANED_SCHEMA.append(pa.field("date", pa.date32()))
        with pq.ParquetWriter(self.folder / "cleaned.parquet", schema) as writer:
            for day in (first + dt.timedelta(days=i) for i in range((last - first).days + 1)):
                cleaned = clean_day(read_day(self.source, day, last).to_pandas(), day, rules).cleaned
                writer.write_table(pa.Table.from_pandas(cleaned.assign(date=day), schema, preserve_index=False))
        self.lines = self.spark.read.parquet(str(self.folder / "cleaned.parquet"))

    def describe_products(self) -> None:
        """Make products and the vectors of their texts."""
        self.products = build_products(LazyArrowRows.from_frame(self.lines), self.catalog.to_pandas(), self.folder)
        nothing = pd.DataFrame({"content_hash": pd.Series(dtype=str), "vector": pd.Series(dtype=object)})
        self.embeddings = embed_new(self.products, nothing, EncoderResource(model=self.settings.encoder).encode)

    def train(self, day: dt.date) -> tuple[ProductSnapshot, pd.DataFrame, DataFrame]:
        """Product snapshot, graph and candidates of a day, with models of that day."""
        recipe, window = self.settings.recipe, self._window(day, self.settings.lookback_days)
        lines = self._stored(f"histories {day}", history_lines(window, day))
        purchases = lines.where(IS_PURCHASE)
        recent = recipe.candidates.recent_days
        statistics = product_statistics(lines, recent_days=recent)
        factors = fit_als(lines, recipe.als, seed=recipe.seed, explicit=False).toPandas()
        graph = co_purchase_graph(purchases, recipe.co_purchase).toPandas()
        self.spark.catalog.clearCache()
        snapshot = build_product_snapshot(
            day, products=self.products, statistics=statistics, graph=graph, embeddings=self.embeddings,
            factors=factors[factors["kind"] == "product"].rename(columns={"id": "product_id"}),
        )  # fmt: skip
        found = candidates_in_spark(lines, snapshot, recipe, {}).to_spark()
        self.statistics = statistics
        return snapshot, graph, self._stored(f"candidates {day}", found)

    def train_ranker(self, candidates: DataFrame, day: dt.date) -> Ranker:
        """The ranker of a day, from the candidates of one horizon before and the purchases since."""
        outcome = net_purchases(self._window(day, self.settings.horizon_days), day)
        recipe = self.settings.recipe
        pairs = outcome.select("customer_id", "product_id").distinct()
        rows = training_sample(candidates, pairs, recipe.ranker).toPandas()
        ranker = fit_ranker(TrainingSample.from_frame(rows), recipe.ranker, seed=recipe.seed)
        ranker.score(feature_matrix(rows))  # the histogram in the UI
        return ranker

    def recommend(
        self, snapshot: ProductSnapshot, graph: pd.DataFrame, candidates: DataFrame, ranker: Ranker
    ) -> DataFrame:
        """The lists of all customers, and similar products."""
        recipe, day = self.settings.recipe, snapshot.as_of
        lists = lists_in_spark(candidates, ranker, self.products, recipe.list_size, {}).to_spark()
        categories = self.products.set_index("product_id")["category"]
        similar = (
            substitutes_in_spark(self.spark, snapshot, recipe.neighbors)
            .to_spark()
            .unionByName(self.spark.createDataFrame(complements(graph, categories, recipe.neighbors)))
        )
        self._stored(f"similar {day}", similar)
        return self._stored(f"lists {day}", lists)

    def evaluate_lists(
        self, candidates: DataFrame, lists: DataFrame, statistics: pd.DataFrame, snapshot: ProductSnapshot, day: dt.date
    ) -> pd.DataFrame:
        """Metrics of the lists of one horizon before a day, and of the baselines."""
        outcome = net_purchases(self._window(day, self.settings.horizon_days), day)
        truth = outcome.select("customer_id", "product_id").distinct().toPandas()
        history = (
            candidates.where("repeat_order_lines > 0").select("customer_id", "product_id", "customer_orders").toPandas()
        )
        orders = history.groupby("customer_id")["customer_orders"].first()
        baselines = baseline_lists_in_spark(candidates, DEPTH).toPandas()
        shown = lists.where(f"rank <= {DEPTH}").toPandas().assign(model="hybrid")[baselines.columns]
        assert set(baselines["model"]) <= set(BASELINES)
        return evaluate(
            pd.concat([shown, baselines[baselines["customer_id"].isin(truth["customer_id"])]]),
            make_slices(truth, history, orders),
            fallback=fallback_lists(snapshot.catalog, DEPTH, "hybrid"),
            catalog=CatalogStatistics(
                size=len(snapshot),
                customers=len(orders),
                buyers=statistics.set_index("product_id")["buyers"],
                embedding_rows=pd.Series(snapshot.text, index=snapshot.product_ids)[snapshot.text >= 0],
                embeddings=snapshot.embeddings,
            ),
            reference="hybrid",
            seed=self.settings.recipe.seed,
        ).metrics

    def publish(self, snapshot: ProductSnapshot, lists: DataFrame, ranker: Ranker) -> None:
        """The serving index; the graph writes it twice, for the registry and for the API."""
        recipe, day = self.settings.recipe, snapshot.as_of
        lines = history_lines(self._window(day, self.settings.lookback_days), day)
        histories = StoredHistories.from_lines(lines.select(*SERVED_COLUMNS).toPandas(), snapshot)
        scores = lists.toArrow()
        stored = {
            name: StoredList.from_scores(scores.filter(pa.compute.equal(scores["list"], name)), snapshot)
            for name in LISTS
        }
        for name in ("registered", "served"):
            Index(snapshot, ranker, recipe, histories, stored, {}).save(self.folder / name)

    def report(self, day: dt.date) -> pd.DataFrame:
        """The business KPIs of a day."""
        window = self._window(day, self.settings.lookback_days)
        return business_kpis(LazyArrowRows.from_frame(window), None, self.products, day)

    def _window(self, day: dt.date, days: int) -> DataFrame:
        return self.lines.where(f"date > '{day - dt.timedelta(days=days)}' and date <= '{day}'")

    def _stored(self, name: str, table: DataFrame | pa.Table) -> DataFrame:
        path = self.folder / name
        if isinstance(table, pa.Table):
            path.mkdir()
            pq.write_table(table, path / "0.parquet")
        else:
            table.write.parquet(str(path))
        return self.spark.read.parquet(str(path))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.argument("newest", type=click.DateTime(["%Y-%m-%d"]))
def main(source: str, newest: dt.datetime) -> None:
    """Run the steps of a bootstrap of SOURCE up to the day NEWEST."""
    settings = Settings()
    last, horizon = newest.date(), dt.timedelta(days=settings.horizon_days)
    with tempfile.TemporaryDirectory() as folder:
        spec = load_data_source(source, settings.root)
        script = Script(settings, spec, spark_resource(settings).spark_session, Path(folder))
        first, _ = spec.bounds()
        script.read_and_clean(max(first, last - 2 * horizon - dt.timedelta(days=settings.lookback_days - 1)), last)
        script.describe_products()
        _, _, earlier = script.train(last - 2 * horizon)
        snapshot, graph, candidates = script.train(last - horizon)
        statistics = script.statistics
        ranker = script.train_ranker(earlier, last - horizon)
        lists = script.recommend(snapshot, graph, candidates, ranker)
        metrics = script.evaluate_lists(candidates, lists, statistics, snapshot, last)
        snapshot, graph, known = script.train(last)
        ranker = script.train_ranker(candidates, last)
        script.publish(snapshot, script.recommend(snapshot, graph, known, ranker), ranker)
        script.report(last)
        ours = metrics[(metrics["model"] == "hybrid") & (metrics["metric"] == "ndcg") & (metrics["k"] == 10)]
        for row in ours[ours["slice"].isin(["all", "novel"])].to_dict("records"):
            click.echo(f"{row['slice']} NDCG@10 {row['value']:.4f}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
