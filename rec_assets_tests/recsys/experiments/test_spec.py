"""The experiments' file: what it may say, and what is said of what it may not; and who sees which variant."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rec_assets.recsys.experiments.assignment import NO_TREATMENT, assign, assign_treatment, bucket_of
from rec_assets.recsys.experiments.spec import Experiments, models_of, read_experiments

YAML = """
experiments:
  - name: diversity
    question: Does a little chance help?
    start: 2026-03-02
    end: 2026-03-29
    guard_rails: {return_rate: 0.1}
    variants:
      control: {share: 0.4}
      chance: {share: 0.4, exploration: 0.2}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_says_what_is_compared(tmp_path: Path) -> None:
    (found,) = read_experiments(written(tmp_path, YAML)).experiments
    assert found.control == "control" and found.levers == {"exploration"}
    assert found.runs_on(dt.date(2026, 3, 29)) and not found.runs_on(dt.date(2026, 3, 30))
    assert found.counts_until == dt.date(2026, 4, 5)
    assert found.guard_rails == {"return_rate": 0.1}
    assert read_experiments(None).experiments == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("control: {share: 0.4}", "control: {share: 0.7}"), "diversity: the shares sum to 1.1"),
        (("      chance: {share: 0.4, exploration: 0.2}", ""), "two variants at least"),
        (("end: 2026-03-29", "end: 2026-02-29"), "experiments.0.end"),
        (("end: 2026-03-29", "end: 2026-02-28"), "start \\(2026-03-02\\) is after end"),
        (("end: 2026-03-29", "end: 9999-12-31"), "line 6, column 5: experiments.0.end: .* less than 2200-01-01"),
        (("end: 2026-03-29", "end: 2026-03-29\n    end: 2026-03-28"), "line 7, column 5: end stands here a second"),
        (("end: 2026-03-29", "end: 2026-06-29"), "more than 90 days"),
        (("exploration: 0.2", "explore: 0.2"), "no field experiments.0.variants.chance.explore; .* mean exploration"),
        (("exploration: 0.2", "exploration: 2"), "less than or equal to 1"),
        (("exploration: 0.2", "model: best"), "experiments.0.variants.chance.model"),
        (("question:", "unit: shop\n    question:"), "experiments.0.unit.*customer"),
        (("return_rate: 0.1", "return_rate: 10"), "return_rate must be above 0 and at most 1"),
        (("return_rate: 0.1", "revenue_per_visitor: 0.1"), "is the main metric"),
        (("return_rate: 0.1", "profit: 0.1"), "guard_rails"),
        (("name: diversity", "name: a b"), "experiments.0.name"),
        (("    guard_rails: {return_rate: 0.1}", "    design: interleave"), "exploration can't be interleaved"),
        (("    variants:", "    design: interleave\n    variants:"), "guard_rails says nothing of mixed answers"),
        (("exploration: 0.2}", "show: nothing}\n    main_metric: ctr"), "ctr can't be compared"),
        (("experiments:", "experiment:"), "no field experiment; did you mean experiments"),
    ],
)  # fmt: skip
def test_what_can_t_be_run_is_refused_in_words(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says) as found:
        read_experiments(written(tmp_path, YAML.replace(*change)))
    assert "experiments.yaml" in str(found.value)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("chance: {share: 0.1, exploration: 0.1}", "both have a say in exploration"),
        ("none: {share: 0.1, show: nothing}", "one holds shoppers out"),
        ("fresh: {share: 0.1, model: challenger}", None),
        ("twin: {share: 0.5}", None),
    ],
)
def test_experiments_that_run_together_change_different_things(tmp_path: Path, other: str, says: str | None) -> None:
    second = (
        "  - {name: second, start: 2026-03-29, end: 2026-04-04, variants: {control: {share: 0.1}, " + other + "}}\n"
    )
    path = written(tmp_path, YAML + second)
    if says is None:
        assert len(read_experiments(path).experiments) == 2
    else:
        with pytest.raises(ValueError, match=says):
            read_experiments(path)
    later = written(tmp_path, YAML + second.replace("03-29", "03-30"))
    assert len(read_experiments(later).experiments) == 2


def test_a_mixed_answer_is_nobody_else_s_to_change(tmp_path: Path) -> None:
    mixed = """  - name: mixed
    design: interleave
    start: 2026-03-29
    end: 2026-04-04
    variants: {control: {share: 0.5}, fresh: {share: 0.5, model: challenger}}
"""
    with pytest.raises(ValueError, match="diversity and mixed run at the same time and both have a say in the order"):
        read_experiments(written(tmp_path, YAML + mixed))
    assert len(read_experiments(written(tmp_path, YAML + mixed.replace("03-29", "03-30"))).experiments) == 2


def test_a_missing_file_and_one_that_is_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml: No such file"):
        read_experiments(tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match="not readable as YAML"):
        read_experiments(written(tmp_path, "experiments: ["))
    with pytest.raises(ValueError, match="here stands a list"):
        read_experiments(written(tmp_path, "- name: x"))


def experiments(*variants: dict[str, dict[str, object]], **more: object) -> Experiments:
    made = [
        {"name": f"e{number}", "start": "2026-03-02", "end": "2026-03-08", "variants": each, **more}
        for number, each in enumerate(variants)
    ]
    return Experiments.model_validate({"experiments": made})


def test_units_are_assigned_in_their_shares_the_same_each_time_and_in_no_order() -> None:
    (one,) = experiments({"a": {"share": 0.2}, "b": {"share": 0.3}}).experiments
    units = [f"c{number}" for number in range(20_000)]
    found = [assign(one, unit) for unit in units]
    counts = [found.count(name) for name in ("a", "b", None)]
    assert stats.chisquare(counts, np.array([0.2, 0.3, 0.5]) * len(units)).pvalue > 0.001
    assert [assign(one, unit) for unit in reversed(units)] == found[::-1]
    # The same as anywhere else, for ever: a change of the hash would mix up experiments that run.
    assert bucket_of("c1", "e0") == pytest.approx(0.1332162261, abs=1e-9)


def test_assignments_of_two_experiments_tell_nothing_of_each_other() -> None:
    one, other = experiments(
        {"a": {"share": 0.5}, "b": {"share": 0.5}}, {"a": {"share": 0.5}, "b": {"share": 0.5}}
    ).experiments
    pairs = [(assign(one, f"c{n}"), assign(other, f"c{n}")) for n in range(20_000)]
    table = [[pairs.count((x, y)) for y in "ab"] for x in "ab"]
    assert stats.chi2_contingency(table).pvalue > 0.001
    salted = one.model_copy(update={"salt": other.name})
    assert all(assign(salted, f"c{n}") == assign(other, f"c{n}") for n in range(100))


def test_what_experiments_change_adds_up() -> None:
    found = experiments(
        {"control": {"share": 1e-9}, "chance": {"share": 1 - 1e-9, "exploration": 0.2}},
        {"control": {"share": 1e-9}, "fresh": {"share": 1 - 1e-9, "model": "7"}},
    )
    treatment = assign_treatment(found.experiments, "ann", None)
    assert treatment.variants == {"e0": "chance", "e1": "fresh"}
    assert (treatment.variant.exploration, treatment.variant.model) == (0.2, "7")
    assert models_of(found.experiments) == {"7"}
    assert assign_treatment(found.experiments, None, "s1") is NO_TREATMENT  # the unit is the customer, who isn't known
    sessions = experiments({"a": {"share": 0.5}, "b": {"share": 0.5}}, unit="session").experiments
    assert assign_treatment(sessions, "ann", "s1").variants == assign_treatment(sessions, "bob", "s1").variants != {}


def test_two_rankings_are_mixed_for_everybody_in_the_experiment() -> None:
    (mixed,) = experiments(
        {"control": {"share": 0.5}, "fresh": {"share": 0.5, "model": "challenger"}}, design="interleave"
    ).experiments
    treatment = assign_treatment([mixed], "ann", None)
    assert list(treatment.mixed) == ["control", "fresh"] and treatment.variant.model == "champion"
