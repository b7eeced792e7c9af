"""The evaluation report: an HTML page for merchandisers and a small table for the terminal.

This module selects the numbers and names the slices and metrics. `report.html.j2` has the layout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from markupsafe import Markup

from rec_assets.recsys.evaluation.evaluate import (
    ALL_PURCHASES,
    HEADLINE_K,
    HEADLINE_METRIC,
    NOVEL_PURCHASES,
    SLICES,
    BaselineVerdict,
    baseline_verdict,
    metric_values,
)
from rec_assets.recsys.evaluation.html_page import render_page
from rec_assets.recsys.evaluation.plots import accuracy_figure, activity_figure, coverage_figure, to_svg

TITLES = {name: name.capitalize() for name in SLICES} | {
    ALL_PURCHASES: "All purchases",
    NOVEL_PURCHASES: "Novel purchases",
}

ACCURACY = {
    "ndcg": ("NDCG", "Counts hits with a weight that falls with the rank. 1 is the best possible list."),
    "precision": ("Precision", "The share of the products in the list that the customer bought later."),
    "recall": ("Recall", "The share of the products bought later that are in the list."),
    "map": ("MAP", "The mean precision at the ranks of the hits. It is high if hits are at the top."),
    "mrr": ("MRR", "1 divided by the rank of the first hit: 1 for rank 1, 1/2 for rank 2, 0 without a hit."),
    "hit_rate": ("Hit rate", "The share of customers who bought at least one product of their list."),
}
"""Metric → name and description."""

BEYOND_ACCURACY = {
    "catalog_coverage": ("Coverage", "The share of the catalog that is in at least one list."),
    "gini": (
        "Gini",
        "How unevenly positions are distributed over products: 0 if all products have as many, close to 1 if a few "
        "products take almost all positions.",
    ),
    "novelty": (
        "Novelty",
        "How far the lists are from best sellers. One bit more means products bought by half as many customers.",
    ),
    "intra_list_diversity": (
        "Diversity",
        "How different the product texts of one list are: 0 if all are equal, about 1 if they have nothing in common.",
    ),
}
"""Metric → name and description."""


@dataclass(frozen=True)
class ExampleProduct:
    """One item of an example customer's list."""

    name: str
    reason: str
    bought: bool
    """Whether the customer bought it in the horizon."""
    link: str = ""
    """URL of the product's page, "" if unknown."""


@dataclass(frozen=True)
class ExampleCustomer:
    """The list of a real customer, as an example."""

    customer_id: str
    history: str
    """The purchases up to the as-of day, as one line of text."""
    recommendations: Sequence[ExampleProduct]
    """Best first."""


@dataclass(frozen=True)
class ReportContext:
    """The content of the page besides the metrics."""

    source: str
    """Name of the shop or data set."""
    as_of: date
    """As-of day of the lists."""
    horizon_days: int
    """Days after `as_of` whose purchases the lists are compared with."""
    buyers: int
    """Customers who bought something in the horizon."""
    customers: int
    """The evaluated customers: all buyers, or a fixed sample."""
    purchases: int
    """Distinct (customer, product) pairs that they bought."""
    catalog_size: int
    """Products that could be recommended."""
    models: Mapping[str, str]
    """Model → one sentence, for the glossary."""
    slices: Mapping[str, str]
    """`Slice.name` → `Slice.description`, for all `evaluate.SLICES`."""
    examples: Sequence[ExampleCustomer]
    data_fingerprint: str
    """Fingerprint of the input partitions."""
    model_days: Mapping[str, str]
    """Model → the day as of which it was trained."""
    settings: Mapping[str, object]
    """Settings that affect the result."""
    missing_models: Sequence[str] = ()
    """Models that the lists were made without, and why."""
    reference: str = "hybrid"
    """The model that the baselines are compared with."""


@dataclass(frozen=True)
class _Cell:
    value: str
    interval: str
    best: bool


@dataclass(frozen=True)
class _Table:
    """Models × metrics at one k; each row is a model and its cells."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[_Cell]]]


@dataclass(frozen=True)
class _SliceSection:
    title: str
    description: str
    customers: int
    headline: _Table | None
    """k = 10; None for a slice without customers."""
    details: Sequence[_Table]
    """Other values of k, and metrics beyond accuracy."""


@dataclass(frozen=True)
class _Plot:
    title: str
    caption: str
    svg: Markup


def render_report(evaluation: pd.DataFrame, differences: pd.DataFrame, *, context: ReportContext) -> str:
    """One self-contained HTML page, without scripts and external resources; the same input gives the same bytes.

    The two frames are those of an `Evaluation`.
    """
    verdicts = {name: baseline_verdict(evaluation, differences, name) for name in (ALL_PURCHASES, NOVEL_PURCHASES)}
    return render_page(
        __package__,
        "report.html.j2",
        {"day": _day, "signed": _signed},
        context=context,
        first_day=context.as_of + timedelta(days=1),
        last_day=context.as_of + timedelta(days=context.horizon_days),
        verdicts=verdicts,
        titles=TITLES,
        hit_rate=_reference_score(evaluation, "hit_rate", context.reference),
        precision=_reference_score(evaluation, "precision", context.reference),
        plots=_plots(evaluation, verdicts[ALL_PURCHASES], context.reference),
        sections=[_section(evaluation, name, context) for name in SLICES],
        glossary={**ACCURACY, **BEYOND_ACCURACY},
    )


def summary_table(evaluation: pd.DataFrame) -> pd.DataFrame:
    """`Evaluation.metrics` as a small table of text, best model over all purchases first.

    Returns:
        Index `model`; columns `all NDCG@10`, `all P@10`, `all R@10`, the same for `novel`, and `all coverage@10`. NDCG
        has its 95 % interval: "0.4125 [0.4010, 0.4240]". A model without such a list has "–".
    """
    columns: dict[str, pd.Series] = {}
    for name in (ALL_PURCHASES, NOVEL_PURCHASES):
        columns[f"{name} NDCG@10"] = metric_values(evaluation, name, "ndcg").apply(_with_interval, axis=1)
        columns[f"{name} P@10"] = metric_values(evaluation, name, "precision")["value"].map(_number)
        columns[f"{name} R@10"] = metric_values(evaluation, name, "recall")["value"].map(_number)
    coverage = metric_values(evaluation, ALL_PURCHASES, "catalog_coverage")["value"]
    columns[f"{ALL_PURCHASES} coverage@10"] = coverage.map(lambda share: "–" if np.isnan(share) else f"{share:.2%}")
    table = pd.DataFrame(columns).rename_axis("model").fillna("–")
    return table.loc[metric_values(evaluation, ALL_PURCHASES, "ndcg").index]


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _signed(number: float, digits: int = 4) -> str:
    return f"{number:+.{digits}f}".replace("-", "−")


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"


def _with_interval(score: pd.Series) -> str:
    interval = "" if np.isnan(score["ci_low"]) else f" [{score['ci_low']:.4f}, {score['ci_high']:.4f}]"
    return _number(score["value"]) + interval


def _reference_score(evaluation: pd.DataFrame, metric: str, reference: str) -> float | None:
    """The reference's value over all purchases; None without customers."""
    value = metric_values(evaluation, ALL_PURCHASES, metric)["value"].get(reference)
    return None if value is None or np.isnan(value) else float(value)


def _plots(evaluation: pd.DataFrame, overall: BaselineVerdict | None, reference: str) -> list[_Plot]:
    plots = [
        _Plot(
            TITLES[name],
            caption,
            to_svg(
                accuracy_figure(evaluation, name, reference),
                f"Bar plot of NDCG@10 over {name} purchases: {_in_words(evaluation, name, 'ndcg')}",
            ),
        )
        for name, caption in (
            (ALL_PURCHASES, "How well the lists of ten match the later purchases, including repeat purchases."),
            (NOVEL_PURCHASES, "The same for products that the customer did not buy in the lookback."),
        )
        if _customers(evaluation, name)
    ]
    if overall is None:
        return plots
    compared = f"{reference} and {overall.baseline}"
    return [
        *plots,
        _Plot(
            "By customer activity",
            f"{reference} compared with the best baseline, by the number of orders.",
            to_svg(
                activity_figure(evaluation, reference, overall.baseline),
                f"Bar plot of NDCG@10 of {compared} for customers of low, medium and high activity",
            ),
        ),
        _Plot(
            "Accuracy against coverage",
            "Right: more of the catalog is in a list. Up: the lists match the purchases better.",
            to_svg(
                coverage_figure(evaluation, reference),
                "Scatter plot of NDCG@10 against the share of the catalog in a list: "
                + _in_words(evaluation, ALL_PURCHASES, "catalog_coverage"),
            ),
        ),
    ]


def _in_words(evaluation: pd.DataFrame, name: str, metric: str) -> str:
    values = metric_values(evaluation, name, metric)["value"]
    return ", ".join(f"{model} {value:.4f}" for model, value in values.items())


def _customers(evaluation: pd.DataFrame, name: str) -> int:
    return int(evaluation.loc[evaluation["slice"] == name, "customers"].max())


def _section(evaluation: pd.DataFrame, name: str, context: ReportContext) -> _SliceSection:
    customers = _customers(evaluation, name)
    title = TITLES[name]
    headline, details = None, []
    if customers:
        headline = _table(evaluation, name, ACCURACY, HEADLINE_K, f"{title}: lists of {HEADLINE_K}")
        if name in (ALL_PURCHASES, NOVEL_PURCHASES):
            caption = f"{title}: diversity and coverage of lists of {HEADLINE_K}"
            details.append(_table(evaluation, name, BEYOND_ACCURACY, HEADLINE_K, caption))
        others = sorted(set(evaluation["k"]) - {HEADLINE_K})
        details += [_table(evaluation, name, ACCURACY, k, f"{title}: lists of {k}") for k in others]
    return _SliceSection(title, context.slices[name], customers, headline, details)


def _table(evaluation: pd.DataFrame, name: str, metrics: Mapping[str, tuple[str, str]], k: int, caption: str) -> _Table:
    """Models by NDCG@10. Only accuracy metrics mark the best model: more novelty or diversity is not always better."""
    order = metric_values(evaluation, name, HEADLINE_METRIC).index
    columns = []
    for metric in metrics:
        column = metric_values(evaluation, name, metric, k).loc[order]
        best = column["value"].max() if metric in ACCURACY else None
        columns.append([_cell(value, low, high, best) for value, low, high, _ in column.to_numpy()])
    cells = [list(row) for row in zip(*columns, strict=True)]
    labels = [f"{label}@{k}" for label, _ in metrics.values()]
    return _Table(caption, labels, list(zip(map(str, order), cells, strict=True)))


def _cell(value: float, low: float, high: float, best: float | None) -> _Cell:
    interval = "" if np.isnan(low) else f"{low:.4f}–{high:.4f}"
    return _Cell(_number(value), interval, best=value == best and value > 0)
