"""An experiment, read on a day: effects, whether they can be trusted, and a verdict in plain words."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rec_assets.recsys.experiments.metrics import BEFORE, METRICS, PREFERENCE
from rec_assets.recsys.experiments.outcomes import Totals
from rec_assets.recsys.experiments.spec import CHAMPION, CUSTOMER, Experiment
from rec_assets.recsys.experiments.statistics import (
    Effect,
    Harm,
    Metric,
    Moments,
    SampleRatio,
    Value,
    days_needed,
    detectable_effect,
    effect_of,
    harm_of,
    sample_ratio,
    value_of,
)

RATIO_LEVEL = 0.001
"""p-value, for all looks, under which shares that are off aren't taken for chance."""

LEAST_UNITS = 100
"""Units a variant must have before anything is said of it."""

_FORETOLD = {"conversion", "revenue_per_visitor", "repeat_purchase", "average_order_value"}
"""Metrics of which earlier purchases foretell a part."""

Kind = Literal["better", "worse", "undecided", "invalid"]


@dataclass(frozen=True)
class Verdict:
    """What is to be made of it: one word, and why."""

    kind: Kind
    says: str


@dataclass(frozen=True)
class Comparison:
    """A variant beside the control.

    Attributes:
        variant: Its name.
        effects: Metric → effect.
        verdict: By the main metric and the guard rails.
        detectable: Relative change of the main metric that would be seen by now.
        days_left: Days until the experiment's minimal effect would be; NaN where it can't be told.
    """

    variant: str
    effects: Mapping[str, Effect]
    verdict: Verdict
    detectable: float
    days_left: float


@dataclass(frozen=True)
class ExperimentResult:
    """An experiment as it stands.

    Attributes:
        experiment: Which.
        day: After which day's traffic.
        totals: Variant → all that was logged.
        ratio: Units by variant beside their shares.
        versions: Variant → versions of the registry that its answers were made by.
        comparisons: One a variant but the control.
    """

    experiment: Experiment
    day: dt.date
    totals: Mapping[str, Totals]
    ratio: SampleRatio
    versions: Mapping[str, list[int]]
    comparisons: list[Comparison]

    @property
    def total(self) -> Totals:
        """Of all variants."""
        return sum(self.totals.values(), Totals())

    @property
    def days(self) -> int:
        """Days of traffic so far."""
        return self.experiment.days_until(self.day)


def analyze(
    experiment: Experiment,
    day: dt.date,
    totals: Mapping[str, Totals],
    moments: Mapping[str, Moments],
    versions: Mapping[str, list[int]],
) -> ExperimentResult:
    """Judge an experiment by the units' sums.

    Args:
        experiment: Which.
        day: After which day's traffic.
        totals: Variant → all that was logged.
        moments: Variant → sums over its units; of numbers as in `metrics`.
        versions: Variant → versions of the registry that its answers were made by.
    """
    names = list(experiment.variants)
    shares = {name: each.share for name, each in experiment.variants.items()}
    ratio = sample_ratio({name: each.units for name, each in moments.items()}, shares)
    days = experiment.days_until(day)
    wrong = _invalid(experiment, sum(totals.values(), Totals()), ratio, versions)
    few = min((moments[name].units if name in moments else 0 for name in names), default=0)
    comparisons = []
    level = experiment.level / max(len(names) - 1, 1)  # Bonferroni
    for name in names[1:]:
        if experiment.design == "interleave":
            effects = {"preference": preference_of(experiment, sum_of(moments), level)} if moments else {}
            main, rails = "preference", {}
        else:
            effects = {
                metric: effect_of(
                    about, moments[names[0]], moments[name], alpha=level, minimal_effect=experiment.minimal_effect,
                    covariate=BEFORE if metric in _FORETOLD and experiment.unit == CUSTOMER else None,
                )
                for metric, about in METRICS.items()
            } if few else {}  # fmt: skip
            main, rails = experiment.main_metric, experiment.guard_rails
        effect = effects.get(main)
        error = effect.difference.error if effect else math.nan
        wanted = experiment.minimal_effect * abs(effect.control.value) if effect else math.nan
        left = max(days_needed(error, days, wanted, level) - days, 0.0) if error > 0 else math.nan
        detectable = effect.relative(detectable_effect(error, wanted, level)) if effect else math.nan
        harms = {
            str(metric): harm_of(METRICS[metric], moments[names[0]], moments[name], limit, level)
            for metric, limit in rails.items()
        } if few else {}  # fmt: skip
        verdict = (
            Verdict("invalid", wrong) if wrong else
            Verdict("undecided", f"only {few} units in the smallest variant: {LEAST_UNITS} are the least to judge by")
            if few < LEAST_UNITS or effect is None else
            _judged(experiment, day, main, effect, harms, detectable, left)
        )  # fmt: skip
        comparisons.append(Comparison(name, effects, verdict, detectable, left))
    return ExperimentResult(experiment, day, totals, ratio, versions, comparisons)


def sum_of(moments: Mapping[str, Moments]) -> Moments:
    """All variants' units together."""
    found = list(moments.values())
    total = found[0]
    for each in found[1:]:
        total = total + each
    return total


def preference_of(experiment: Experiment, moments: Moments, level: float) -> Effect:
    """Interleaving: the share of clicks that the other ranking won, beside a half."""
    won, half = value_of(PREFERENCE, moments), 0.5
    difference = replace(won, value=won.value - half)
    return Effect.of(Value(half, 0.0), won, difference, tau=experiment.minimal_effect * half, alpha=level)


def metric_of(name: str) -> Metric:
    """The metric of an effect."""
    return PREFERENCE if name == "preference" else METRICS[name]


def _invalid(experiment: Experiment, totals: Totals, ratio: SampleRatio, versions: Mapping[str, list[int]]) -> str:
    """Why nothing can be concluded; empty where it can."""
    if ratio.always_p_value < RATIO_LEVEL:
        seen = ", ".join(
            f"{name} {count:,} ({ratio.expected[name]:,.0f} expected)" for name, count in ratio.found.items()
        )
        return (
            f"the variants have other numbers of units than their shares give: {seen}. Something lets one variant lose "
            "or gain shoppers (a page that fails, a redirect, a filter of robots): find it, and begin anew"
        )
    if totals.switched:
        return (
            f"{totals.switched:,} units saw more than one variant: shares, salt or variants were changed while it ran, "
            "or an earlier experiment had its name. Begin anew under another name"
        )
    for name, variant in experiment.variants.items():
        if variant.model != CHAMPION and len(found := versions.get(name, [])) > 1:
            return (
                f"{name} was answered by versions {' and '.join(map(str, found))}: the alias {variant.model!r} moved "
                "while it ran. Begin anew, and name a version"
            )
    return ""


def _judged(
    experiment: Experiment,
    day: dt.date,
    main: str,
    effect: Effect,
    harms: Mapping[str, Harm],
    detectable: float,
    days_left: float,
) -> Verdict:
    sign, title = 1 if metric_of(main).more_is_better else -1, metric_of(main).title
    broken = [
        f"{metric_of(name).title} breaks its guard rail, by at least {harm.low:.1%} of the control's value"
        for name, harm in harms.items()
        if harm.low > 0
    ]
    if broken:
        return Verdict("worse", "; ".join(broken))
    if not math.isfinite(effect.relative(effect.always_low)):
        return Verdict("undecided", f"no {title} to compare yet: were its events sent?")
    change = "{:+.1%} [{:+.1%}, {:+.1%}]".format(
        *(effect.relative(each) for each in (effect.difference.value, effect.always_low, effect.always_high))
    )
    ends = sorted((sign * effect.always_low, sign * effect.always_high))
    if ends[1] < 0:
        return Verdict("worse", f"{title} {change} beside {experiment.control}")
    unsure = [metric_of(name).title for name, harm in harms.items() if not harm.high <= 0]
    guarded = f"; whether {' and '.join(unsure)} keeps its guard rail can't be told yet" if unsure else ""
    if ends[0] > 0:
        return Verdict("better", f"{title} {change} beside {experiment.control}{guarded}")
    wait = _wait(experiment, day, days_left)
    return Verdict(
        "undecided",
        f"no difference in {title} detectable yet: {change}; a change of {detectable:.1%} would be seen{wait}{guarded}",
    )


def _wait(experiment: Experiment, day: dt.date, days_left: float) -> str:
    """When the minimal effect would be seen, in words that go on."""
    least, to_come = f"{experiment.minimal_effect:.0%}", max((experiment.end - day).days, 0)
    if days_left < 1:
        return f": one of {least} would most likely have shown by now"
    if not to_come:
        return f", and one of {least} would have taken {days_left:,.0f} more days of traffic"
    late = f"; the experiment ends in {to_come} days" if days_left > to_come else ""
    return f", and one of {least} in {days_left:,.0f} more days{late}"
