"""Tables in README.md, between its markers, and the plot of the results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.models import HYBRID, UNTUNED
from rec_assets.recsys.evaluation.plots import ACCENT, GRID, INK, MUTED

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
PUBLISHED = ", published"
"""Suffix of models with published results of others."""


def headline(part: pd.DataFrame) -> tuple[tuple[str, int], tuple[str, int]]:
    """The metric that sorts a protocol, and a second metric."""
    return (("hit_rate", 50), ("hit_rate", 10)) if part["k"].max() == 50 else (("ndcg", 10), ("hit_rate", 10))


def ranked(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of one protocol for its first metric, best first."""
    metric, k = headline(part)[0]
    rows = part[(part["metric"] == metric) & (part["k"] == k)]
    return rows.sort_values(["value", "model"], ascending=[False, True], ignore_index=True)


def table(results: pd.DataFrame) -> str:
    """One Markdown table of all protocols, the hybrid in bold."""
    lines = [
        "| dataset | protocol | model | NDCG@10 (cold: HR@50) | 95 % interval | HR@10 | customers | fit, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for _, part in results.groupby(["dataset", "protocol"], sort=False):
        metric, k = headline(part)[1]
        second = part[(part["metric"] == metric) & (part["k"] == k)].set_index("model")["value"]
        for row in ranked(part).to_dict("records"):
            model = f"**{row['model']}**" if row["model"] in (HYBRID, UNTUNED) else row["model"]
            interval = "" if np.isnan(row["ci_low"]) else f"{_short(row['ci_low'])} – {_short(row['ci_high'])}"
            customers = "" if np.isnan(row["customers"]) else f"{int(row['customers']):,}"
            fit = "" if np.isnan(row["fit_seconds"]) else f"{row['fit_seconds']:.1f}"
            cells = [row["dataset"], row["protocol"], model, _short(row["value"]), interval]
            cells += [_short(second.get(row["model"], np.nan)), customers, fit]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def versus_table(versus: pd.DataFrame) -> str:
    """Markdown table of the hybrid compared with the best peers."""
    lines = [
        "| dataset | protocol | best peer | metric | hybrid − peer | 95 % interval | relative |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in versus.to_dict("records"):
        cells = [row["dataset"], row["protocol"], row["peer"], f"{row['metric']}@{row['k']}", f"{row['value']:+.4f}"]
        cells += [f"{row['ci_low']:+.4f} – {row['ci_high']:+.4f}", f"{row['relative']:+.1%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}".lstrip("0")


def write_readme(results: pd.DataFrame, versus: pd.DataFrame) -> None:
    """Replace the text between the markers."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    shown = f"{table(results)}\n"
    if len(versus):
        shown += f"\n{versus_table(versus)}\n"
    README.write_text(f"{before}{BEGIN}\n{shown}{END}{after}", encoding="utf-8")


def figure(results: pd.DataFrame) -> Figure:
    """A panel for each protocol: a dot for each model with its interval, best first."""
    parts = [(f"{dataset}\n{protocol}", part) for (dataset, protocol), part in _protocols(results)]
    heights = [ranked(part)["model"].nunique() for _, part in parts]
    columns = 2
    rows = -(-len(parts) // columns)
    tallest = [max(heights[row * columns : (row + 1) * columns]) for row in range(rows)]
    size = (11, sum(1.0 + 0.22 * count for count in tallest))
    drawn = Figure(figsize=size, layout="constrained")
    axes = drawn.subplots(rows, columns, squeeze=False, height_ratios=tallest).ravel()
    for panel in axes[len(parts) :]:
        panel.set_visible(False)
    for panel, (title, part) in zip(axes, parts, strict=False):
        best_first = ranked(part)
        place = np.arange(len(best_first))
        value = best_first["value"].to_numpy(float)
        ends = np.nan_to_num([value - best_first["ci_low"], best_first["ci_high"] - value])
        own = best_first["model"].isin([HYBRID, UNTUNED]).to_numpy()
        panel.errorbar(value, place, xerr=ends, fmt="none", ecolor=MUTED, elinewidth=1)
        panel.scatter(value, place, c=np.where(own, ACCENT, INK), s=np.where(own, 40, 18), zorder=3)
        panel.set_yticks(place, labels=best_first["model"].tolist(), fontsize=8, color=INK)
        panel.invert_yaxis()
        panel.set_title(title, loc="left", fontsize=10, color=INK)
        metric, k = headline(part)[0]
        panel.set_xlabel({"ndcg": "NDCG", "hit_rate": "hit rate"}[metric] + f"@{k}, 95% interval", fontsize=8)
        panel.tick_params(axis="both", length=0, labelsize=8, labelcolor=INK)
        panel.spines[:].set_visible(False)
        panel.grid(axis="x", color=GRID, linewidth=0.8)
        panel.set_axisbelow(True)
    return drawn


def _protocols(results: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    return [
        ((str(dataset), str(protocol)), part)
        for (dataset, protocol), part in results.groupby(["dataset", "protocol"], sort=False)
    ]
