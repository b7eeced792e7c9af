"""The day's experiments on one page: a verdict each, what it rests on, and plots."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from importlib import resources

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rec_assets.recsys.evaluation.plots import ACCENT, INK, MUTED, PLAIN, to_svg
from rec_assets.recsys.experiments.analysis import Comparison, ExperimentResult, metric_of
from rec_assets.recsys.experiments.statistics import Effect, Value

_RED = "#b3261e"


def effects_figure(comparison: Comparison) -> Figure:
    """Relative change of every metric: the thick line is the interval for one look, the thin one that for all looks."""
    names = list(comparison.effects)
    figure = Figure(figsize=(7.2, 0.8 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        effect, is_up = comparison.effects[name], metric_of(name).more_is_better
        ends = [effect.relative(each) for each in (effect.always_low, effect.low, effect.high, effect.always_high)]
        middle = effect.relative(effect.difference.value)
        good = middle >= 0 if is_up else middle <= 0
        color = MUTED if ends[0] <= 0 <= ends[3] else ACCENT if good else _RED
        axes.plot([ends[0], ends[3]], [row, row], color=color, linewidth=1)
        axes.plot([ends[1], ends[2]], [row, row], color=color, linewidth=4, alpha=0.5)
        axes.plot([middle], [row], "o", color=color)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(names)), [metric_of(name).title for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xlabel("change beside the control", color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def history_figure(history: pd.DataFrame, metric: str) -> Figure:
    """The main metric's change day by day, with the interval for all looks: `day`, `value`, `low`, `high`, relative."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    days = pd.DatetimeIndex(history["day"])
    axes.fill_between(days, history["low"], history["high"], color=PLAIN, alpha=0.4, linewidth=0)
    axes.plot(days, history["value"], color=ACCENT, marker="." if len(days) < 40 else None)
    axes.axhline(0, color=MUTED, linewidth=1)
    if len(days):
        seen = history.iloc[len(history) // 4 :]  # the first days' intervals dwarf all later ones
        reach = np.nanmax(np.abs(seen[["low", "high"]].to_numpy(float)), initial=0.01)
        axes.set_ylim(-1.2 * reach, 1.2 * reach)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xticks(days[:: -(-len(days) // 5) or 1])
    axes.set_title(f"{metric_of(metric).title}, change so far", loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def experiments_page(readings: Sequence[ExperimentResult], histories: pd.DataFrame, day: dt.date) -> str:
    """One self-contained HTML page.

    Args:
        readings: Of the experiments that count on the day.
        histories: experiment, variant, day, value, low, high: the main metric's change on the days so far.
        day: The day.
    """

    def plots(reading: ExperimentResult, comparison: Comparison) -> list[Markup]:
        about = f"{reading.experiment.name}, {comparison.variant}"
        main = main_metric(reading)
        past = histories[
            (histories["experiment"] == reading.experiment.name) & (histories["variant"] == comparison.variant)
        ]
        found = [to_svg(effects_figure(comparison), f"{about}: change of each metric, with intervals")]
        if len(past) > 1:
            found.append(to_svg(history_figure(past, main), f"{about}: {metric_of(main).title} day by day"))
        return found

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "number": _number, "value": _value, "p": _p, "interval": _interval}
    template = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        readings=readings, day=day, plots=plots, metric_of=metric_of, main_metric=main_metric
    )


def main_metric(reading: ExperimentResult) -> str:
    """What decides."""
    return "preference" if reading.experiment.design == "interleave" else reading.experiment.main_metric


def summary(readings: Sequence[ExperimentResult]) -> str:
    """A line a comparison, as Markdown."""
    rows = [
        f"| {reading.experiment.name} | {each.variant} | **{each.verdict.kind}** | {each.verdict.says} |"
        for reading in readings
        for each in reading.comparisons
    ]
    if not rows:
        return "no experiment counts on this day"
    simulated = any(reading.total.simulated for reading in readings)
    note = "\n\n**Simulated traffic: these numbers say nothing about real shoppers.**" if simulated else ""
    return "\n".join(["| experiment | variant | | |", "| --- | --- | --- | --- |", *rows]) + note


def as_table(readings: Sequence[ExperimentResult]) -> pa.Table:
    """The readings, REPORT_SCHEMA."""
    rows = []
    for reading in readings:
        for each in reading.comparisons:
            effects: dict[str, Effect | None] = {**each.effects} or {main_metric(reading): None}
            for name, effect in effects.items():
                rows.append(
                    {
                        "experiment": reading.experiment.name,
                        "variant": each.variant,
                        "metric": name,
                        "is_main": name == main_metric(reading),
                        **(_numbers(effect) if effect else {}),
                        "units": sum(reading.ratio.found.values()),
                        "detectable": each.detectable,
                        "days_left": each.days_left,
                        "sample_ratio_p": reading.ratio.always_p_value,
                        "verdict": each.verdict.kind,
                        "says": each.verdict.says,
                        "simulated": reading.total.simulated > 0,
                    }
                )
    return pa.Table.from_pylist(rows, schema=REPORT_SCHEMA)


_TEXTS, _FLAGS = ("experiment", "variant", "metric", "verdict", "says"), ("is_main", "simulated")
_VALUES = ("control", "control_error", "treatment", "treatment_error", "difference", "error", "low", "high",
           "always_low", "always_high", "p_value", "always_p_value", "variance_saved", "sample_ratio_p", "detectable",
           "days_left")  # fmt: skip
REPORT_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        *((name, pa.bool_()) for name in _FLAGS),
        ("units", pa.int64()),
        *((name, pa.float64()) for name in _VALUES),
    ]
)
"""`experiment_report`: one row an experiment, variant and metric."""


def _numbers(effect: Effect) -> dict[str, float]:
    return {
        "control": effect.control.value,
        "control_error": effect.control.error,
        "treatment": effect.treatment.value,
        "treatment_error": effect.treatment.error,
        "difference": effect.difference.value,
        "error": effect.difference.error,
        **{
            name: getattr(effect, name)
            for name in ("low", "high", "always_low", "always_high", "p_value", "always_p_value", "variance_saved")
        },
    }


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1%}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}"


def _value(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.4g}"


def _interval(found: Value) -> str:
    """A metric of one variant with its 95 % interval for one look."""
    return _value(found.value) + (f" ± {_value(1.96 * found.error)}" if found.error > 0 else "")


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< .0001" if value < 1e-4 else f"{value:.4f}".removeprefix("0")
