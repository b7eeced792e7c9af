"""Evaluation: compare the lists of all models with later purchases, on the same customers and slices.

This module selects customers, purchases and models, and compares the reference model with the best baseline. The
formulas are in `metrics`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rec_assets.recsys.evaluation.bootstrap import bootstrap_interval, paired_bootstrap_difference
from rec_assets.recsys.evaluation.metrics import catalog_coverage, gini, intra_list_diversity, novelty, ranking_metrics

ALL_PURCHASES = "all"
NOVEL_PURCHASES = "novel"
NEW_CUSTOMERS = "new customers"
ONE_ORDER = "one order"
COLD_PRODUCTS = "cold products"
ACTIVITY = ("low activity", "medium activity", "high activity")
SLICES = (ALL_PURCHASES, NOVEL_PURCHASES, NEW_CUSTOMERS, ONE_ORDER, COLD_PRODUCTS, *ACTIVITY)

HEADLINE_METRIC = "ndcg"
HEADLINE_K = 10
"""The metric that compares models and decides releases."""

_PAIR = ["customer_id", "product_id"]


@dataclass(frozen=True, eq=False)
class Slice:
    """A part of the evaluation: customers, their purchases, and the list that is evaluated."""

    name: str
    list_name: str
    """The evaluated list: "all", or "discover" (nothing that the customer bought in the lookback)."""
    truth: pd.DataFrame
    """`customer_id`, `product_id`; distinct pairs. Its customers are evaluated."""
    description: str
    """One sentence for the report."""


@dataclass(frozen=True, eq=False)
class CatalogStatistics:
    """The catalog as of the day of the lists, for the metrics beyond accuracy."""

    size: int
    """Number of products that can be recommended."""
    customers: int
    """Number of customers with history."""
    buyers: pd.Series
    """Number of distinct customers who bought the product, by `product_id`; missing means 0."""
    embedding_rows: pd.Series
    """Row of `embeddings` by `product_id`; products without text are missing."""
    embeddings: NDArray[np.float32]
    """Unit vectors, shape (texts, dimensions)."""


class Evaluation(NamedTuple):
    """The result of `evaluate`."""

    metrics: pd.DataFrame
    """`slice`, `model`, `metric`, `k`, `value`, `ci_low`, `ci_high`, `customers`."""
    differences: pd.DataFrame
    """`slice`, `model`, `baseline`, `metric`, `k`, `value` (model − baseline), `ci_low`, `ci_high`, `customers`."""


def make_slices(truth: pd.DataFrame, history: pd.DataFrame, orders: pd.Series, *, cold_buyers: int = 5) -> list[Slice]:
    """Split the purchases into the slices of `SLICES`, in that order. A slice can be empty.

    Purchases of products that nobody bought before count, too. No model can recommend them, but without them all
    metrics would be too high.

    Args:
        truth: `customer_id`, `product_id`; the distinct products that each customer bought in the horizon.
        history: `customer_id`, `product_id`; the distinct products that each customer bought in the lookback.
        orders: Number of orders up to the as-of day, by `customer_id`, for all customers of `history`.
        cold_buyers: A product with fewer buyers in `history` is cold.

    Raises:
        ValueError: A customer of both `truth` and `history` is not in `orders`.
    """
    has_history = truth["customer_id"].isin(history["customer_id"])
    known, new = truth[has_history], truth[~has_history]
    seen = pd.MultiIndex.from_frame(known[_PAIR]).isin(pd.MultiIndex.from_frame(history[_PAIR]))
    novel = known[~seen]
    buyers = history["product_id"].value_counts()
    cold = novel[novel["product_id"].map(buyers).fillna(0) < cold_buyers]
    after_one = known[known["customer_id"].map(orders) == 1]
    return [
        Slice(ALL_PURCHASES, "all", known, "All later purchases of customers with history, also repeat purchases."),
        Slice(NOVEL_PURCHASES, "discover", novel, "Only products that the customer did not buy in the lookback."),
        Slice(NEW_CUSTOMERS, "all", new, "Customers without a purchase up to the as-of day. All get the same list."),
        Slice(ONE_ORDER, "all", after_one, "Customers with one order up to the as-of day."),
        Slice(COLD_PRODUCTS, "discover", cold, f"Novel purchases of products with fewer than {cold_buyers} buyers."),
        *_activity_slices(known, orders),
    ]


def _activity_slices(known: pd.DataFrame, orders: pd.Series) -> list[Slice]:
    """Thirds of the customers by number of orders; customers with the same number are in one slice."""
    counts = orders.reindex(known["customer_id"].unique())
    if counts.isna().any():
        raise ValueError(f"no number of orders for customer {counts.index[counts.isna()][0]!r}")
    # The average rank of a customer, scaled to 0…1. If all customers are tied, all have medium activity.
    middle = (counts.rank(method="average") - 0.5) / len(counts)
    third = (middle * 3).astype(np.int64)
    slices = []
    for number, name in enumerate(ACTIVITY):
        members = counts[third == number].astype(np.int64)
        span = f" ({members.min():,} to {members.max():,} orders up to the as-of day)" if len(members) else ""
        description = f"The third of the customers with {name}{span}."
        slices.append(Slice(name, "all", known[known["customer_id"].isin(members.index)], description))
    return slices


def evaluate(
    lists: pd.DataFrame,
    slices: Sequence[Slice],
    *,
    fallback: pd.DataFrame,
    catalog: CatalogStatistics,
    reference: str = "hybrid",
    ks: Sequence[int] = (5, 10, 20),
    seed: int,
) -> Evaluation:
    """Evaluate every model on every slice, on the same customers.

    A customer without a list from a model counts as 0. A baseline without any list of a slice's kind is left out of
    this slice (repeat purchase has no list "discover"); the reference is always included. Coverage, Gini, novelty and
    diversity describe the lists of the evaluated customers, for the slices `all` and `novel` only.

    Args:
        lists: `model`, `list` ("all" or "discover"), `customer_id`, `product_id`, `rank` from 1.
        fallback: `model`, `product_id`, `rank`; each model's list for a customer without history.
        ks: Lengths of the lists; must include 10.

    Returns:
        The metrics (mean over customers and 95 % interval, which is NaN beyond accuracy) and the paired differences
        `reference` − baseline in NDCG@10. The models of an empty slice have NaN values and 0 customers.

    Raises:
        ValueError: `ks` does not include 10, or `metrics.ranking_metrics` refuses the lists.
    """
    if HEADLINE_K not in ks:
        raise ValueError(f"ks must include {HEADLINE_K}, which compares the models")
    by_kind = {
        str(kind): _by_model(rows) for kind, rows in lists[lists["rank"] <= max(ks)].groupby("list", observed=True)
    }
    fallback_by_model = _by_model(fallback)

    metrics: list[pd.DataFrame] = []
    differences: list[pd.DataFrame] = []
    for part in slices:
        if part.name == NEW_CUSTOMERS:
            customers = part.truth[["customer_id"]].drop_duplicates()
            shown = {model: customers.merge(rows, how="cross") for model, rows in fallback_by_model.items()}
        else:
            shown = by_kind.get(part.list_name, {})
        shown = {reference: lists[:0], **shown}
        models = [reference, *sorted(model for model in shown if model != reference)]
        measured = {model: ranking_metrics(shown[model], part.truth, ks) for model in models}
        metrics.append(_with_intervals(part, measured, seed))
        if part.name in (ALL_PURCHASES, NOVEL_PURCHASES):
            metrics.append(_beyond_accuracy(part, {model: shown[model] for model in models}, catalog, ks))
        differences.append(_differences(part, measured, reference, seed))
    return Evaluation(pd.concat(metrics, ignore_index=True), pd.concat(differences, ignore_index=True))


def _by_model(lists: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(model): rows for model, rows in lists.groupby("model", observed=True)}


def _with_intervals(part: Slice, measured: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Means over customers, with one bootstrap for all models and metrics of the slice."""
    table = pd.concat(measured, axis=1)
    names = table.columns.get_level_values(1).str.split("@")
    mean, low, high = bootstrap_interval(table, seed=seed) if len(table) else (np.nan,) * 3
    return pd.DataFrame(
        {
            "slice": part.name,
            "model": table.columns.get_level_values(0),
            "metric": names.str[0],
            "k": names.str[1].astype(int),
            "value": mean,
            "ci_low": low,
            "ci_high": high,
            "customers": len(table),
        }
    )


def _beyond_accuracy(
    part: Slice, shown: Mapping[str, pd.DataFrame], catalog: CatalogStatistics, ks: Sequence[int]
) -> pd.DataFrame:
    """Metrics of the lists that do not depend on purchases."""
    customers = part.truth["customer_id"].unique()
    rows: list[tuple[str, str, int, float]] = []
    for model, lists in shown.items():
        evaluated = lists[lists["customer_id"].isin(customers)]
        for k in ks:
            values = {
                "catalog_coverage": catalog_coverage(evaluated, k=k, catalog_size=catalog.size),
                "gini": gini(evaluated, k=k, catalog_size=catalog.size),
                "novelty": novelty(evaluated, k=k, buyers=catalog.buyers, customers=catalog.customers),
                "intra_list_diversity": intra_list_diversity(
                    evaluated, k=k, rows=catalog.embedding_rows, vectors=catalog.embeddings
                ),
            }
            rows += [(model, metric, k, value) for metric, value in values.items()]
    frame = pd.DataFrame(rows, columns=["model", "metric", "k", "value"])
    return frame.assign(slice=part.name, ci_low=np.nan, ci_high=np.nan, customers=len(customers))


def _differences(part: Slice, measured: Mapping[str, pd.DataFrame], reference: str, seed: int) -> pd.DataFrame:
    """Paired differences between the reference and each baseline."""
    column = f"{HEADLINE_METRIC}@{HEADLINE_K}"
    baselines = [model for model in measured if model != reference]
    own = measured[reference][[column]].to_numpy()
    others = np.column_stack([measured[model][column] for model in baselines]) if baselines else own[:, :0]
    mean, low, high = paired_bootstrap_difference(own, others, seed=seed) if len(own) else (np.nan,) * 3
    return pd.DataFrame(
        {
            "slice": part.name,
            "model": reference,
            "baseline": baselines,
            "metric": HEADLINE_METRIC,
            "k": HEADLINE_K,
            "value": mean,
            "ci_low": low,
            "ci_high": high,
            "customers": len(own),
        }
    )


@dataclass(frozen=True)
class BaselineVerdict:
    """The reference model compared with the best baseline, in NDCG@10 on the customers of one slice."""

    model: str
    value: float
    baseline: str
    baseline_value: float
    difference: float
    ci_low: float
    ci_high: float

    @property
    def outcome(self) -> Literal["ahead", "level", "behind"]:
        """Level if the 95 % interval of the difference includes 0."""
        if self.ci_low > 0:
            return "ahead"
        if self.ci_high < 0:
            return "behind"
        return "level"


def metric_values(metrics: pd.DataFrame, slice_name: str, metric: str, k: int = HEADLINE_K) -> pd.DataFrame:
    """One metric of one slice: `value`, `ci_low`, `ci_high`, `customers` by `model`, highest value first."""
    chosen = (metrics["slice"] == slice_name) & (metrics["metric"] == metric) & (metrics["k"] == k)
    columns = ["value", "ci_low", "ci_high", "customers"]
    return metrics[chosen].set_index("model")[columns].sort_values("value", ascending=False, kind="stable")


def baseline_verdict(metrics: pd.DataFrame, differences: pd.DataFrame, slice_name: str) -> BaselineVerdict | None:
    """Compare the reference model with the best baseline of a slice, by the tables of an `Evaluation`.

    Returns:
        None if the slice has no customers or there is no baseline.
    """
    compared = differences[(differences["slice"] == slice_name) & (differences["customers"] > 0)]
    if compared.empty:
        return None
    values = metric_values(metrics, slice_name, HEADLINE_METRIC)["value"]
    best = str(values.loc[compared["baseline"]].idxmax())
    chosen = compared.set_index("baseline").loc[best]
    model = str(chosen["model"])
    difference, low, high = (float(chosen[name]) for name in ("value", "ci_low", "ci_high"))
    return BaselineVerdict(model, float(values[model]), best, float(values[best]), difference, low, high)


def rmse(predictions: pd.DataFrame, ratings: pd.DataFrame) -> float:
    """Root mean squared error of predicted ratings, √(mean (prediction − rating)²), for data sources with ratings.

    Both frames have distinct pairs of `customer_id` and `product_id`, and `prediction` or `rating`. Only rated pairs
    with a prediction count: ALS has none for unknown customers and products. NaN if no pair counts.

    Raises:
        ValueError: A pair occurs twice.

    >>> pairs = pd.DataFrame({"customer_id": ["a", "b"], "product_id": ["milk", "milk"]})
    >>> rmse(pairs.assign(prediction=[4.0, 2.0]), pairs.assign(rating=[5, 3]))
    1.0
    """
    both = ratings.merge(predictions, on=_PAIR, validate="one_to_one")
    return float(np.sqrt((both["prediction"] - both["rating"]).pow(2).mean()))
