"""What is said of an experiment: better, worse, not yet, or not to be trusted, and why; and the page that says it."""

import datetime as dt
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rec_assets.recsys.experiments.analysis import ExperimentResult, analyze
from rec_assets.recsys.experiments.metrics import JUDGED, NUMBERS, WON
from rec_assets.recsys.experiments.outcomes import Totals
from rec_assets.recsys.experiments.page import REPORT_SCHEMA, as_table, experiments_page, summary
from rec_assets.recsys.experiments.spec import Experiment
from rec_assets.recsys.experiments.statistics import Moments

DAY = dt.date(2026, 3, 15)


def totals(**more: Any) -> dict[str, Totals]:
    return {"control": Totals(), "new": Totals(**more)}


def units(rng: np.random.Generator, n: int, *, spend: float = 1.0, returned: float = 0.05) -> Moments:
    rich = rng.gamma(4.0, 0.25, n)
    orders = rng.poisson(rich)
    revenue = 30 * spend * orders
    numbers = {
        "impressions": np.full(n, 20.0), "clicks": rng.binomial(20, 0.1, n), "carts": 0 * orders, "orders": orders,
        "revenue": revenue, "returned": revenue * rng.binomial(1, returned, n), "buyer": orders > 0,
        "repeater": orders > 1, "before": 30 * rich, JUDGED: np.full(n, 2.0), WON: rng.binomial(2, 0.5, n),
    }  # fmt: skip
    return Moments.of(pd.DataFrame(numbers)[[*NUMBERS, JUDGED, WON]])


def experiment(*names: str, **more: Any) -> Experiment:
    names = names or ("control", "new")
    variants = {name: {"share": 1 / len(names)} for name in names}
    fields = {"name": "test", "start": "2026-03-02", "end": "2026-03-29", "variants": variants}
    return Experiment.model_validate({**fields, **more})


def reading(
    about: Experiment | None = None, logged: dict[str, Totals] | None = None, **variants: Moments
) -> ExperimentResult:
    return analyze(about or experiment(), DAY, logged or totals(units=1), variants, {"control": [1], "new": [3]})


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_more_revenue_is_better_and_less_is_worse(rng: np.random.Generator) -> None:
    for spend, kind in ((1.3, "better"), (0.75, "worse")):
        (found,) = reading(control=units(rng, 4000), new=units(rng, 4000, spend=spend)).comparisons
        assert found.verdict.kind == kind
        assert "revenue per visitor" in found.verdict.says and "beside control" in found.verdict.says


def test_where_nothing_can_be_seen_it_is_said_what_could_and_when(rng: np.random.Generator) -> None:
    (found,) = reading(control=units(rng, 2000), new=units(rng, 2000)).comparisons
    assert found.verdict.kind == "undecided"
    assert 0.01 < found.detectable < 0.2 and found.days_left > 1
    assert f"{found.detectable:.1%} would be seen" in found.verdict.says
    assert f"one of 5% in {found.days_left:,.0f} more days" in found.verdict.says
    (many,) = reading(control=units(rng, 200_000), new=units(rng, 200_000)).comparisons
    assert many.days_left == 0 and "would most likely have shown by now" in many.verdict.says


def test_after_its_end_and_before_anything_was_bought_no_days_are_promised(rng: np.random.Generator) -> None:
    late = experiment(end=str(DAY))
    (over,) = reading(late, control=units(rng, 2000), new=units(rng, 2000)).comparisons
    assert "would have taken" in over.verdict.says
    soon = experiment(end=str(DAY + dt.timedelta(days=1)))
    (short,) = reading(soon, control=units(rng, 2000), new=units(rng, 2000)).comparisons
    assert short.verdict.says.endswith("the experiment ends in 1 days")
    (nothing,) = reading(control=units(rng, 200, spend=0), new=units(rng, 200, spend=0)).comparisons
    assert nothing.verdict.kind == "undecided" and nothing.verdict.says.startswith(
        "no revenue per visitor to compare yet"
    )


def test_too_few_units_are_not_judged_by(rng: np.random.Generator) -> None:
    for few in ({"control": units(rng, 4000), "new": units(rng, 99)}, {"control": units(rng, 10)}, {}):
        about = experiment(salt="x", variants={"control": {"share": 0.97}, "new": {"share": 0.03}})
        (found,) = reading(about, **few).comparisons
        assert found.verdict.kind == "undecided" and "in the smallest variant" in found.verdict.says
        assert math.isnan(found.days_left) or found.days_left > 0


def test_shares_that_are_off_make_everything_invalid(rng: np.random.Generator) -> None:
    (found,) = reading(control=units(rng, 4000), new=units(rng, 3400, spend=2)).comparisons
    assert found.verdict.kind == "invalid"
    assert "new 3,400 (3,700 expected)" in found.verdict.says


def test_units_that_saw_two_variants_make_everything_invalid(rng: np.random.Generator) -> None:
    logged = totals(units=8003, switched=3)
    (found,) = reading(None, logged, control=units(rng, 4000), new=units(rng, 4000)).comparisons
    assert found.verdict.kind == "invalid" and "3 units saw more than one variant" in found.verdict.says


def test_an_alias_that_moved_makes_everything_invalid(rng: np.random.Generator) -> None:
    about = experiment(variants={"control": {"share": 0.5}, "new": {"share": 0.5, "model": "challenger"}})
    moments = {"control": units(rng, 4000), "new": units(rng, 4000)}
    found = analyze(about, DAY, totals(units=1), moments, {"control": [1, 2], "new": [3, 4]})
    assert found.comparisons[0].verdict.kind == "invalid"
    assert "versions 3 and 4" in found.comparisons[0].verdict.says
    kept = analyze(about, DAY, totals(units=1), moments, {"control": [1, 2], "new": [3]})  # a champion may change
    assert kept.comparisons[0].verdict.kind == "undecided"


def test_a_broken_guard_rail_is_worse_whatever_else(rng: np.random.Generator) -> None:
    about = experiment(guard_rails={"return_rate": 0.2})
    better = units(rng, 20_000, spend=1.5, returned=0.15)
    (found,) = reading(about, control=units(rng, 20_000), new=better).comparisons
    assert found.verdict.kind == "worse" and "returned, by value breaks its guard rail" in found.verdict.says
    (kept,) = reading(about, control=units(rng, 400), new=units(rng, 400, spend=2)).comparisons
    assert kept.verdict.kind == "better" and "can't be told yet" in kept.verdict.says


def test_several_variants_share_the_level(rng: np.random.Generator) -> None:
    control, new = units(rng, 4000), units(rng, 4000)
    (alone,) = reading(control=control, new=new).comparisons
    two = reading(experiment("control", "new", "newer"), control=control, new=new, newer=units(rng, 4000)).comparisons
    assert [each.variant for each in two] == ["new", "newer"]
    width = [each.effects["ctr"].high - each.effects["ctr"].low for each in (alone, two[0])]
    assert width[1] > width[0]


def test_interleaving_asks_whose_products_are_clicked(rng: np.random.Generator) -> None:
    about = experiment(design="interleave")
    (even,) = reading(about, control=units(rng, 3000), new=units(rng, 3000)).comparisons
    assert even.verdict.kind == "undecided" and set(even.effects) == {"preference"}
    won = units(rng, 3000)
    place = 1 + won.names.index(WON)
    won.gram[place] *= 1.2
    won.gram[:, place] *= 1.2
    (better,) = reading(about, control=won, new=won).comparisons
    assert better.verdict.kind == "better" and "clicks won from the control" in better.verdict.says


def test_two_alike_come_out_clean(rng: np.random.Generator) -> None:
    kinds = [
        reading(control=units(rng, 400), new=units(rng, 400)).comparisons[0].verdict.kind for _ in range(200)
    ]  # fmt: skip
    assert kinds.count("invalid") == 0
    assert kinds.count("better") + kinds.count("worse") <= 0.05 * len(kinds)


def test_the_page_shows_each_verdict_and_says_where_traffic_was_simulated(rng: np.random.Generator) -> None:
    logged = totals(exposures=9000, units=8000, clicks=700, robots=2, unpriced=4, simulated=9)
    found = reading(None, logged, control=units(rng, 4000), new=units(rng, 4000, spend=1.3))
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
    assert f"{main['detectable']:+.1%} would most likely be" in " ".join(page.split())
    assert "2 looked at more" in page and "4 purchases came without a price" in page
    assert "No experiment of REC_EXPERIMENTS has traffic" in experiments_page([], history.iloc[:0], DAY)
    assert as_table([]).schema == REPORT_SCHEMA and summary([]) == "no experiment counts on this day"
    lost = reading(control=units(rng, 4000))
    (row,) = as_table([lost]).to_pylist()
    assert row["verdict"] == "invalid" and row["metric"] == "revenue_per_visitor" and row["difference"] is None
    few = reading()
    assert "undecided" in experiments_page([few], history.iloc[:0], DAY)
