"""Verdicts of experiments, and the report page."""

import datetime as dt
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.experiments.analysis import ExperimentResult, analyze
from rec_assets.recsys.experiments.experiment_metrics import INTERLEAVED_CLICKS, MEASUREMENTS, TREATMENT_CLICKS, Totals
from rec_assets.recsys.experiments.experiments_file import Experiment
from rec_assets.recsys.experiments.experiments_page import REPORT_SCHEMA, as_table, experiments_page, summary
from rec_assets.recsys.experiments.moments import Moments

DAY = dt.date(2026, 3, 15)


def totals(**more: Any) -> dict[str, Totals]:
    return {"control": Totals(), "new": Totals(**more)}


def units(rng: np.random.Generator, n: int, *, spend: float = 1.0, returned: float = 0.05) -> Moments:
    rich = rng.gamma(4.0, 0.25, n)
    orders = rng.poisson(rich)
    revenue = 30 * spend * orders
    numbers = {
        "impressions": np.full(n, 20.0),
        "clicks": rng.binomial(20, 0.1, n),
        "carts": 0 * orders,
        "orders": orders,
        "revenue": revenue,
        "returned": revenue * rng.binomial(1, returned, n),
        "buyer": orders > 0,
        "repeater": orders > 1,
        "prior_spend": 30 * rich,
        INTERLEAVED_CLICKS: np.full(n, 2.0),
        TREATMENT_CLICKS: rng.binomial(2, 0.5, n),
    }
    return Moments.from_units(pd.DataFrame(numbers)[[*MEASUREMENTS, INTERLEAVED_CLICKS, TREATMENT_CLICKS]])


def experiment(*names: str, **more: Any) -> Experiment:
    names = names or ("control", "new")
    variants = {name: {"share": 1 / len(names)} for name in names}
    fields = {"name": "test", "start": "2026-03-02", "end": "2026-03-29", "variants": variants}
    return Experiment.model_validate({**fields, **more})


def result(
    about: Experiment | None = None, logged: dict[str, Totals] | None = None, **variants: Moments
) -> ExperimentResult:
    return analyze(about or experiment(), DAY, logged or totals(units=1), variants, {"control": [1], "new": [3]})


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_more_revenue_is_better_and_less_is_worse(rng: np.random.Generator) -> None:
    for spend, outcome in ((1.3, "better"), (0.75, "worse")):
        (found,) = result(control=units(rng, 4000), new=units(rng, 4000, spend=spend)).comparisons
        assert found.verdict.outcome == outcome
        assert "revenue per visitor" in found.verdict.message and "compared with control" in found.verdict.message


def test_an_undecided_verdict_gives_the_detectable_effect_and_the_remaining_days(rng: np.random.Generator) -> None:
    (found,) = result(control=units(rng, 2000), new=units(rng, 2000)).comparisons
    assert found.verdict.outcome == "undecided"
    assert 0.01 < found.detectable_effect < 0.2 and found.days_left > 1
    assert f"{found.detectable_effect:.1%} could be detected now" in found.verdict.message
    assert f"the planned 5% in {found.days_left:,.0f} more days" in found.verdict.message
    (many,) = result(control=units(rng, 200_000), new=units(rng, 200_000)).comparisons
    assert many.days_left == 0 and "would most likely have been detected by now" in many.verdict.message


def test_the_verdict_after_the_end_and_without_purchases_promises_no_days(rng: np.random.Generator) -> None:
    late = experiment(end=str(DAY))
    (over,) = result(late, control=units(rng, 2000), new=units(rng, 2000)).comparisons
    assert "would have needed" in over.verdict.message
    soon = experiment(end=str(DAY + dt.timedelta(days=1)))
    (short,) = result(soon, control=units(rng, 2000), new=units(rng, 2000)).comparisons
    assert short.verdict.message.endswith("the experiment ends in 1 days")
    (nothing,) = result(control=units(rng, 200, spend=0), new=units(rng, 200, spend=0)).comparisons
    assert nothing.verdict.outcome == "undecided" and nothing.verdict.message.startswith(
        "no revenue per visitor to compare yet"
    )


def test_too_few_units_are_undecided(rng: np.random.Generator) -> None:
    for few in ({"control": units(rng, 4000), "new": units(rng, 99)}, {"control": units(rng, 10)}, {}):
        about = experiment(salt="x", variants={"control": {"share": 0.97}, "new": {"share": 0.03}})
        (found,) = result(about, **few).comparisons
        assert found.verdict.outcome == "undecided" and "in the smallest variant" in found.verdict.message
        assert math.isnan(found.days_left) or found.days_left > 0


def test_a_sample_ratio_mismatch_is_invalid(rng: np.random.Generator) -> None:
    (found,) = result(control=units(rng, 4000), new=units(rng, 3400, spend=2)).comparisons
    assert found.verdict.outcome == "invalid"
    assert "new 3,400 (3,700 expected)" in found.verdict.message


def test_units_with_two_variants_are_invalid(rng: np.random.Generator) -> None:
    logged = totals(units=8003, switched=3)
    (found,) = result(None, logged, control=units(rng, 4000), new=units(rng, 4000)).comparisons
    assert found.verdict.outcome == "invalid" and "3 units saw more than one variant" in found.verdict.message


def test_an_alias_that_moved_is_invalid(rng: np.random.Generator) -> None:
    about = experiment(variants={"control": {"share": 0.5}, "new": {"share": 0.5, "model": "challenger"}})
    moments = {"control": units(rng, 4000), "new": units(rng, 4000)}
    found = analyze(about, DAY, totals(units=1), moments, {"control": [1, 2], "new": [3, 4]})
    assert found.comparisons[0].verdict.outcome == "invalid"
    assert "versions 3 and 4" in found.comparisons[0].verdict.message
    kept = analyze(about, DAY, totals(units=1), moments, {"control": [1, 2], "new": [3]})  # the champion can change
    assert kept.comparisons[0].verdict.outcome == "undecided"


def test_a_broken_guardrail_is_worse_even_if_the_main_metric_is_better(rng: np.random.Generator) -> None:
    about = experiment(guardrails={"return_rate": 0.2})
    better = units(rng, 20_000, spend=1.5, returned=0.15)
    (found,) = result(about, control=units(rng, 20_000), new=better).comparisons
    assert found.verdict.outcome == "worse" and "return rate by value breaks its guardrail" in found.verdict.message
    (kept,) = result(about, control=units(rng, 400), new=units(rng, 400, spend=2)).comparisons
    assert kept.verdict.outcome == "better" and "is not decided yet" in kept.verdict.message


def test_several_variants_share_the_significance_level(rng: np.random.Generator) -> None:
    control, new = units(rng, 4000), units(rng, 4000)
    (alone,) = result(control=control, new=new).comparisons
    two = result(experiment("control", "new", "newer"), control=control, new=new, newer=units(rng, 4000)).comparisons
    assert [each.variant for each in two] == ["new", "newer"]
    width = [each.effects["ctr"].high - each.effects["ctr"].low for each in (alone, two[0])]
    assert width[1] > width[0]


def test_interleaving_compares_clicks_on_the_products_of_each_ranking(rng: np.random.Generator) -> None:
    about = experiment(design="interleave")
    (even,) = result(about, control=units(rng, 3000), new=units(rng, 3000)).comparisons
    assert even.verdict.outcome == "undecided" and set(even.effects) == {"preference"}
    won = units(rng, 3000)
    column = 1 + won.names.index(TREATMENT_CLICKS)
    won.gram[column] *= 1.2
    won.gram[:, column] *= 1.2
    (better,) = result(about, control=won, new=won).comparisons
    assert better.verdict.outcome == "better" and "clicks won from the control" in better.verdict.message


def test_two_equal_variants_are_rarely_better_or_worse(rng: np.random.Generator) -> None:
    outcomes = [
        result(control=units(rng, 400), new=units(rng, 400)).comparisons[0].verdict.outcome for _ in range(200)
    ]  # fmt: skip
    assert outcomes.count("invalid") == 0
    assert outcomes.count("better") + outcomes.count("worse") <= 0.05 * len(outcomes)


def test_the_page_shows_each_verdict_and_marks_simulated_traffic(rng: np.random.Generator) -> None:
    logged = totals(exposures=9000, units=8000, clicks=700, robots=2, unpriced=4, simulated=9)
    found = result(None, logged, control=units(rng, 4000), new=units(rng, 4000, spend=1.3))
    rows = as_table([found]).to_pandas()
    assert rows["is_main"].sum() == 1
    main = rows[rows["is_main"]].iloc[0]
    days = [DAY - dt.timedelta(days=age) for age in (2, 1, 0)]
    history = pd.DataFrame(
        {"experiment": "test", "variant": "new", "day": days, "value": [0.2, 0.25, 0.3], "low": [-0.1, 0.1, 0.2],
         "high": [0.5, 0.4, 0.4]}
    )  # fmt: skip
    page = experiments_page([found], history, DAY)
    assert "new: better" in page and page.count("<svg") == 2
    assert "Simulated traffic" in page and "Simulated traffic" in summary([found])
    interval = f"{main['treatment']:,.4g} ± {1.96 * main['treatment_error']:,.4g}"
    assert interval in page and "<td>9,000</td><td>8,000</td>" in page
    assert f"A change of the main metric of {main['detectable_effect']:+.1%} could be" in " ".join(page.split())
    assert "2 units clicked more" in page and "4 purchases have no price" in page
    assert "No experiment in REC_EXPERIMENTS has traffic" in experiments_page([], history.iloc[:0], DAY)
    assert (
        as_table([]).schema == REPORT_SCHEMA
        and summary([]) == "no experiment has traffic or purchases that count on this day"
    )
    lost = result(control=units(rng, 4000))
    (row,) = as_table([lost]).to_pylist()
    assert row["verdict"] == "invalid" and row["metric"] == "revenue_per_visitor" and row["difference"] is None
    few = result()
    assert "undecided" in experiments_page([few], history.iloc[:0], DAY)
