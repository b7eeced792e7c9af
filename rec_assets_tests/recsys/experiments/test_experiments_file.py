"""The experiments file, the message for each mistake, and the assignment of units to variants."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rec_assets.recsys.experiments.assignment import NOT_ASSIGNED, assign, assign_shopper, bucket_of
from rec_assets.recsys.experiments.experiments_file import Experiments, models_in, read_experiments

YAML = """
experiments:
  - name: diversity
    question: Does a little chance help?
    start: 2026-03-02
    end: 2026-03-29
    guardrails: {return_rate: 0.1}
    variants:
      control: {share: 0.4}
      chance: {share: 0.4, exploration: 0.2}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    (found,) = read_experiments(written(tmp_path, YAML)).experiments
    assert found.control == "control" and found.changed_fields == {"exploration"}
    assert found.runs_on(dt.date(2026, 3, 29)) and not found.runs_on(dt.date(2026, 3, 30))
    assert found.last_purchase_day == dt.date(2026, 4, 5)
    assert found.guardrails == {"return_rate": 0.1}
    assert read_experiments(None).experiments == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("control: {share: 0.4}", "control: {share: 0.7}"), "diversity: the shares sum to 1.1"),
        (("      chance: {share: 0.4, exploration: 0.2}", ""), "at least two variants"),
        (("end: 2026-03-29", "end: 2026-02-29"), "experiments.0.end"),
        (("end: 2026-03-29", "end: 2026-02-28"), "start \\(2026-03-02\\) is after end"),
        (("end: 2026-03-29", "end: 9999-12-31"), "line 6, column 5: experiments.0.end: .* less than 2200-01-01"),
        (("end: 2026-03-29", "end: 2026-03-29\n    end: 2026-03-28"), "line 7, column 5: duplicate key end"),
        (("end: 2026-03-29", "end: 2026-06-29"), "more than 90 days"),
        (("exploration: 0.2", "explore: 0.2"), "unknown field experiments.0.variants.chance.explore; .* exploration"),
        (("exploration: 0.2", "exploration: 2"), "less than or equal to 1"),
        (("exploration: 0.2", "model: best"), "experiments.0.variants.chance.model"),
        (("question:", "unit: shop\n    question:"), "experiments.0.unit.*customer"),
        (("return_rate: 0.1", "return_rate: 10"), "return_rate must be a relative change above 0 and at most 1"),
        (("return_rate: 0.1", "revenue_per_visitor: 0.1"), "is the main metric"),
        (("return_rate: 0.1", "profit: 0.1"), "guardrails"),
        (("name: diversity", "name: a b"), "experiments.0.name"),
        (("    guardrails: {return_rate: 0.1}", "    design: interleave"), "exploration can't be interleaved"),
        (("    variants:", "    design: interleave\n    variants:"), "guardrails has no use with interleaving"),
        (("exploration: 0.2}", "show: nothing}\n    main_metric: ctr"), "ctr can't be compared"),
        (("experiments:", "experiment:"), "unknown field experiment; did you mean experiments"),
    ],
)  # fmt: skip
def test_each_mistake_has_a_clear_message(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        read_experiments(written(tmp_path, YAML.replace(*change)))
    assert "experiments.yaml" in str(found.value)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("chance: {share: 0.1, exploration: 0.1}", "both change exploration"),
        ("none: {share: 0.1, show: nothing}", "one has a holdout"),
        ("fresh: {share: 0.1, model: challenger}", None),
        ("twin: {share: 0.5}", None),
    ],
)
def test_experiments_that_run_together_change_different_things(tmp_path: Path, other: str, message: str | None) -> None:
    second = (
        "  - {name: second, start: 2026-03-29, end: 2026-04-04, variants: {control: {share: 0.1}, " + other + "}}\n"
    )
    path = written(tmp_path, YAML + second)
    if message is None:
        assert len(read_experiments(path).experiments) == 2
    else:
        with pytest.raises(ValueError, match=message):
            read_experiments(path)
    later = written(tmp_path, YAML + second.replace("03-29", "03-30"))
    assert len(read_experiments(later).experiments) == 2


def test_an_interleaved_order_conflicts_with_exploration(tmp_path: Path) -> None:
    mixed = """  - name: mixed
    design: interleave
    start: 2026-03-29
    end: 2026-04-04
    variants: {control: {share: 0.5}, fresh: {share: 0.5, model: challenger}}
"""
    with pytest.raises(ValueError, match="diversity and mixed run at the same time and both change the order"):
        read_experiments(written(tmp_path, YAML + mixed))
    assert len(read_experiments(written(tmp_path, YAML + mixed.replace("03-29", "03-30"))).experiments) == 2


def test_a_missing_and_an_unreadable_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml: No such file"):
        read_experiments(tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match="can't be read as YAML"):
        read_experiments(written(tmp_path, "experiments: ["))
    with pytest.raises(ValueError, match="this file has a list"):
        read_experiments(written(tmp_path, "- name: x"))


def experiments(*variants: dict[str, dict[str, object]], **more: object) -> Experiments:
    made = [
        {"name": f"e{number}", "start": "2026-03-02", "end": "2026-03-08", "variants": each, **more}
        for number, each in enumerate(variants)
    ]
    return Experiments.model_validate({"experiments": made})


def test_units_are_assigned_by_their_shares_and_independently_of_the_order() -> None:
    (one,) = experiments({"a": {"share": 0.2}, "b": {"share": 0.3}}).experiments
    units = [f"c{number}" for number in range(20_000)]
    found = [assign(one, unit) for unit in units]
    counts = [found.count(name) for name in ("a", "b", None)]
    assert stats.chisquare(counts, np.array([0.2, 0.3, 0.5]) * len(units)).pvalue > 0.001
    assert [assign(one, unit) for unit in reversed(units)] == found[::-1]
    # A change of the hash would reassign the units of running experiments.
    assert bucket_of("c1", "e0") == pytest.approx(0.1332162261, abs=1e-9)


def test_assignments_of_two_experiments_are_independent() -> None:
    one, other = experiments(
        {"a": {"share": 0.5}, "b": {"share": 0.5}}, {"a": {"share": 0.5}, "b": {"share": 0.5}}
    ).experiments
    pairs = [(assign(one, f"c{n}"), assign(other, f"c{n}")) for n in range(20_000)]
    table = [[pairs.count((x, y)) for y in "ab"] for x in "ab"]
    assert stats.chi2_contingency(table).pvalue > 0.001
    salted = one.model_copy(update={"salt": other.name})
    assert all(assign(salted, f"c{n}") == assign(other, f"c{n}") for n in range(100))


def test_changes_of_several_experiments_are_combined() -> None:
    found = experiments(
        {"control": {"share": 1e-9}, "chance": {"share": 1 - 1e-9, "exploration": 0.2}},
        {"control": {"share": 1e-9}, "fresh": {"share": 1 - 1e-9, "model": "7"}},
    )
    assignment = assign_shopper(found.experiments, "ann", None)
    assert assignment.variants == {"e0": "chance", "e1": "fresh"}
    assert (assignment.variant.exploration, assignment.variant.model) == (0.2, "7")
    assert models_in(found.experiments) == {"7"}
    assert assign_shopper(found.experiments, None, "s1") is NOT_ASSIGNED  # the customer, who is the unit, is unknown
    sessions = experiments({"a": {"share": 0.5}, "b": {"share": 0.5}}, unit="session").experiments
    assert assign_shopper(sessions, "ann", "s1").variants == assign_shopper(sessions, "bob", "s1").variants != {}


def test_interleaving_applies_to_both_variants() -> None:
    (mixed,) = experiments(
        {"control": {"share": 0.5}, "fresh": {"share": 0.5, "model": "challenger"}}, design="interleave"
    ).experiments
    assignment = assign_shopper([mixed], "ann", None)
    assert list(assignment.interleaved) == ["control", "fresh"] and assignment.variant.model == "champion"
