"""The gate's decision on one readable page: each rule with its number, and the comparison as a plot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from matplotlib.figure import Figure

from rec_assets.recsys.evaluation.plots import ACCENT, INK, MUTED, to_svg
from rec_assets.recsys.release.gate import Comparison, GateCheck

_RED = "#b3261e"


@dataclass(frozen=True)
class Decision:
    """What the page is about.

    Attributes:
        as_of: The day of the decision.
        trained: The day that the challenger's models were trained as of.
        challenger, champion: Versions; no champion before the first release.
        checks: The gate's rules, applied.
        comparisons: On which the rule of quality rests; none without a champion.
        not_learned: What the challenger does without, and why.
    """

    as_of: dt.date
    trained: dt.date
    challenger: int
    champion: int | None
    checks: Sequence[GateCheck]
    comparisons: Sequence[Comparison]
    not_learned: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> str:
        """Why not, in words."""
        return "; ".join(check.says for check in self.checks if not check.passed) or "every rule holds"


def decision_table(decision: Decision) -> str:
    """The rules as a Markdown table."""
    rows = [f"| {check.name} | {'✓' if check.passed else '✗'} | {check.says} |" for check in decision.checks]
    return "\n".join(["| rule | | |", "| --- | --- | --- |", *rows])


def comparison_figure(comparisons: Sequence[Comparison]) -> Figure:
    """How much better (right) or worse (left) the challenger is, with 95 % intervals."""
    figure = Figure(figsize=(6.4, 0.9 + 0.5 * len(comparisons)), layout="constrained")
    axes = figure.subplots()
    for row, each in enumerate(comparisons):
        low, mean, high = (float(value) for value in (each.difference.low, each.difference.mean, each.difference.high))
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
        said = "; ".join(f"{each.list_name}: {float(each.difference.mean):+.4f}" for each in decision.comparisons)
        plot = to_svg(comparison_figure(decision.comparisons), f"Difference in NDCG@10 by list: {said}")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(decision=decision, plot=plot)
