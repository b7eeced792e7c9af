"""Effects, intervals and tests, compared with scipy and statsmodels and on simulated shops."""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from rec_assets.recsys.experiments.experiment_metrics import METRICS
from rec_assets.recsys.experiments.inference import (
    Effect,
    always_valid_p_value,
    always_valid_radius,
    days_needed,
    detectable_effect,
    estimate_effect,
    guardrail_excess,
)
from rec_assets.recsys.experiments.moments import Metric, Moments, metric_value
from rec_assets.recsys.experiments.sample_ratio import sample_ratio

REVENUE, CTR, AOV = METRICS["revenue_per_visitor"], METRICS["ctr"], METRICS["average_order_value"]


def shoppers(rng: np.random.Generator, n: int, *, ctr: float = 0.1, order: float = 40.0) -> pd.DataFrame:
    """Shoppers who differ in impressions, click rate and spend; their prior spend predicts a part of the spend."""
    rich = rng.gamma(2.0, 0.5, n)
    impressions = rng.poisson(20, n) + 1
    keen = rng.beta(2, 2 / ctr - 2, n)
    orders = rng.poisson(0.8 * rich)
    return pd.DataFrame(
        {
            "impressions": impressions,
            "clicks": rng.binomial(impressions, keen),
            "orders": orders,
            "revenue": order * orders * rng.lognormal(-0.125, 0.5, n),
            "prior_spend": 100 * rich * rng.lognormal(-0.125, 0.5, n),
        }
    )


def compared(metric: Metric, control: pd.DataFrame, treatment: pd.DataFrame, **how: object) -> Effect:
    return estimate_effect(metric, Moments.from_units(control), Moments.from_units(treatment), **how)  # type: ignore[arg-type]


def test_sums_of_parts_add_up_to_the_sums_of_all_units() -> None:
    units = shoppers(np.random.default_rng(1), 900)
    whole, parts = Moments.from_units(units), Moments.from_units(units[:200]) + Moments.from_units(units[200:])
    np.testing.assert_allclose(parts.gram, whole.gram)
    assert whole.units == 900
    assert whole.mean("revenue") == pytest.approx(units["revenue"].mean())
    assert whole.covariance("revenue", "prior_spend") == pytest.approx(units["revenue"].cov(units["prior_spend"]))
    with pytest.raises(ValueError, match="can't be added"):
        whole + Moments.from_units(units[["revenue"]])


def test_a_difference_of_means_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(2)
    one, other = shoppers(rng, 5000), shoppers(rng, 4000, order=42)
    found = compared(REVENUE, one, other)
    means = CompareMeans(DescrStatsW(other["revenue"]), DescrStatsW(one["revenue"]))
    assert (found.low, found.high) == pytest.approx(means.zconfint_diff(usevar="unequal"))
    assert found.p_value == pytest.approx(means.ztest_ind(usevar="unequal")[1])
    assert found.p_value == pytest.approx(
        stats.ttest_ind(other["revenue"], one["revenue"], equal_var=False).pvalue, rel=0.01
    )


def test_the_error_of_a_ratio_agrees_with_a_bootstrap_over_units() -> None:
    rng = np.random.default_rng(3)
    units = shoppers(rng, 3000)
    for metric in (CTR, AOV):

        def ratio(rows: npt.NDArray[np.int64], metric: Metric = metric) -> float:
            drawn = units.iloc[rows]
            return float(drawn[metric.numerator].sum() / drawn[metric.denominator].sum())

        found = metric_value(metric, Moments.from_units(units))
        assert found.value == pytest.approx(ratio(np.arange(len(units))))
        drawn = [ratio(rng.integers(0, len(units), len(units))) for _ in range(600)]
        assert found.error == pytest.approx(np.std(drawn), rel=0.1)


def test_cuped_narrows_the_interval_without_bias() -> None:
    rng, differences = np.random.default_rng(4), []
    for _ in range(200):
        one, other = shoppers(rng, 1000), shoppers(rng, 1000, order=44)
        plain, adjusted = (compared(REVENUE, one, other, covariate=covariate) for covariate in (None, "prior_spend"))
        differences.append((plain.difference.value, adjusted.difference.value))
        assert adjusted.difference.error < plain.difference.error
        assert adjusted.variance_reduction > 0.03
    truth = 0.8 * 4  # orders of a shopper, times the difference in order value
    for plain_or_adjusted in np.array(differences).T:
        assert plain_or_adjusted.mean() == pytest.approx(truth, abs=3 * plain_or_adjusted.std() / math.sqrt(200))


@pytest.mark.parametrize(("metric", "truth"), [(CTR, 0.01), (AOV, 4.0), (REVENUE, 3.2)], ids=["ctr", "aov", "revenue"])
def test_95_of_100_intervals_contain_a_known_effect(metric: Metric, truth: float) -> None:
    rng, covered = np.random.default_rng(5), 0
    for _ in range(500):
        one, other = shoppers(rng, 1500), shoppers(rng, 1500, ctr=0.11, order=44)
        found = compared(metric, one, other, covariate="prior_spend")
        covered += found.low <= truth <= found.high
        assert found.always_low < found.low < found.high < found.always_high
    assert 0.93 <= covered / 500 <= 0.97


def looked_at_daily(rng: np.random.Generator, effect: float, days: int = 60, daily: int = 60) -> list[Effect]:
    """Daily effects of an experiment whose shoppers return and spend more."""
    n = days * daily
    rich, first = rng.gamma(2.0, 0.5, n), np.repeat(np.arange(days), daily)
    treated, revenue = rng.random(n) < 0.5, np.zeros(n)
    found = []
    for day in range(days):
        comes = (first == day) | ((first < day) & (rng.random(n) < 0.2))
        spent = 30 * rng.poisson(0.3 * rich) * rng.lognormal(-0.125, 0.5, n) * (1 + effect * treated)
        revenue += np.where(comes, spent, 0)
        values, here = np.column_stack([np.ones(n), revenue, 100 * rich]), first <= day
        sides = (values[here & ~treated], values[here & treated])
        control, treatment = (Moments(("revenue", "prior_spend"), side.T @ side) for side in sides)
        found.append(estimate_effect(REVENUE, control, treatment, covariate="prior_spend"))
    return found


@pytest.mark.integration
def test_always_valid_intervals_keep_their_level_over_60_daily_looks() -> None:
    rng = np.random.default_rng(6)
    fixed = always = 0
    for _ in range(200):
        effects = looked_at_daily(rng, 0.0)
        always += any(each.always_low > 0 or each.always_high < 0 for each in effects)
        fixed += any(each.low > 0 or each.high < 0 for each in effects)
    assert always / 200 <= 0.05
    assert fixed / 200 > 0.15  # fixed-end intervals do not hold for daily looks


def test_daily_looks_detect_a_large_effect() -> None:
    rng = np.random.default_rng(7)
    assert all(any(each.always_low > 0 for each in looked_at_daily(rng, 0.5)) for _ in range(10))


def test_the_always_valid_interval_and_p_value_agree() -> None:
    for difference in (0.1, 0.3, 1.0):
        radius = always_valid_radius(0.1, 0.2, 0.05)
        assert (always_valid_p_value(difference, 0.1, 0.2) < 0.05) == (difference > radius)
    at_the_edge = always_valid_p_value(always_valid_radius(0.1, 0.2, 0.03), 0.1, 0.2)
    assert at_the_edge == pytest.approx(0.03)


@pytest.mark.integration
def test_the_sample_ratio_test_agrees_with_scipy_and_is_always_valid() -> None:
    found = sample_ratio({"a": 5210, "b": 4790}, {"a": 0.5, "b": 0.5})
    assert found.p_value == pytest.approx(stats.chisquare([5210, 4790]).pvalue)
    assert found.expected == {"a": 5000, "b": 5000}
    rng, false = np.random.default_rng(8), 0
    for _ in range(300):
        counts = np.cumsum(rng.multinomial(100, [0.2, 0.3, 0.5], size=60), axis=0)
        shares = {"a": 0.1, "b": 0.15, "c": 0.25}  # of half the traffic
        false += any(sample_ratio(dict(zip("abc", row, strict=True)), shares).always_p_value < 0.05 for row in counts)
    assert false / 300 <= 0.05


def test_a_loss_of_one_unit_in_ten_of_a_variant_is_detected() -> None:
    rng, found = np.random.default_rng(9), 0
    for _ in range(50):
        a, b = rng.binomial(40_000, 0.5), rng.binomial(40_000, 0.45)
        found += sample_ratio({"a": a, "b": b}, {"a": 0.5, "b": 0.5}).always_p_value < 0.001
    assert found == 50


def test_the_detectable_effect_is_detected_in_80_of_100_cases() -> None:
    rng, error, tau = np.random.default_rng(10), 0.1, 0.5
    truth = detectable_effect(error, tau)
    found = rng.normal(truth, error, 20_000) > always_valid_radius(error, tau, 0.05)
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    days = days_needed(error, days=10, planned=tau)
    assert detectable_effect(error * math.sqrt(10 / days), tau) == pytest.approx(tau)
    # A fixed-end interval needs about half of the days.
    one_look = ((stats.norm.isf(0.025) + stats.norm.isf(0.2)) * error / tau) ** 2 * 10
    assert 1.5 < days / one_look < 2.5


@pytest.mark.parametrize("metric", ["return_rate", "conversion"])
def test_a_guardrail_is_broken_by_a_larger_change_for_the_worse(metric: str) -> None:
    rng, about = np.random.default_rng(11), METRICS[metric]
    sign = -1 if about.more_is_better else 1

    def units(share: float, n: int = 20_000) -> Moments:
        of = rng.binomial(1, share, n).astype(float)
        return Moments.from_units(pd.DataFrame({about.numerator: of, about.denominator or "one": np.ones(n)}))

    control = units(0.2)
    for change, low_is_up, high_is_down in ((0.4, True, False), (0.0, False, True), (0.1, False, False)):
        excess = guardrail_excess(about, control, units(0.2 * (1 + sign * change)), limit=0.1)
        assert (excess.low > 0, excess.high < 0) == (low_is_up, high_is_down), change
    covered = 0
    for _ in range(300):
        excess = guardrail_excess(about, units(0.2, 2000), units(0.2 * (1 + sign * 0.1), 2000), limit=0.1)
        covered += excess.low <= 0 <= excess.high
    assert covered >= 290


def test_too_few_units_give_nan() -> None:
    one = shoppers(np.random.default_rng(10), 1)
    nobody = compared(REVENUE, one.iloc[:0], one)
    assert math.isnan(nobody.difference.error) and math.isnan(nobody.always_low) and math.isnan(nobody.p_value)
    never = one.assign(orders=0, revenue=0.0)
    assert math.isnan(compared(AOV, never, never).difference.value)
    assert sample_ratio({}, {"a": 0.5, "b": 0.5}).always_p_value == 1.0
