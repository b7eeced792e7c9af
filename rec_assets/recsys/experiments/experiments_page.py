"""The experiment report of a day: an HTML page, a Markdown summary and a table."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rec_assets.recsys.evaluation.html_page import render_page
from rec_assets.recsys.evaluation.plots import ACCENT, INK, MUTED, PLAIN, to_svg
from rec_assets.recsys.experiments.analysis import ExperimentResult, VariantComparison, metric_named
from rec_assets.recsys.experiments.inference import Effect
from rec_assets.recsys.experiments.moments import MetricValue

_RED = "#b3261e"


def effects_figure(comparison: VariantComparison) -> Figure:
    """Relative change of each metric: a thick line for the fixed-end interval, a thin line for the always-valid one."""
    names = list(comparison.effects)
    figure = Figure(figsize=(7.2, 0.8 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        effect, is_up = comparison.effects[name], metric_named(name).more_is_better
        ends = [effect.relative(each) for each in (effect.always_low, effect.low, effect.high, effect.always_high)]
        middle = effect.relative(effect.difference.value)
        good = middle >= 0 if is_up else middle <= 0
        color = MUTED if ends[0] <= 0 <= ends[3] else ACCENT if good else _RED
        axes.plot([ends[0], ends[3]], [row, row], color=color, linewidth=1)
        axes.plot([ends[1], ends[2]], [row, row], color=color, linewidth=4, alpha=0.5)
        axes.plot([middle], [row], "o", color=color)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(names)), [metric_named(name).title for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xlabel("change compared with the control", color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def history_figure(history: pd.DataFrame, metric: str) -> Figure:
    """The main metric's relative change by day, with the always-valid interval: `day`, `value`, `low`, `high`."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    days = pd.DatetimeIndex(history["day"])
    axes.fill_between(days, history["low"], history["high"], color=PLAIN, alpha=0.4, linewidth=0)
    axes.plot(days, history["value"], color=ACCENT, marker="." if len(days) < 40 else None)
    axes.axhline(0, color=MUTED, linewidth=1)
    if len(days):
        seen = history.iloc[len(history) // 4 :]  # the intervals of the first days are much wider
        reach = np.nanmax(np.abs(seen[["low", "high"]].to_numpy(float)), initial=0.01)
        axes.set_ylim(-1.2 * reach, 1.2 * reach)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xticks(days[:: -(-len(days) // 5) or 1])
    axes.set_title(f"{metric_named(metric).title}, change up to each day", loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def experiments_page(results: Sequence[ExperimentResult], histories: pd.DataFrame, day: dt.date) -> str:
    """One self-contained HTML page.

    Args:
        results: Of the experiments with traffic or purchases that count on the day.
        histories: experiment, variant, day, value, low, high: the main metric's change up to each day.
        day: The day.
    """

    def plots(result: ExperimentResult, comparison: VariantComparison) -> list[Markup]:
        label = f"{result.experiment.name}, {comparison.variant}"
        main = result.experiment.deciding_metric
        is_past = (histories["experiment"] == result.experiment.name) & (histories["variant"] == comparison.variant)
        past = histories[is_past]
        figures = [to_svg(effects_figure(comparison), f"{label}: change of each metric, with intervals")]
        if len(past) > 1:
            figures.append(to_svg(history_figure(past, main), f"{label}: {metric_named(main).title} by day"))
        return figures

    formats: dict[str, Callable[..., str]] = {
        "share": lambda value: _formatted(value, "+.1%"), "number": lambda value: _formatted(value, ",.0f"),
        "p": _p, "interval": _interval,
    }  # fmt: skip
    names = {"results": results, "day": day, "plots": plots, "metric_named": metric_named}
    return render_page(__package__, "experiments_page.html.j2", formats, **names)


def summary(results: Sequence[ExperimentResult]) -> str:
    """One row for each comparison, as a Markdown table."""
    rows = [
        f"| {result.experiment.name} | {each.variant} | **{each.verdict.outcome}** | {each.verdict.message} |"
        for result in results
        for each in result.comparisons
    ]
    if not rows:
        return "no experiment has traffic or purchases that count on this day"
    simulated = any(result.total.simulated for result in results)
    note = "\n\n**Simulated traffic: these numbers say nothing about real shoppers.**" if simulated else ""
    return "\n".join(["| experiment | variant | verdict | reason |", "| --- | --- | --- | --- |", *rows]) + note


def as_table(results: Sequence[ExperimentResult]) -> pa.Table:
    """The results as REPORT_SCHEMA."""
    rows = []
    for result in results:
        for each in result.comparisons:
            common = {
                "experiment": result.experiment.name, "variant": each.variant,
                "units": sum(result.sample_ratio.units.values()), "detectable_effect": each.detectable_effect,
                "days_left": each.days_left, "sample_ratio_p": result.sample_ratio.always_p_value,
                "verdict": each.verdict.outcome, "message": each.verdict.message,
                "simulated": result.total.simulated > 0,
            }  # fmt: skip
            effects: dict[str, Effect | None] = {**each.effects} or {result.experiment.deciding_metric: None}
            for name, effect in effects.items():
                numbers = _numbers(effect) if effect else {}
                is_main = name == result.experiment.deciding_metric
                rows.append({**common, **numbers, "metric": name, "is_main": is_main})
    return pa.Table.from_pylist(rows, schema=REPORT_SCHEMA)


_TEXTS, _FLAGS = ("experiment", "variant", "metric", "verdict", "message"), ("is_main", "simulated")
_VALUES = ("control", "control_error", "treatment", "treatment_error", "difference", "error", "low", "high",
           "always_low", "always_high", "p_value", "always_p_value", "variance_reduction", "sample_ratio_p",
           "detectable_effect", "days_left")  # fmt: skip
REPORT_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.bool_()) for name in _FLAGS),
        ("units", pa.int64()),
        *((name, pa.float64()) for name in _VALUES),
    ]
)
"""`experiment_report`: one row for each experiment, variant and metric."""


def _numbers(effect: Effect) -> dict[str, float]:
    names = ("low", "high", "always_low", "always_high", "p_value", "always_p_value", "variance_reduction")
    numbers = {name: getattr(effect, name) for name in names}
    for name, value in (("control", effect.control), ("treatment", effect.treatment)):
        numbers |= {name: value.value, f"{name}_error": value.error}
    return {**numbers, "difference": effect.difference.value, "error": effect.difference.error}


def _formatted(value: float, spec: str) -> str:
    return "–" if math.isnan(value) else f"{value:{spec}}"


def _interval(metric: MetricValue) -> str:
    """A metric of one variant with its 95% interval for a fixed end."""
    return _formatted(metric.value, ",.4g") + (f" ± {1.96 * metric.error:,.4g}" if metric.error > 0 else "")


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else _formatted(value, ".4f").removeprefix("0")
