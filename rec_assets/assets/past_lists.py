"""Evaluation of the lists of a past day, and of every baseline, by the purchases since."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.evaluation.baselines import baseline_lists_in_spark, fallback_lists
from rec_assets.recsys.evaluation.customer_sample import sample_customers
from rec_assets.recsys.evaluation.evaluate import CatalogStatistics, evaluate, make_slices, rmse
from rec_assets.recsys.evaluation.report import ExampleCustomer, ExampleProduct
from rec_assets.recsys.spark.sums import exact_mean
from rec_assets.settings import Settings

HYBRID = "hybrid"
DEPTH = 20
EXAMPLES = 5


@dataclass(frozen=True)
class PastEvaluation:
    """Results of the evaluation of past lists.

    Attributes:
        metrics: slice, model, metric, k, value, ci_low, ci_high, customers.
        differences: The same of the difference between the lists and each baseline.
        slices: Slice → description.
        examples: Some customers with their lists.
        buyers: Number of customers who bought anything since.
        customers: Number of them who are evaluated.
        purchases: Number of distinct (customer, product) pairs that these bought.
        catalog_size: Number of products that the lists could contain.
    """

    metrics: pd.DataFrame
    differences: pd.DataFrame
    slices: dict[str, str]
    examples: list[ExampleCustomer]
    buyers: int
    customers: int
    purchases: int
    catalog_size: int

    def table(self) -> pd.DataFrame:
        """Metrics and differences as the rows of the asset `evaluation_report`."""
        differences = self.differences.assign(metric="ndcg_difference")
        return pd.concat([self.metrics.assign(baseline=None), differences], ignore_index=True)


def evaluate_past_lists(
    hybrid_scores: SparkFrame, candidates: SparkFrame, purchases: SparkFrame, snapshot: ProductSnapshot, *,
    has_ratings: bool, settings: Settings,
) -> PastEvaluation:  # fmt: skip
    """Evaluate the lists of a day.

    Args:
        hybrid_scores, candidates, snapshot: Of the day.
        purchases: Net purchases since.
        has_ratings: Whether the data source has ratings; then the ALS predictions are evaluated too.
        settings: Number of customers and the random seed.
    """
    ratings = purchases.where("rating is not null and not isnan(rating)")
    known_customers = candidates.where("repeat_order_lines > 0").select("customer_id").distinct().count()
    sample = sample_customers(purchases, settings.evaluation_customers)
    truth = sample.purchases.toPandas()
    candidates, hybrid_scores = sample.select_from(candidates), sample.select_from(hybrid_scores)
    history = (
        candidates.where("repeat_order_lines > 0").select("customer_id", "product_id", "customer_orders").toPandas()
    )
    shown = hybrid_scores.where(f"rank <= {DEPTH}").drop("date").toPandas()
    lists = pd.concat(
        [
            shown.assign(model=HYBRID)[["model", "list", "customer_id", "product_id", "rank"]],
            baseline_lists_in_spark(candidates, DEPTH).toPandas(),
        ]
    )
    slices = make_slices(truth, history, history.groupby("customer_id")["customer_orders"].first())
    has_text = snapshot.text >= 0
    catalog = CatalogStatistics(
        size=len(snapshot),
        customers=known_customers,
        buyers=snapshot.catalog.set_index("product_id")["buyers"],
        embedding_rows=pd.Series(snapshot.text[has_text], index=snapshot.product_ids[has_text]),
        embeddings=snapshot.embeddings,
    )
    fallback = fallback_lists(snapshot.catalog, DEPTH, HYBRID)
    evaluation = evaluate(
        lists, slices, fallback=fallback, catalog=catalog, reference=HYBRID, seed=settings.recipe.seed
    )
    metrics = evaluation.metrics
    if has_ratings:
        metrics = pd.concat([metrics, _rating_error(candidates, ratings)], ignore_index=True)
    return PastEvaluation(
        metrics=metrics, differences=evaluation.differences, slices={part.name: part.description for part in slices},
        examples=example_customers(shown, truth, history, snapshot.catalog), buyers=sample.buyers,
        customers=truth["customer_id"].nunique(), purchases=len(truth), catalog_size=catalog.size,
    )  # fmt: skip


def _rating_error(candidates: SparkFrame, ratings: SparkFrame) -> pd.DataFrame:
    """RMSE of ALS over the ratings of candidates, as one row of metrics."""
    keys = ["customer_id", "product_id"]
    actual = ratings.groupBy(*keys).agg(exact_mean(F.col("rating")).alias("rating"))
    predicted = candidates.where("als_score <> 0")  # products without factors have no prediction
    pairs = predicted.select(*keys, "als_score").join(actual, keys).toPandas()
    error = rmse(pairs.rename(columns={"als_score": "prediction"})[[*keys, "prediction"]], pairs[[*keys, "rating"]])
    row = {"slice": "all", "model": "ALS alone", "metric": "rmse", "k": 0, "value": error, "ci_low": np.nan,
           "ci_high": np.nan, "customers": pairs["customer_id"].nunique()}  # fmt: skip
    return pd.DataFrame([row])


def _absolute(link: str) -> str:
    """The link if it works on a page outside the shop; else ""."""
    return link if link.startswith(("http://", "https://")) else ""


def example_customers(
    shown: pd.DataFrame, truth: pd.DataFrame, history: pd.DataFrame, products: pd.DataFrame
) -> list[ExampleCustomer]:
    """Customers from the whole range of activity, with their lists and which items they bought."""
    titles, categories, links = (products.set_index("product_id")[name] for name in ("title", "category", "link"))
    evaluated = history[history["customer_id"].isin(truth["customer_id"])]
    by_activity = evaluated.groupby("customer_id")["customer_orders"].first().sort_values(kind="stable")
    positions = np.linspace(0.1, 0.9, min(EXAMPLES, len(by_activity))) * (len(by_activity) - 1)
    bought = set(zip(truth["customer_id"], truth["product_id"], strict=True))
    examples = []
    for customer in by_activity.index[positions.astype(int)].unique():
        items = history[history["customer_id"] == customer]
        favorites = (
            items["product_id"].map(categories).replace("", None).dropna().sort_values().value_counts().head(3).index
        )
        most = f"; most from {', '.join(favorites)}" if len(favorites) else ""
        rows = shown[(shown["customer_id"] == customer) & (shown["list"] == "all") & (shown["rank"] <= 10)]
        examples.append(
            ExampleCustomer(
                customer_id=customer,
                history=f"{by_activity[customer]:.0f} orders, {len(items)} products{most}",
                recommendations=[
                    ExampleProduct(titles.get(row.product_id, row.product_id), row.reason,
                                   (customer, row.product_id) in bought, _absolute(links.get(row.product_id, "")))
                    for row in rows.sort_values("rank").itertuples()
                ],
            )
        )  # fmt: skip
    return examples
