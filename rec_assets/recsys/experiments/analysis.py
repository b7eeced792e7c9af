"""The result of an experiment after a day: effects, validity checks, and a verdict in plain words."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Literal

from rec_assets.recsys.experiments.experiment_metrics import METRICS, PREFERENCE, PRIOR_SPEND, Totals
from rec_assets.recsys.experiments.experiments_file import CHAMPION, CUSTOMER, Experiment
from rec_assets.recsys.experiments.inference import (
    Effect,
    GuardrailExcess,
    days_needed,
    detectable_effect,
    estimate_effect,
    guardrail_excess,
)
from rec_assets.recsys.experiments.moments import Metric, MetricValue, Moments, metric_value
from rec_assets.recsys.experiments.sample_ratio import SampleRatio, sample_ratio

MAX_MISMATCH_P_VALUE = 0.001
"""Always-valid p-value below which a sample ratio mismatch makes the experiment invalid."""

MIN_UNITS = 100
"""Units in each variant from which the experiment has a verdict."""

_COVARIATE_METRICS = {"conversion", "revenue_per_visitor", "repeat_purchase", "average_order_value"}
"""Metrics that earlier purchases predict in part."""


@dataclass(frozen=True)
class ExperimentVerdict:
    """The conclusion, and a sentence that gives the reason."""

    outcome: Literal["better", "worse", "undecided", "invalid"]
    message: str


@dataclass(frozen=True)
class VariantComparison:
    """A variant compared with the control.

    Attributes:
        effects: Metric → effect.
        verdict: Based on the main metric and the guardrails.
        detectable_effect: Relative change of the main metric that could be detected now.
        days_left: Days until the minimum detectable effect could be detected; NaN if unknown.
    """

    variant: str
    effects: Mapping[str, Effect]
    verdict: ExperimentVerdict
    detectable_effect: float
    days_left: float


@dataclass(frozen=True)
class ExperimentResult:
    """The state of an experiment after a day.

    Attributes:
        day: Last day with traffic that counts here.
        totals: Variant → everything that was logged.
        sample_ratio: Units by variant compared with the shares.
        model_versions: Variant → registry versions that made its responses.
        comparisons: One for each variant except the control.
    """

    experiment: Experiment
    day: dt.date
    totals: Mapping[str, Totals]
    sample_ratio: SampleRatio
    model_versions: Mapping[str, list[int]]
    comparisons: list[VariantComparison]

    @property
    def total(self) -> Totals:
        """Totals of all variants."""
        return sum(self.totals.values(), Totals())

    @property
    def days(self) -> int:
        """Days with traffic so far."""
        return self.experiment.traffic_days(self.day)


def analyze(
    experiment: Experiment,
    day: dt.date,
    totals: Mapping[str, Totals],
    moments: Mapping[str, Moments],
    model_versions: Mapping[str, list[int]],
) -> ExperimentResult:
    """Analyze an experiment from the sums over its units; for the arguments, see `ExperimentResult`.

    `moments`: Variant → sums over its units of the measurements in `experiment_metrics`.
    """
    control, *treatments = experiment.variants
    shares = {name: variant.share for name, variant in experiment.variants.items()}
    ratio = sample_ratio({name: sums.units for name, sums in moments.items()}, shares)
    days = experiment.traffic_days(day)
    invalid = _why_invalid(experiment, sum(totals.values(), Totals()), ratio, model_versions)
    fewest_units = min(moments[name].units if name in moments else 0 for name in experiment.variants)
    level = experiment.significance_level / max(len(treatments), 1)  # Bonferroni
    comparisons = []
    for name in treatments:
        has_effects = fewest_units or experiment.design == "interleave"
        effects = _effects(experiment, moments, control, name, level) if has_effects else {}
        effect, detectable, days_left = effects.get(experiment.deciding_metric), math.nan, math.nan
        if effect is not None:
            error = effect.difference.error
            planned = experiment.minimum_detectable_effect * abs(effect.control.value)
            detectable = effect.relative(detectable_effect(error, planned, level))
            days_left = max(days_needed(error, days, planned, level) - days, 0.0) if error > 0 else math.nan
        if invalid:
            verdict = ExperimentVerdict("invalid", invalid)
        elif fewest_units < MIN_UNITS or effect is None:
            message = f"only {fewest_units} units in the smallest variant; {MIN_UNITS} are needed"
            verdict = ExperimentVerdict("undecided", message)
        else:
            excesses = {
                str(metric): guardrail_excess(METRICS[metric], moments[control], moments[name], limit, level)
                for metric, limit in experiment.guardrails.items()
            }
            verdict = _verdict(experiment, day, effect, excesses, detectable, days_left)
        comparisons.append(VariantComparison(name, effects, verdict, detectable, days_left))
    return ExperimentResult(experiment, day, totals, ratio, model_versions, comparisons)


def _effects(
    experiment: Experiment, moments: Mapping[str, Moments], control: str, name: str, level: float
) -> dict[str, Effect]:
    if experiment.design == "interleave":
        if not moments:
            return {}
        won, even = metric_value(PREFERENCE, reduce(add, moments.values())), MetricValue(0.5, 0.0)
        difference = replace(won, value=won.value - even.value)
        planned = experiment.minimum_detectable_effect * even.value
        return {"preference": Effect.from_difference(even, won, difference, planned=planned, level=level)}
    with_covariate = _COVARIATE_METRICS if experiment.unit == CUSTOMER else ()
    return {
        metric: estimate_effect(
            definition, moments[control], moments[name], level=level,
            minimum_detectable_effect=experiment.minimum_detectable_effect,
            covariate=PRIOR_SPEND if metric in with_covariate else None,
        )
        for metric, definition in METRICS.items()
    }  # fmt: skip


def metric_named(name: str) -> Metric:
    """The definition of a metric."""
    return PREFERENCE if name == "preference" else METRICS[name]


def _why_invalid(
    experiment: Experiment, totals: Totals, ratio: SampleRatio, model_versions: Mapping[str, list[int]]
) -> str:
    """Why the numbers can't be trusted; empty if they can."""
    if ratio.always_p_value < MAX_MISMATCH_P_VALUE:
        counts = ", ".join(
            f"{name} {units:,} ({ratio.expected[name]:,.0f} expected)" for name, units in ratio.units.items()
        )
        return (
            f"sample ratio mismatch: the numbers of units do not match the shares: {counts}. One variant loses or "
            "gains shoppers, for example by a broken page, a redirect or a robot filter. Fix it and start another one"
        )
    if totals.switched:
        return (
            f"{totals.switched:,} units saw more than one variant: shares, salt or variants changed while the "
            "experiment ran, or an earlier experiment had the same name. Start a new experiment with another name"
        )
    for name, variant in experiment.variants.items():
        if variant.model != CHAMPION and len(versions := model_versions.get(name, [])) > 1:
            return (
                f"the model versions {' and '.join(map(str, versions))} made responses of {name}: the alias "
                f"{variant.model!r} moved while the experiment ran. Start a new experiment with a version number"
            )
    return ""


def _verdict(
    experiment: Experiment,
    day: dt.date,
    effect: Effect,
    excesses: Mapping[str, GuardrailExcess],
    detectable: float,
    days_left: float,
) -> ExperimentVerdict:
    main = metric_named(experiment.deciding_metric)
    sign, title = 1 if main.more_is_better else -1, main.title
    broken = [
        f"{metric_named(name).title} breaks its guardrail by at least {excess.low:.1%} of the control's value"
        for name, excess in excesses.items()
        if excess.low > 0
    ]
    if broken:
        return ExperimentVerdict("worse", "; ".join(broken))
    if not math.isfinite(effect.relative(effect.always_low)):
        return ExperimentVerdict("undecided", f"no {title} to compare yet: check that your shop sends the events")
    change = "{:+.1%} [{:+.1%}, {:+.1%}]".format(
        *(effect.relative(value) for value in (effect.difference.value, effect.always_low, effect.always_high))
    )
    low, high = sorted((sign * effect.always_low, sign * effect.always_high))
    if high < 0:
        return ExperimentVerdict("worse", f"{title} {change} compared with {experiment.control}")
    open_guardrails = [metric_named(name).title for name, excess in excesses.items() if not excess.high <= 0]
    guarded = f"; the guardrail for {' and '.join(open_guardrails)} is not decided yet" if open_guardrails else ""
    if low > 0:
        return ExperimentVerdict("better", f"{title} {change} compared with {experiment.control}{guarded}")
    return ExperimentVerdict(
        "undecided",
        f"no difference in {title} detected yet: {change}; a change of {detectable:.1%} could be detected now"
        f"{_remaining_days(experiment, day, days_left)}{guarded}",
    )


def _remaining_days(experiment: Experiment, day: dt.date, days_left: float) -> str:
    """The end of a sentence: when the minimum detectable effect could be detected."""
    planned, days_to_end = f"{experiment.minimum_detectable_effect:.0%}", max((experiment.end - day).days, 0)
    if days_left < 1:
        return f"; the planned {planned} would most likely have been detected by now"
    if not days_to_end:
        return f"; the planned {planned} would have needed {days_left:,.0f} more days of traffic"
    end = f", but the experiment ends in {days_to_end} days" if days_left > days_to_end else ""
    return f", and the planned {planned} in {days_left:,.0f} more days{end}"
