"""Plots for asset metadata: a figure becomes an inline image in Markdown."""

import base64
import datetime as dt
import io
from collections.abc import Sequence

import pandas as pd
from dagster import MarkdownMetadataValue, MetadataValue
from matplotlib.figure import Figure


def as_markdown(figure: Figure) -> MarkdownMetadataValue:
    """A figure as an inline PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
    return MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def bars(values: pd.Series, title: str, unit: str) -> Figure:
    """Horizontal bars in the given order."""
    figure = Figure(figsize=(7, 0.28 * len(values) + 1))
    axes = figure.subplots()
    axes.barh([str(name) for name in values.index][::-1], values.to_numpy()[::-1], color="#3b6ea5")
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def line(days: Sequence[dt.date], values: Sequence[float], title: str, unit: str) -> Figure:
    """A line with one value per day."""
    figure = Figure(figsize=(9, 2.6))
    axes = figure.subplots()
    axes.plot(pd.DatetimeIndex(pd.Index(days)), values, linewidth=1, color="#3b6ea5")
    axes.set_title(title, loc="left")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def histogram(values: pd.Series, title: str, unit: str) -> Figure:
    """A histogram of values."""
    figure = Figure(figsize=(7, 2.6))
    axes = figure.subplots()
    axes.hist(values.dropna(), bins=40, color="#3b6ea5")
    axes.set_title(title, loc="left")
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
