"""Plots of an evaluation as matplotlib figures, and their conversion to SVG for HTML pages.

Figures use the object-oriented API only: pyplot has global state, and assets can run in parallel.
"""

import io
import re
from typing import Literal

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rec_assets.recsys.evaluation.evaluate import ACTIVITY, ALL_PURCHASES, NOVEL_PURCHASES, metric_values

INK, MUTED, GRID = "#1f2933", "#5f6c7b", "#e3e8ee"
ACCENT, PLAIN = "#0f766e", "#b4c0cc"

# Inches. Not wider than the screen of a phone, so that the page never scales the text down.
_WIDTH = 3.7
_SMALL, _NORMAL = 8.0, 9.0


def headline_figure(evaluation: pd.DataFrame, reference: str = "hybrid") -> Figure:
    """NDCG@10 of every model over all and over novel purchases, side by side, the reference highlighted."""
    rows = max(len(metric_values(evaluation, name, "ndcg")) for name in (ALL_PURCHASES, NOVEL_PURCHASES))
    figure = Figure(figsize=(9.5, 0.95 + 0.33 * rows), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), (ALL_PURCHASES, NOVEL_PURCHASES), strict=True):
        _draw_models(axes, metric_values(evaluation, name, "ndcg"), reference)
        axes.set_title(f"{name.capitalize()} purchases", loc="left", fontsize=11, color=INK)
    return figure


def accuracy_figure(evaluation: pd.DataFrame, slice_name: str, reference: str) -> Figure:
    """NDCG@10 of every model on one slice, best first, with 95 % intervals."""
    ranked = metric_values(evaluation, slice_name, "ndcg")
    figure = Figure(figsize=(_WIDTH, 0.6 + 0.3 * len(ranked)), layout="constrained")
    axes = figure.subplots()
    _draw_models(axes, ranked, reference)
    return figure


def activity_figure(evaluation: pd.DataFrame, reference: str, baseline: str) -> Figure:
    """NDCG@10 of the reference and of one baseline in each group of customers by activity."""
    figure = Figure(figsize=(_WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    for model, offset, color in ((reference, -0.17, ACCENT), (baseline, 0.17, PLAIN)):
        by_group = {group: metric_values(evaluation, group, "ndcg").reindex([model]) for group in ACTIVITY}
        rows = pd.concat(by_group)
        _bars(axes, rows, np.arange(len(rows)) + offset, height=0.32, colors=[color] * len(rows), label=model)
    _name_rows(axes, list(ACTIVITY))
    _plain_frame(axes)
    legend = figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=_NORMAL)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw_models(axes: Axes, ranked: pd.DataFrame, reference: str) -> None:
    """A bar for each model, from top to bottom, the reference highlighted."""
    colors = [ACCENT if model == reference else PLAIN for model in ranked.index]
    _bars(axes, ranked, np.arange(len(ranked)), height=0.68, colors=colors)
    _name_rows(axes, [str(model) for model in ranked.index])
    for model, label in zip(ranked.index, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if model == reference else "normal")
    _plain_frame(axes)


def _bars(
    axes: Axes, rows: pd.DataFrame, positions: np.ndarray, *, height: float, colors: list[str], label: str | None = None
) -> None:
    """Horizontal bars with intervals, and the value after each; rows without a value stay empty."""
    value, low, high = (rows[name].to_numpy() for name in ("value", "ci_low", "ci_high"))
    axes.barh(positions, value, height=height, color=colors, label=label)
    axes.errorbar(value, positions, xerr=[value - low, high - value], fmt="none", ecolor=INK, elinewidth=1)
    for position, number, end in zip(positions, value, high, strict=True):
        if np.isfinite(number):
            text = axes.annotate(f"{number:.4f}", (end, position), (4, 0), textcoords="offset points", va="center")
            text.set(fontsize=_SMALL, color=INK)
    axes.set_xmargin(0.2)  # room for the numbers
    axes.set_xlabel("NDCG@10, 95% interval", fontsize=_SMALL, color=MUTED)


def coverage_figure(evaluation: pd.DataFrame, reference: str) -> Figure:
    """NDCG@10 against catalog coverage@10 over all purchases; the upper right is best."""
    accuracy = metric_values(evaluation, ALL_PURCHASES, "ndcg")["value"].sort_values(kind="stable")
    coverage = metric_values(evaluation, ALL_PURCHASES, "catalog_coverage")["value"].reindex(accuracy.index)
    figure = Figure(figsize=(_WIDTH, 3.3), layout="constrained")
    axes = figure.subplots()
    colors = [ACCENT if model == reference else MUTED for model in accuracy.index]
    axes.scatter(coverage, accuracy, c=colors, s=34, zorder=3)

    top = float(np.nanmax(accuracy.to_numpy(), initial=1e-9)) * 1.12
    right = float(np.nanmax(coverage.to_numpy(), initial=1e-9)) * 1.08
    axes.set_xlim(-0.03 * right, right)
    axes.set_ylim(0, top)
    # Names are in a column to the right of the plot, without overlap, each with a line to its point.
    for model, height in zip(accuracy.index, _spread(accuracy.to_numpy(), 0.075 * top, top), strict=True):
        axes.annotate(
            str(model),
            (coverage[model], accuracy[model]),
            xytext=(1.04, height / top),
            textcoords="axes fraction",
            va="center",
            fontsize=_NORMAL,
            color=ACCENT if model == reference else INK,
            fontweight="bold" if model == reference else "normal",
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": PLAIN, "linewidth": 0.7, "shrinkA": 2, "shrinkB": 4},
        )
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_xlabel("share of the catalog in at least one list", fontsize=_SMALL, color=MUTED)
    axes.set_ylabel("NDCG@10", fontsize=_SMALL, color=MUTED)
    _plain_frame(axes, grid="both")
    return figure


def _spread(heights: np.ndarray, gap: float, top: float) -> np.ndarray:
    """Ascending heights, moved so that they are at least `gap` apart and not above `top`."""
    moved = heights.astype(np.float64)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    moved[-1:] = np.minimum(moved[-1:], top)
    for i in range(len(moved) - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    return moved


def _name_rows(axes: Axes, names: list[str]) -> None:
    # A "$" in the name of a model must not start a formula.
    axes.set_yticks(np.arange(len(names)), labels=names, parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=_NORMAL, labelcolor=INK)


def _plain_frame(axes: Axes, grid: Literal["x", "both"] = "x") -> None:
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.tick_params(axis=grid, labelsize=_SMALL, labelcolor=MUTED)
    axes.tick_params(axis="both", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def to_svg(figure: Figure, alt: str) -> Markup:
    """The figure as an `<svg>` element of an HTML page.

    Text stays text, in the font of the page. The same figure gives the same bytes. `alt`, the description for screen
    readers, must be unique on a page.
    """
    buffer = io.StringIO()
    # Ids are hashes of their content and this salt, so they are reproducible, and unique on a page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    # Inside HTML, SVG must not have a document type, namespaces or metadata.
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    # matplotlib numbers its groups (axes_1, text_2) for each figure; nothing refers to these ids.
    svg = re.sub(r'\sid="[\w.]+_\d+"', "", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box, "matplotlib writes a viewBox"
    root = f'<svg role="img" aria-label="{escape(alt)}" {box[0]}>'
    return Markup(root + svg[svg.index(">") + 1 :])
