"""The HTML page of a gate decision: the checks as a table, and the comparison as a plot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from rec_assets.recsys.evaluation.html_page import render_page
from rec_assets.recsys.evaluation.plots import ACCENT, INK, MUTED, to_svg
from rec_assets.recsys.release.gate import GateCheck, ListComparison

_RED = "#b3261e"


@dataclass(frozen=True)
class Decision:
    """The content of the page.

    Attributes:
        as_of: Day of the decision.
        training_day: As-of day of the challenger's models.
        challenger, champion: Versions; no champion before the first release.
        comparisons: Basis of the quality check; empty without a champion.
        missing_models: Models that the challenger does not have, and why.
    """

    as_of: dt.date
    training_day: dt.date
    challenger: int
    champion: int | None
    checks: Sequence[GateCheck]
    comparisons: Sequence[ListComparison]
    missing_models: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> str:
        """Messages of the failed checks."""
        return "; ".join(check.message for check in self.checks if not check.passed) or "all checks passed"


def decision_table(decision: Decision) -> str:
    """The checks as a Markdown table."""
    rows = [f"| {check.name} | {'✓' if check.passed else '✗'} | {check.message} |" for check in decision.checks]
    return "\n".join(["| check | passed | result |", "| --- | --- | --- |", *rows])


def comparison_figure(comparisons: Sequence[ListComparison]) -> Figure:
    """Differences in NDCG@10 with 95 % intervals; on the right the challenger is better."""
    figure = Figure(figsize=(6.4, 0.9 + 0.5 * len(comparisons)), layout="constrained")
    axes = figure.subplots()
    for row, each in enumerate(comparisons):
        low, mean, high = map(float, (each.difference.low, each.difference.mean, each.difference.high))
        color = ACCENT if mean >= 0 else _RED
        axes.plot([low, high], [row, row], color=color, linewidth=2)
        axes.plot([mean], [row], "o", color=color)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(comparisons)), [f"list “{each.list_name}”" for each in comparisons], color=INK)
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.set_xlabel("challenger − champion, NDCG@10", color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def decision_page(decision: Decision) -> str:
    """One self-contained HTML page."""
    plot = None
    if decision.comparisons:
        values = "; ".join(f"{each.list_name}: {float(each.difference.mean):+.4f}" for each in decision.comparisons)
        plot = to_svg(comparison_figure(decision.comparisons), f"Difference in NDCG@10 by list: {values}")
    return render_page(__package__, "decision_page.html.j2", {}, decision=decision, plot=plot)
