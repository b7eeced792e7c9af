"""What a simulation of rules found, on one page: a table and, of favoring rules, the trade-off as a plot."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rec_assets.recsys.evaluation.plots import INK, MUTED, to_svg

MOST_LOSS, LEAST_GAIN = 0.05, 0.5
"""What the plot marks: a trade-off with less than this loss of NDCG@10 and more than this gain of coverage."""

DRAWN = ("ndcg_change", "coverage_change")
"""What a curve shows, by `places` and `most_loss`."""

_COLORS = ("#9fd3cd", "#4fa69d", "#0f766e", "#0a3d3a")


@dataclass(frozen=True, eq=False)
class Simulated:
    """What the page is about.

    Attributes:
        as_of: The day of the lists.
        until: The last day of the purchases that they are held against.
        customers: Who bought anything then.
        table: As `simulation.measure` gives it.
        curves: Rule → places, most_loss and DRAWN of its variants.
    """

    as_of: dt.date
    until: dt.date
    customers: int
    table: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]


def trade_off_figure(curve: pd.DataFrame) -> Figure:
    """Coverage gained against NDCG@10 lost, a line for each number of places, a point for each limit of loss."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for (places, points), color in zip(curve.groupby("places"), _COLORS, strict=True):
        points = points.sort_values("most_loss")
        axes.plot(-points["ndcg_change"], points["coverage_change"], "o-", color=color, label=f"{places} of ten places")
    axes.axvline(MOST_LOSS, color=MUTED, linewidth=1, linestyle=":")
    axes.axhline(LEAST_GAIN, color=MUTED, linewidth=1, linestyle=":")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xlim(left=min(0.0, float((-curve["ndcg_change"]).min())))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("NDCG@10 lost", color=INK)
    axes.set_ylabel("more of the catalog shown", color=INK)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def simulation_page(simulated: Simulated) -> str:
    """One self-contained HTML page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"change": as_change, "share": as_share}
    template = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    plots = {
        rule: to_svg(trade_off_figure(curve), f"trade-off of {rule}")
        for rule, curve in simulated.curves.items()
        if np.isfinite(curve[[*DRAWN]]).all(axis=None)  # else there is nothing to compare with
    }
    rows = [{"name": name, **row} for name, row in simulated.table.to_dict("index").items()]
    return environment.from_string(template).render(simulated=simulated, rows=rows, plots=plots)


def as_share(value: float) -> str:
    """A share: 3.1%; a dash where there is nothing to count."""
    return f"{value:.1%}" if math.isfinite(value) else "–"


def as_change(value: float) -> str:
    """A relative change: +3.1%; a dash where there is nothing to compare with."""
    return f"{value:+.1%}" if math.isfinite(value) else "–"
