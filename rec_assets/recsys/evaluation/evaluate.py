"""Who is judged by what: slices of the truth, and every model measured on the same customers.

Here belongs the choice of customers, purchases and models that meet the formulas of `metrics`. The judge
takes frames from anywhere: it knows neither how lists were made nor where results go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rec_assets.recsys.evaluation.metrics import (
    bootstrap_interval,
    catalog_coverage,
    gini,
    intra_list_diversity,
    novelty,
    paired_bootstrap_difference,
    ranking_metrics,
)

ALL = "all"
NOVEL = "novel"
NEW_CUSTOMERS = "new customers"
COLD_PRODUCTS = "cold products"
ACTIVITY = ("low activity", "medium activity", "high activity")
SLICES = (ALL, NOVEL, NEW_CUSTOMERS, COLD_PRODUCTS, *ACTIVITY)

# Models are compared, and releases decided, on this metric.
HEADLINE_METRIC = "ndcg"
HEADLINE_K = 10

_PAIR = ["customer_id", "product_id"]


@dataclass(frozen=True, eq=False)
class Slice:
    """One question put to every model: these customers, these purchases, that kind of list."""

    name: str
    list_name: str
    """Which lists answer it: "all", or "discover" (nothing the customer has bought before)."""
    truth: pd.DataFrame
    """`customer_id`, `product_id`; distinct pairs. Its customers are the ones judged."""
    description: str
    """One sentence for the reader of the report."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """The products as they stood on the as-of day: what the metrics beyond accuracy are measured against."""

    size: int
    """Number of products that could have been recommended."""
    customers: int
    """Number of customers with history, among whom `buyers` are counted."""
    buyers: pd.Series
    """Number of distinct customers who bought the product, by `product_id`; absent means none."""
    embedding_rows: pd.Series
    """Row of `embeddings` by `product_id`; products without text are absent."""
    embeddings: NDArray[np.float32]
    """Unit vectors, shape (texts, dimensions)."""


class Evaluation(NamedTuple):
    """What `evaluate` found, as two tidy frames."""

    metrics: pd.DataFrame
    """`slice`, `model`, `metric`, `k`, `value`, `ci_low`, `ci_high`, `customers`."""
    differences: pd.DataFrame
    """`slice`, `model`, `baseline`, `metric`, `k`, `value`, `ci_low`, `ci_high`, `customers`: model −
    baseline."""


def make_slices(truth: pd.DataFrame, history: pd.DataFrame, orders: pd.Series, *, cold_buyers: int = 5) -> list[Slice]:
    """Cut the truth into the slices of `SLICES`, in that order.

    Products that were never seen before stay in: no model could have shown them, and leaving them out would
    flatter all. Slices may be empty (a day without new customers); they are returned all the same.

    Args:
        truth: `customer_id`, `product_id`; the distinct products each customer bought in the days judged.
        history: `customer_id`, `product_id`; the distinct products each customer bought up to the as-of day.
        orders: Number of orders up to the as-of day, by `customer_id`; at least every customer of `history`.
        cold_buyers: A product with fewer buyers than this in `history` is cold.

    Raises:
        ValueError: A customer of both `truth` and `history` has no count of orders.
    """
    known = truth[truth["customer_id"].isin(history["customer_id"])]
    seen = pd.MultiIndex.from_frame(known[_PAIR]).isin(pd.MultiIndex.from_frame(history[_PAIR]))
    novel = known[~seen]
    buyers = history["product_id"].value_counts()
    cold = novel[novel["product_id"].map(buyers).fillna(0) < cold_buyers]
    slices = [
        Slice(
            ALL,
            "all",
            known,
            "Everything that customers with history went on to buy, repeat purchases included.",
        ),
        Slice(
            NOVEL,
            "discover",
            novel,
            "Only products the customer had never bought before: what a shop wants to help people discover.",
        ),
        Slice(
            NEW_CUSTOMERS,
            "all",
            truth[~truth["customer_id"].isin(history["customer_id"])],
            "Customers without any purchase up to the as-of day. All of them are shown the same list.",
        ),
        Slice(
            COLD_PRODUCTS,
            "discover",
            cold,
            f"Novel purchases of products that had fewer than {cold_buyers} buyers, brand-new ones included.",
        ),
    ]
    return slices + _activity_slices(known, orders)


def _activity_slices(known: pd.DataFrame, orders: pd.Series) -> list[Slice]:
    """Thirds of the judged customers by number of orders; customers with equally many stay together."""
    counts = orders.reindex(known["customer_id"].unique())
    if counts.isna().any():
        raise ValueError(f"no count of orders for customer {counts.index[counts.isna()][0]!r}")
    # The middle of a customer's rank, over ties, lies between 0 and 1; where all are tied, all are of medium
    # activity.
    middle = (counts.rank(method="average") - 0.5) / len(counts)
    third = (middle * 3).astype(np.int64)
    slices = []
    for number, name in enumerate(ACTIVITY):
        members = counts[third == number].astype(np.int64)
        span = f" ({members.min():,} to {members.max():,} orders up to the as-of day)" if len(members) else ""
        description = f"The third of customers with {name.split()[0]} numbers of orders{span}."
        slices.append(Slice(name, "all", known[known["customer_id"].isin(members.index)], description))
    return slices


def evaluate(
    lists: pd.DataFrame,
    slices: Sequence[Slice],
    *,
    fallback: pd.DataFrame,
    catalog: Catalog,
    reference: str = "hybrid",
    ks: Sequence[int] = (5, 10, 20),
    seed: int,
) -> Evaluation:
    """Measure every model on every slice, on the same customers.

    A customer whom a model gives nothing counts as 0. A baseline without any list of a slice's kind (own
    purchases have nothing to discover) is absent from that slice; the reference never is: a shop may have
    nothing to discover.
    Coverage, Gini, novelty and diversity describe the lists shown to the judged customers, and are given for
    the slices `all` and `novel` only.

    Args:
        lists: `model`, `list` ("all" or "discover"), `customer_id`, `product_id`, `rank` from 1.
        slices: From `make_slices`.
        fallback: `model`, `product_id`, `rank`; what each model shows a customer without history.
        catalog: The products as of the day.
        reference: The model the others are baselines of.
        ks: Depths at which lists are cut; 10 must be among them.
        seed: Of the bootstrap over customers.

    Returns:
        The metrics (value: mean over customers; interval: 95 %, NaN beyond accuracy) and the paired
        differences `reference` − baseline in NDCG@10. The models of an empty slice have NaN values and 0
        customers.

    Raises:
        ValueError: 10 is not among `ks`, or what `metrics.ranking_metrics` refuses.
    """
    if HEADLINE_K not in ks:
        raise ValueError(f"ks must hold {HEADLINE_K}: models are compared at that depth")
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
        if part.name in (ALL, NOVEL):
            metrics.append(_beyond_accuracy(part, {model: shown[model] for model in models}, catalog, ks))
        differences.append(_differences(part, measured, reference, seed))
    return Evaluation(pd.concat(metrics, ignore_index=True), pd.concat(differences, ignore_index=True))


def _by_model(lists: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(model): rows for model, rows in lists.groupby("model", observed=True)}


def _with_intervals(part: Slice, measured: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """Means over customers; all models and metrics of the slice are resampled together."""
    table = pd.concat(measured, axis=1)
    names = [str(name).split("@") for name in table.columns.get_level_values(1)]
    mean, low, high = bootstrap_interval(table, seed=seed) if len(table) else (np.nan,) * 3
    return pd.DataFrame(
        {
            "slice": part.name,
            "model": table.columns.get_level_values(0),
            "metric": [metric for metric, _ in names],
            "k": [int(k) for _, k in names],
            "value": mean,
            "ci_low": low,
            "ci_high": high,
            "customers": len(table),
        }
    )


def _beyond_accuracy(
    part: Slice, shown: Mapping[str, pd.DataFrame], catalog: Catalog, ks: Sequence[int]
) -> pd.DataFrame:
    """What the lists of the judged customers are like as a whole, whether or not anything was bought."""
    customers = part.truth["customer_id"].unique()
    rows: list[tuple[str, str, int, float]] = []
    for model, lists in shown.items():
        judged = lists[lists["customer_id"].isin(customers)]
        for k in ks:
            values = {
                "catalog_coverage": catalog_coverage(judged, k=k, catalog_size=catalog.size),
                "gini": gini(judged, k=k, catalog_size=catalog.size),
                "novelty": novelty(judged, k=k, buyers=catalog.buyers, customers=catalog.customers),
                "intra_list_diversity": intra_list_diversity(
                    judged, k=k, rows=catalog.embedding_rows, vectors=catalog.embeddings
                ),
            }
            rows += [(model, metric, k, value) for metric, value in values.items()]
    frame = pd.DataFrame(rows, columns=["model", "metric", "k", "value"])
    return frame.assign(slice=part.name, ci_low=np.nan, ci_high=np.nan, customers=len(customers))


def _differences(part: Slice, measured: Mapping[str, pd.DataFrame], reference: str, seed: int) -> pd.DataFrame:
    """How far the reference is ahead of each baseline, customer by customer."""
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


def rmse(predictions: pd.DataFrame, ratings: pd.DataFrame) -> float:
    """Root mean squared error of predicted ratings, for sources that have ratings.

    √(mean (prediction − rating)²). Only rated pairs with a prediction count: ALS has none (NaN) for customers
    and products it never saw.

    Args:
        predictions: `customer_id`, `product_id`, `prediction`; distinct pairs.
        ratings: `customer_id`, `product_id`, `rating`; distinct pairs.

    Returns:
        The error in units of the rating; NaN when no rated pair has a prediction.

    Raises:
        ValueError: A pair occurs twice.

    >>> pairs = pd.DataFrame({"customer_id": ["a", "b"], "product_id": ["milk", "milk"]})
    >>> rmse(pairs.assign(prediction=[4.0, 2.0]), pairs.assign(rating=[5, 3]))
    1.0
    """
    both = ratings.merge(predictions, on=_PAIR, validate="one_to_one")
    return float(np.sqrt((both["prediction"] - both["rating"]).pow(2).mean()))
