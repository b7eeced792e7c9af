"""The evaluation as people read it: one HTML page for the merchandiser, one small table for the terminal.

Here belongs what is said and in which order; the words and looks of the page are in `report.html.j2`. Nothing
is computed that `judge` did not measure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from importlib import resources

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from rec_assets.recsys.evaluation.evaluate import (
    ACTIVITY,
    ALL,
    COLD_PRODUCTS,
    HEADLINE_K,
    HEADLINE_METRIC,
    NEW_CUSTOMERS,
    NOVEL,
    SLICES,
)
from rec_assets.recsys.evaluation.plots import accuracy_figure, activity_figure, coverage_figure, to_svg
from rec_assets.recsys.evaluation.verdict import Verdict, scores, verdict

_TITLES = {
    ALL: "All purchases",
    NOVEL: "Novel purchases",
    NEW_CUSTOMERS: "New customers",
    COLD_PRODUCTS: "Cold products",
} | {group: group.capitalize() for group in ACTIVITY}

# How each metric is called, and what it means in one sentence.
_ACCURACY = {
    "ndcg": (
        "NDCG",
        "Rewards hits, and more so the higher they stand in the list: 1 is the best possible list.",
    ),
    "precision": ("Precision", "Of the products shown, the share that the customer went on to buy."),
    "recall": ("Recall", "Of the products the customer went on to buy, the share that was shown."),
    "map": (
        "MAP",
        "The precision at the place of each hit, averaged: high when hits come early and close by.",
    ),
    "mrr": (
        "MRR",
        "One divided by the place of the first hit: 1 when the first product shown was bought, 1/2 when the "
        "second was the first that was, 0 when none was.",
    ),
    "hit_rate": ("Hit rate", "The share of customers who bought at least one of the products shown."),
}
_BEYOND_ACCURACY = {
    "catalog_coverage": (
        "Coverage",
        "The share of the catalog that was shown to at least one customer.",
    ),
    "gini": (
        "Gini",
        "How unevenly products share the places: 0 when all are shown equally often, close to 1 when a few "
        "take nearly all.",
    ),
    "novelty": (
        "Novelty",
        "How far from bestsellers the lists reach, in bits: one more means products bought by half as many customers.",
    ),
    "intra_list_diversity": (
        "Diversity",
        "How different the products of one list are, going by their descriptions: 0 when all are alike, "
        "about 1 when they have nothing in common.",
    ),
}


@dataclass(frozen=True)
class ExampleProduct:
    """One line of an example customer's list."""

    name: str
    reason: str
    bought: bool
    """Whether the customer bought it in the days judged."""


@dataclass(frozen=True)
class ExampleCustomer:
    """A real customer's list, to see what the numbers mean."""

    customer_id: str
    history: str
    """What the customer bought up to the as-of day, in a line of plain words."""
    recommendations: Sequence[ExampleProduct]
    """Best first."""


@dataclass(frozen=True)
class ReportContext:
    """What the page says besides the numbers."""

    source: str
    """The shop or dataset, as people call it."""
    as_of: date
    """The last day the models knew."""
    truth_days: int
    """Purchases of this many days after `as_of` are the truth."""
    buyers: int
    """Customers who bought anything in those days."""
    customers: int
    """Of these, the customers who are judged: all, or a fixed sample."""
    purchases: int
    """Distinct (customer, product) pairs they bought."""
    catalog_size: int
    """Products that could have been recommended."""
    models: Mapping[str, str]
    """One sentence on each model, by its name, for the glossary."""
    slices: Mapping[str, str]
    """`Slice.description` by `Slice.name`, for all of `judge.SLICES`."""
    examples: Sequence[ExampleCustomer]
    data_fingerprint: str
    """Identifies the data of the input partitions."""
    model_versions: Mapping[str, str]
    """Which version of each model made the lists."""
    settings: Mapping[str, object]
    """Every setting that shaped the result."""
    not_learned: Sequence[str] = ()
    """What the judged lists had to do without, and why."""
    reference: str = "hybrid"
    """The model the page is about; the others are its baselines."""


@dataclass(frozen=True)
class _Cell:
    value: str
    interval: str
    best: bool


@dataclass(frozen=True)
class _Table:
    """Models × metrics at one k; `rows` pairs a model with its cells."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[_Cell]]]


@dataclass(frozen=True)
class _SliceSection:
    title: str
    description: str
    customers: int
    headline: _Table | None
    """At k = 10; None for a slice without customers."""
    details: Sequence[_Table]
    """At the other depths, and beyond accuracy."""


@dataclass(frozen=True)
class _Plot:
    title: str
    caption: str
    svg: Markup


def render_report(evaluation: pd.DataFrame, differences: pd.DataFrame, *, context: ReportContext) -> str:
    """One self-contained HTML page: no scripts, no addresses to load from, the same bytes for the same input.

    Args:
        evaluation: `judge.Evaluation.metrics`.
        differences: `judge.Evaluation.differences`.
        context: What the page says besides.
    """
    verdicts = {name: verdict(evaluation, differences, name) for name in (ALL, NOVEL)}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["day"] = lambda day: f"{day.day} {day:%B %Y}"
    environment.filters["signed"] = lambda number, digits=4: f"{number:+.{digits}f}".replace("-", "−")
    template = environment.from_string(
        resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        context=context,
        first_day=context.as_of + timedelta(days=1),
        last_day=context.as_of + timedelta(days=context.truth_days),
        verdicts=verdicts,
        titles=_TITLES,
        hit_rate=_reference_score(evaluation, "hit_rate", context.reference),
        precision=_reference_score(evaluation, "precision", context.reference),
        plots=_plots(evaluation, verdicts[ALL], context.reference),
        sections=[_section(evaluation, name, context) for name in SLICES],
        glossary={**_ACCURACY, **_BEYOND_ACCURACY},
    )


def summary_table(evaluation: pd.DataFrame) -> pd.DataFrame:
    """The evaluation in one small table of text, best model over all purchases first.

    Args:
        evaluation: `judge.Evaluation.metrics`.

    Returns:
        Index `model`; columns `all NDCG@10`, `all P@10`, `all R@10`, the same for `novel`, and `all
        coverage@10`. NDCG comes with its 95 % interval: "0.4125 [0.4010, 0.4240]". A model without such a
        list has "–".
    """
    columns: dict[str, pd.Series] = {}
    for name in (ALL, NOVEL):
        columns[f"{name} NDCG@10"] = scores(evaluation, name, "ndcg").apply(_with_interval, axis=1)
        columns[f"{name} P@10"] = scores(evaluation, name, "precision")["value"].map(_number)
        columns[f"{name} R@10"] = scores(evaluation, name, "recall")["value"].map(_number)
    coverage = scores(evaluation, ALL, "catalog_coverage")["value"]
    columns[f"{ALL} coverage@10"] = coverage.map(lambda share: "–" if np.isnan(share) else f"{share:.2%}")
    table = pd.DataFrame(columns).rename_axis("model").fillna("–")
    return table.loc[scores(evaluation, ALL, "ndcg").index]


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"


def _with_interval(score: pd.Series) -> str:
    interval = "" if np.isnan(score["ci_low"]) else f" [{score['ci_low']:.4f}, {score['ci_high']:.4f}]"
    return _number(score["value"]) + interval


def _reference_score(evaluation: pd.DataFrame, metric: str, reference: str) -> float | None:
    """The reference's value over all purchases; None when there is nobody to judge."""
    value = scores(evaluation, ALL, metric)["value"].get(reference)
    return None if value is None or np.isnan(value) else float(value)


def _plots(evaluation: pd.DataFrame, overall: Verdict | None, reference: str) -> list[_Plot]:
    plots = [
        _Plot(
            _TITLES[name],
            caption,
            to_svg(
                accuracy_figure(evaluation, name, reference),
                f"Bar plot of NDCG@10 over {name} purchases: {_in_words(evaluation, name, 'ndcg')}",
            ),
        )
        for name, caption in (
            (ALL, "How well each model's ten products foresaw what customers bought, repeats included."),
            (NOVEL, "The same, counting only products the customer had never bought before."),
        )
        if _judged_customers(evaluation, name)
    ]
    if overall is None:
        return plots
    compared = f"{reference} and {overall.baseline}"
    return [
        *plots,
        _Plot(
            "By activity of the customer",
            f"{reference} beside the best baseline, by how often customers order.",
            to_svg(
                activity_figure(evaluation, reference, overall.baseline),
                f"Bar plot of NDCG@10 of {compared} for customers of low, medium and high activity",
            ),
        ),
        _Plot(
            "Accuracy against coverage",
            "Further right: more of the range is shown. Further up: more purchases are foreseen.",
            to_svg(
                coverage_figure(evaluation, reference),
                "Scatter plot of NDCG@10 against the share of the catalog shown: "
                + _in_words(evaluation, ALL, "catalog_coverage"),
            ),
        ),
    ]


def _in_words(evaluation: pd.DataFrame, name: str, metric: str) -> str:
    values = scores(evaluation, name, metric)["value"]
    return ", ".join(f"{model} {value:.4f}" for model, value in values.items())


def _judged_customers(evaluation: pd.DataFrame, name: str) -> int:
    return int(evaluation.loc[evaluation["slice"] == name, "customers"].max())


def _section(evaluation: pd.DataFrame, name: str, context: ReportContext) -> _SliceSection:
    customers = _judged_customers(evaluation, name)
    title = _TITLES[name]
    headline, details = None, []
    if customers:
        headline = _table(evaluation, name, _ACCURACY, HEADLINE_K, f"{title}: lists of {HEADLINE_K}")
        if name in (ALL, NOVEL):
            caption = f"{title}: what the lists of {HEADLINE_K} are like"
            details.append(_table(evaluation, name, _BEYOND_ACCURACY, HEADLINE_K, caption))
        others = sorted(set(evaluation["k"]) - {HEADLINE_K})
        details += [_table(evaluation, name, _ACCURACY, k, f"{title}: lists of {k}") for k in others]
    return _SliceSection(title, context.slices[name], customers, headline, details)


def _table(evaluation: pd.DataFrame, name: str, metrics: Mapping[str, tuple[str, str]], k: int, caption: str) -> _Table:
    """Models in the order of their NDCG@10.

    The best is marked for accuracy only: to be more novel or more diverse is not simply better.
    """
    order = scores(evaluation, name, HEADLINE_METRIC).index
    columns = []
    for metric in metrics:
        column = scores(evaluation, name, metric, k).loc[order]
        best = column["value"].max() if metric in _ACCURACY else None
        columns.append([_cell(value, low, high, best) for value, low, high, _ in column.to_numpy()])
    cells = [list(row) for row in zip(*columns, strict=True)]
    labels = [f"{label}@{k}" for label, _ in metrics.values()]
    return _Table(caption, labels, list(zip(map(str, order), cells, strict=True)))


def _cell(value: float, low: float, high: float, best: float | None) -> _Cell:
    interval = "" if np.isnan(low) else f"{low:.4f}–{high:.4f}"
    return _Cell(_number(value), interval, best=value == best and value > 0)
