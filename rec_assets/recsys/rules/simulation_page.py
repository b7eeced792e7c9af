"""The HTML page of a rule simulation: a table of metrics, and a trade-off plot for each boost."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rec_assets.recsys.evaluation.html_page import render_page
from rec_assets.recsys.evaluation.plots import INK, MUTED, to_svg

CURVE_METRICS = ("ndcg_change", "coverage_change")
"""The metrics of a trade-off curve."""

_COLORS = ("#9fd3cd", "#4fa69d", "#0f766e", "#0a3d3a")


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """The content of the page.

    Attributes:
        as_of, until: As-of day of the lists, and last day of the purchases that they are compared with.
        customers: Number of customers who bought something in these days.
        table: From `simulation.measure_rule_sets`.
        curves: Rule → slots, max_dcg_loss and CURVE_METRICS of its variants.
    """

    as_of: dt.date
    until: dt.date
    customers: int
    table: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]


def trade_off_figure(curve: pd.DataFrame) -> Figure:
    """Coverage gained against NDCG@10 lost: a line for each number of slots, a point for each limit of the loss."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for (slots, points), color in zip(curve.groupby("slots"), _COLORS, strict=True):
        points, label = points.sort_values("max_dcg_loss"), f"{slots} of ten positions"
        axes.plot(-points["ndcg_change"], points["coverage_change"], "o-", color=color, label=label)
    axes.axvline(0.05, color=MUTED, linewidth=1, linestyle=":")
    axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=":")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xlim(left=min(0.0, float((-curve["ndcg_change"]).min())))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("NDCG@10 lost", color=INK)
    axes.set_ylabel("catalog coverage gained", color=INK)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def simulation_page(result: SimulationResult) -> str:
    """One self-contained HTML page."""
    plots = {
        rule: to_svg(trade_off_figure(curve), f"trade-off of {rule}")
        for rule, curve in result.curves.items()
        if np.isfinite(curve[[*CURVE_METRICS]]).all(axis=None)  # NaN without a value to compare with
    }
    rows = [{"name": name, **row} for name, row in result.table.to_dict("index").items()]
    formats = {"change": format_change, "share": format_share}
    return render_page(__package__, "simulation_page.html.j2", formats, result=result, rows=rows, plots=plots)


def format_share(value: float) -> str:
    """A share as 3.1%; a dash if it is not finite."""
    return f"{value:.1%}" if math.isfinite(value) else "–"


def format_change(value: float) -> str:
    """A relative change as +3.1%; a dash if it is not finite."""
    return f"{value:+.1%}" if math.isfinite(value) else "–"
