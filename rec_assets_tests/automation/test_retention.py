"""Retention: which old days are deleted, and which stay."""

import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from rec_assets.automation.retention import plan_retention, releases_in_use
from rec_assets.resources.releases import Release
from rec_assets.settings import RetentionSettings, Settings

NEWEST = dt.date(2017, 12, 31)


def ago(days: int) -> dt.date:
    return NEWEST - dt.timedelta(days=days)


def release(version: int, as_of: int, *, als: int | None = None, ranker: int | None = None, **more: object) -> Release:
    """A version that was promoted `as_of` days ago, with models of the given ages in days."""
    als, ranker = (as_of if each is None else each for each in (als, ranker))
    made = Release(
        version=version, as_of=ago(as_of), als_as_of=ago(als), graph_as_of=ago(als), ranker_as_of=ago(ranker),
        content="", decision="promoted", rolled_back=False, run_id="", tags={},
    )  # fmt: skip
    return replace(made, **more)


@dataclass
class Case:
    """Ages in days: the days of a lake, the days to delete, and the old days that stay ("needed")."""

    there: dict[str, Sequence[int]]
    keep: dict[str, int | None]
    goes: dict[str, list[int]]
    needed: dict[str, list[int]]
    releases: Sequence[Release] = ()


CASES = {
    "an empty lake": Case({}, {"candidates": 10}, {}, {}),
    "nothing ingested, so no day to count from": Case({"candidates": [500, 0]}, {"candidates": 10}, {}, {}),
    "the last day that is kept, and the first that goes": Case(
        {"raw_purchase_logs": [0], "candidates": [11, 10, 9, 0]}, {"candidates": 10}, {"candidates": [11, 10]}, {}
    ),
    "None keeps all": Case({"raw_purchase_logs": [900, 0]}, {"raw_purchase_logs": None}, {}, {}),
    "a table without a rule is left alone": Case(
        {"raw_purchase_logs": [0], "products": [900], "candidates": [0]}, {"candidates": 10}, {}, {}
    ),
    "old purchases too, if their retention is set": Case(
        {"raw_purchase_logs": [100, 99, 0]}, {"raw_purchase_logs": 100}, {"raw_purchase_logs": [100]}, {}
    ),
    "the newest of a table that is no longer made": Case(
        {"raw_purchase_logs": [0], "hybrid_scores": [300, 200]}, {"hybrid_scores": 10}, {"hybrid_scores": [300]},
        {"hybrid_scores": [200]},
    ),
    "the models of the active release and of the one before, not of older ones": Case(
        {"raw_purchase_logs": [0], "als_model": [300, 250, 200, 0], "co_purchase_graph": [300, 250, 200, 0],
         "ranker": [300, 250, 200, 0]},
        {"als_model": 50, "co_purchase_graph": 50, "ranker": 50},
        {"als_model": [300], "co_purchase_graph": [300], "ranker": [300]},
        {"als_model": [250, 200], "co_purchase_graph": [250, 200], "ranker": [250, 200]},
        [release(1, 300), release(2, 250), release(3, 200)],
    ),
    "a champion that was rolled back: the active release, and the one before that": Case(
        {"raw_purchase_logs": [0], "als_model": [300, 250, 200, 0]}, {"als_model": 50}, {"als_model": [200]},
        {"als_model": [300, 250]},
        [release(1, 300), release(2, 250), release(3, 200, rolled_back=True)],
    ),
    "a challenger that was rejected, and one undecided, need nothing": Case(
        {"raw_purchase_logs": [0], "als_model": [300, 250, 200, 0]}, {"als_model": 50}, {"als_model": [250, 200]},
        {"als_model": [300]},
        [release(1, 300), release(2, 250, decision="rejected"), release(3, 200, decision="")],
    ),
    "the models of a release older than itself; all else can be read at the versions that it names": Case(
        {"raw_purchase_logs": [300, 200, 0], "als_model": [205, 200, 0], "ranker": [203, 200, 0],
         "candidates": [217, 200, 0]},
        {"raw_purchase_logs": 50, "als_model": 50, "ranker": 50, "candidates": 50},
        {"raw_purchase_logs": [300, 200], "als_model": [200], "ranker": [200], "candidates": [217, 200]},
        {"als_model": [205], "ranker": [203]},
        [release(1, 200, als=205, ranker=203)],
    ),
    "age counts from the newest day of the purchases, not of the table": Case(
        {"raw_purchase_logs": [100], "candidates": [105, 0]}, {"candidates": 10}, {}, {}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_plan_deletes_old_days_except_needed_ones(name: str) -> None:
    case = CASES[name]
    there = {table: [ago(days) for days in ages] for table, ages in case.there.items()}
    found = plan_retention(there, case.keep, case.releases)
    assert found.delete == {table: [ago(days) for days in ages] for table, ages in case.goes.items()}
    needed: dict[str, list[dt.date]] = {}
    for table, day in found.kept:
        needed.setdefault(table, []).append(day)
    assert needed == {table: [ago(days) for days in ages] for table, ages in case.needed.items()}


def test_the_reason_names_the_version_and_its_role() -> None:
    there = {"raw_purchase_logs": [NEWEST], "als_model": [ago(300), ago(200), NEWEST]}
    releases = [release(4, 300), release(7, 200)]
    found = plan_retention(there, {"als_model": 50}, releases)
    assert found.kept == {
        ("als_model", ago(300)): "version 4, target of a rollback",
        ("als_model", ago(200)): "version 7, active",
    }


def test_releases_in_use_are_the_active_one_the_target_of_a_rollback_and_undecided_ones() -> None:
    named = [release(number, 300 - number) for number in range(4)]
    undecided = [*named[:3], replace(named[3], decision="")]
    assert {each.version for each in releases_in_use(named)} == {2, 3}
    assert {each.version for each in releases_in_use(undecided)} == {1, 2, 3}


# ---- the settings ----

LEAST = {
    "raw_purchase_logs": 365 + 2 * 28 + 7,
    "cleaned_interactions": 365 + 2 * 28 + 7,
    "rejected_purchases": 365 + 2 * 28 + 7,
    "raw_feedback_events": 365 + 2 * 28 + 7,
    "experiment_exposures": 365 + 2 * 28 + 7,
    "customer_histories": 2 * 28 + 7 + 7,
    "product_statistics": 2 * 28 + 7 + 7,
    "recipe": 365 + 2 * 28 + 7,
    "als_model": 2 * 28 + 7 + 7,
    "co_purchase_graph": 2 * 28 + 7 + 7,
    "ranker": 2 * 28 + 7 + 7,
    "product_snapshot": 2 * 28 + 7 + 7,
    "candidates": 2 * 28 + 7 + 1,
    "hybrid_scores": 2 * 28 + 7 + 1,
    "similar_products": 28 + 1,
    "evaluation_report": 7 + 1,
    "champion": 7 + 1,
}


def test_every_table_with_retention_has_a_minimum() -> None:
    assert set(LEAST) == set(RetentionSettings.model_fields)


@pytest.mark.parametrize("table", LEAST)
def test_a_retention_below_the_minimum_is_rejected(table: str) -> None:
    least = LEAST[table]
    assert Settings(retention=RetentionSettings(**{table: least})).retention_days[table] == least
    with pytest.raises(ValidationError, match=rf"REC_RETENTION__{table.upper()}={least - 1} .* at least {least} "):
        Settings(retention=RetentionSettings(**{table: least - 1}))


def test_experiments_raise_the_minimum(tmp_path: Path) -> None:
    short = {"lookback_days": 30, "horizon_days": 7, "gate_days": 1}
    assert Settings(**short).min_retention_days["raw_feedback_events"] == 45
    least = Settings(**short, experiments=tmp_path / "experiments.yaml").min_retention_days
    assert least["experiment_exposures"] == least["cleaned_interactions"] == 90 + 35 + 56


def test_a_longer_horizon_raises_the_default() -> None:
    assert Settings(horizon_days=60).retention_days["candidates"] == 2 * 60 + 7 + 1
    assert Settings().retention_days["candidates"] == 70


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REC_RETENTION__CANDIDATES", "none")
    monkeypatch.setenv("REC_RETENTION__HYBRID_SCORES", "100")
    keep = Settings().retention_days
    assert (keep["candidates"], keep["hybrid_scores"], keep["similar_products"]) == (None, 100, 30)


@pytest.mark.parametrize(
    ("horizon", "lookback", "reuse", "gate"), list(itertools.product((1, 14, 60), (1, 365), (1, 30), (1, 7)))
)
def test_the_minimum_keeps_everything_that_bootstrap_plans_or_reads(
    horizon: int, lookback: int, reuse: int, gate: int
) -> None:
    """With every retention at its minimum, also on the day of a release."""
    from rec_assets.automation.asset_jobs import JOBS
    from rec_assets.automation.plan import plan_bootstrap

    settings = Settings(horizon_days=horizon, lookback_days=lookback, model_reuse_days=reuse, gate_days=gate)
    first = NEWEST - dt.timedelta(days=2000)
    there = {table: [NEWEST - dt.timedelta(days=age) for age in range(2000)] for table in settings.min_retention_days}
    gone = plan_retention(there, settings.min_retention_days, []).delete
    for run in plan_bootstrap(first, NEWEST, settings):
        for table in JOBS[run.job][1]:
            assert not set(run.days) & set(gone.get(table, ())), f"{run} makes {table}"
    judged = NEWEST - dt.timedelta(days=gate)
    learned = judged - dt.timedelta(days=2 * horizon)
    assert learned not in gone["candidates"]
    assert judged - dt.timedelta(days=horizon) not in gone["hybrid_scores"]
    assert learned - dt.timedelta(days=lookback - 1) not in gone["cleaned_interactions"]
