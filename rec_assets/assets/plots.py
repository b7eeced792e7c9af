"""Plots for asset metadata: a figure becomes an inline image in Markdown."""

import base64
import datetime as dt
import io
from collections.abc import Sequence

import dagster as dg
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_COLOR = "#3b6ea5"


def as_markdown(figure: Figure) -> dg.MarkdownMetadataValue:
    """A figure as an inline PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def bars(values: pd.Series, title: str, unit: str) -> Figure:
    """Horizontal bars in the given order."""
    figure, axes = _plot(title, 7, 0.28 * len(values) + 1)
    axes.barh([str(name) for name in values.index][::-1], values.to_numpy()[::-1], color=_COLOR)
    axes.set_xlabel(unit)
    return figure


def line(days: Sequence[dt.date], values: Sequence[float], title: str, unit: str) -> Figure:
    """A line with one value per day."""
    figure, axes = _plot(title, 9, 2.6)
    axes.plot(pd.DatetimeIndex(pd.Index(days)), values, linewidth=1, color=_COLOR)
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    return figure


def histogram(values: pd.Series, title: str) -> Figure:
    """A histogram of values."""
    figure, axes = _plot(title, 7, 2.6)
    axes.hist(values.dropna(), bins=40, color=_COLOR)
    return figure


def _plot(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty plot; width and height in inches."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
