"""Retention: which old days are deleted, and which stay."""

import datetime as dt
import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError
from upath import UPath

from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.manifest import MANIFEST
from rec_assets.resources.releases import Release
from rec_assets.resources.retention import plan_retention
from rec_assets.resources.storage import DELETED, ObjectStore
from rec_assets.settings import RetentionSettings, Settings

NEWEST = dt.date(2017, 12, 31)
HORIZON, LOOKBACK = 14, 60


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
    "what a release was made from, models older than itself": Case(
        {"raw_purchase_logs": [0], "als_model": [205, 200, 0], "ranker": [203, 200, 0],
         "candidates": [217, 214, 205, 203, 201, 200, 0], "product_statistics": [217, 205, 203, 201, 200, 0]},
        {"als_model": 50, "ranker": 50, "candidates": 50, "product_statistics": 50},
        {"als_model": [200], "ranker": [200], "candidates": [214, 201], "product_statistics": [217, 201]},
        {"als_model": [205], "ranker": [203], "candidates": [217, 205, 203, 200],
         "product_statistics": [205, 203, 200]},
        [release(1, 200, als=205, ranker=203)],
    ),
    "the purchases behind a release: a lookback before the oldest that it learned from, up to its day": Case(
        {name: [274, 273, 240, 200, 199, 0] for name in ("raw_purchase_logs", "cleaned_interactions",
                                                         "rejected_purchases")},
        dict.fromkeys(("raw_purchase_logs", "cleaned_interactions", "rejected_purchases"), 100),
        {name: [274, 199] for name in ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases")},
        {name: [273, 240, 200] for name in ("raw_purchase_logs", "cleaned_interactions", "rejected_purchases")},
        [release(1, 200)],
    ),
    "age counts from the newest day of the purchases, not of the table": Case(
        {"raw_purchase_logs": [100], "candidates": [105, 0]}, {"candidates": 10}, {}, {}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_plan_deletes_old_days_except_needed_ones(name: str) -> None:
    case = CASES[name]
    there = {table: [ago(days) for days in ages] for table, ages in case.there.items()}
    found = plan_retention(there, case.keep, case.releases, horizon_days=HORIZON, lookback_days=LOOKBACK)
    assert found.delete == {table: [ago(days) for days in ages] for table, ages in case.goes.items()}
    needed: dict[str, list[dt.date]] = {}
    for table, day in found.kept:
        needed.setdefault(table, []).append(day)
    assert needed == {table: [ago(days) for days in ages] for table, ages in case.needed.items()}


def test_the_reason_names_the_version_and_its_role() -> None:
    there = {"raw_purchase_logs": [NEWEST], "als_model": [ago(300), ago(200), NEWEST]}
    releases = [release(4, 300), release(7, 200)]
    found = plan_retention(there, {"als_model": 50}, releases, horizon_days=HORIZON, lookback_days=LOOKBACK)
    assert found.kept == {
        ("als_model", ago(300)): "version 4, target of a rollback",
        ("als_model", ago(200)): "version 7, active",
    }


# ---- the settings ----

LEAST = {
    "raw_purchase_logs": 365 + 2 * 28 + 7,
    "cleaned_interactions": 365 + 2 * 28 + 7,
    "rejected_purchases": 365 + 2 * 28 + 7,
    "raw_feedback_events": 365 + 2 * 28 + 7,
    "experiment_exposures": 365 + 2 * 28 + 7,
    "product_statistics": 2 * 28 + 7 + 7,
    "als_model": 2 * 28 + 7 + 7,
    "co_purchase_graph": 2 * 28 + 7 + 7,
    "ranker": 2 * 28 + 7 + 7,
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
    gone = plan_retention(there, settings.min_retention_days, [], horizon_days=horizon, lookback_days=lookback).delete
    for run in plan_bootstrap(first, NEWEST, settings):
        for table in JOBS[run.job][1]:
            assert not set(run.days) & set(gone.get(table, ())), f"{run} makes {table}"
    judged = NEWEST - dt.timedelta(days=gate)
    learned = judged - dt.timedelta(days=2 * horizon)
    assert learned not in gone["candidates"]
    assert judged - dt.timedelta(days=horizon) not in gone["hybrid_scores"]
    assert learned - dt.timedelta(days=lookback - 1) not in gone["cleaned_interactions"]


# ---- Lake.delete ----


@pytest.fixture
def lake(lake_root: Path | UPath) -> Lake:
    lake = Lake(lake_root)
    for age in range(3):
        lake.write("sales", pd.DataFrame({"n": [age] * 10}), ago(age))
    return lake


def test_deleting_a_day_keeps_the_others(lake: Lake) -> None:
    was = lake.manifest("sales", ago(1))
    assert lake.delete("sales", ago(1)) == was
    assert lake.days("sales") == [ago(2), ago(0)]
    assert not (lake.root / "sales" / f"date={ago(1)}").exists()
    assert not list((lake.root / DELETED).glob("*"))
    assert sorted(lake.pandas("sales", [ago(2), ago(0)])["n"].unique()) == [0, 2]
    with pytest.raises(MissingPartition, match="materialize sales first"):
        lake.read("sales", [ago(1)])


def test_deleting_a_missing_day_does_nothing(lake: Lake) -> None:
    assert lake.delete("sales", ago(9)) is None
    lake.delete("sales", ago(1))
    assert lake.delete("sales", ago(1)) is None


def test_a_deleted_day_can_be_written_again(lake: Lake) -> None:
    lake.delete("sales", ago(1))
    lake.write("sales", pd.DataFrame({"n": [7]}), ago(1))
    assert lake.pandas("sales", [ago(1)])["n"].tolist() == [7]


def test_a_killed_deletion_is_invisible_and_is_swept_later(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: object, *names: object, **_: object) -> None:
        if names[-1:] != ([MANIFEST],):
            raise SystemExit
        remove(self, *names)  # type: ignore[arg-type]

    remove = ObjectStore._remove
    monkeypatch.setattr("rec_assets.resources.storage.shutil.rmtree", die)
    monkeypatch.setattr(ObjectStore, "_remove", die)
    with pytest.raises(SystemExit):
        lake.delete("sales", ago(1))
    monkeypatch.undo()
    assert lake.days("sales") == [ago(2), ago(0)]
    assert lake.manifest("sales", ago(1)) is None
    monkeypatch.setattr(
        "rec_assets.resources.storage.STAGING_HOURS", -1
    )  # the age from which a store's unnamed files are removed
    lake.storage.sweep_deleted()
    assert not (lake.root / DELETED).exists()
    assert not (lake.root / "sales" / f"date={ago(1)}").exists()
    assert sorted(lake.pandas("sales", [ago(2), ago(0)])["n"].unique()) == [0, 2]


@pytest.mark.integration
@pytest.mark.parametrize("lake_root", ["disk", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True)
def test_concurrent_readers_see_a_whole_day_or_none_during_a_deletion(lake: Lake) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_write_and_delete, args=(lake.root, stop))
    process.start()
    try:
        outcomes = set(itertools.islice(_outcomes(lake), 20_000))
    finally:
        stop.set()
        process.join(30)
    assert outcomes == {"whole", "missing"}


def _write_and_delete(root: Path | UPath, stop) -> None:  # type: ignore[no-untyped-def]
    lake, number = Lake(root), 0
    while not stop.is_set():
        number += 1
        lake.write("sales", pd.DataFrame({"n": [number] * 1000}), ago(5))
        lake.delete("sales", ago(5))


def _outcomes(lake: Lake) -> Iterator[str]:
    """The results of at least 300 reads, until both results occurred."""
    seen: list[str] = []
    while len(seen) < 300 or set(seen) != {"whole", "missing"}:
        try:
            rows = lake.pandas("sales", [ago(5)])["n"]
            seen.append("whole" if len(rows) == 1000 and rows.nunique() == 1 else "half")
        except MissingPartition:
            seen.append("missing")
        yield seen[-1]
