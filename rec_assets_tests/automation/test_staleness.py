"""What makes a partition stale: one cause at a time, on a real instance and lake."""

import datetime as dt
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
    DailyPartitionsDefinition,
    Definitions,
    MaterializeResult,
    MetadataValue,
    asset,
    asset_check,
    define_asset_job,
)
from dagster import AssetExecutionContext as Context

from rec_assets.automation.plan import PlannedRun
from rec_assets.automation.staleness import StalenessChecker
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.data_versions import FILES, DayWriter, Materializations
from rec_assets.resources.lake import DamagedPartition, Lake
from rec_assets.resources.releases import PROMOTED, Releases
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.sources.feedback import landed_file, landed_files, read_feedback
from rec_assets.sources.landing import file_fingerprint, file_fingerprints, optional_file_fingerprint
from rec_assets.sources.spec import DataSource, load_data_source
from rec_assets_tests.serving import shop

pytestmark = pytest.mark.integration

DAY = dt.date(2018, 1, 1)
RUN = PlannedRun("job", DAY, DAY)


class Bench:
    """A code location with raw_purchase_logs → candidates, a blocking check, and further single assets."""

    def __init__(self, folder: Path, instance: DagsterInstance) -> None:
        self.folder, self.instance, self.lake = folder, instance, Lake(folder / "lake")
        self.feedback = folder / "feedback"
        self.releases = Releases(f"sqlite:///{folder}/mlflow/mlflow.db", "model")
        (folder / "shop.yaml").write_text(
            'purchases: {path: "{date:%Y-%m-%d}.csv", columns: {customer_id: a, product_id: b, time: c}}'
        )
        self.land("first")
        self.source: DataSource = load_data_source(str(folder / "shop.yaml"), folder)
        self.check_passes, self.severity = True, AssetCheckSeverity.ERROR
        self.while_it_reads: Callable[[], None] = lambda: None
        self.code_version = "1"
        self.definitions = self._definitions()

    def land(self, content: str, name: str = "2018-01-01.csv", age: float = 60) -> None:
        path = self.folder / name
        path.write_text(content)
        os.utime(path, (time.time() - age,) * 2)

    def _definitions(self) -> Definitions:
        days = DailyPartitionsDefinition("2018-01-01", end_date="2018-01-03")

        @asset(partitions_def=days)
        def raw_purchase_logs(context: Context) -> MaterializeResult[Any]:
            files = file_fingerprints(self.source, DAY)
            content = "".join(path.read_text() for path in self.source.files(DAY))
            self.while_it_reads()
            return self._write(context, pd.DataFrame({"n": [content.strip()]}), files)

        @asset(partitions_def=days, deps=[raw_purchase_logs], code_version=self.code_version)
        def candidates(context: Context) -> MaterializeResult[Any]:
            content = self.lake.table("raw_purchase_logs").pandas([DAY])["n"]
            return self._write(context, pd.DataFrame({"n": content}))

        @asset_check(asset=candidates, blocking=True)
        def sound() -> AssetCheckResult:
            return AssetCheckResult(passed=self.check_passes, severity=self.severity)

        @asset(partitions_def=days)
        def raw_feedback_events(context: Context) -> MaterializeResult[Any]:
            landed = landed_files(self.feedback, "raw_feedback_events", DAY)
            files = {name: file_fingerprint(file) for name, file in landed.items()}
            return self._write(context, read_feedback(self.feedback, DAY), files)

        @asset(partitions_def=days)
        def experiment_report(context: Context) -> MaterializeResult[Any]:
            files = optional_file_fingerprint(self.folder / "experiments.yaml")
            return self._write(context, pd.DataFrame({"n": [1]}), files)

        @asset(partitions_def=days)
        def hybrid_scores(context: Context) -> None:
            self.lake.write("hybrid_scores", pd.DataFrame({"n": [1]}), DAY)
            context.add_output_metadata({"rules_version": "abc", "als_as_of": "2017-12-01"})

        @asset(partitions_def=days)
        def release_gate() -> None:
            self.lake.write("release_gate", pd.DataFrame({"passed": [False]}), DAY)

        @asset(partitions_def=days)
        def serving_index() -> None:
            shop.publish(self.folder / "serving", shop.index())
            self.lake.write("serving_index", pd.DataFrame({"n": [1]}), DAY)

        jobs = [
            define_asset_job("publish_index", [serving_index]),
            define_asset_job("raw", [raw_purchase_logs]),
            define_asset_job("gate", [release_gate]),
            define_asset_job("job", [raw_purchase_logs, candidates]),
            define_asset_job("events", [raw_feedback_events]),
            define_asset_job("lists", [hybrid_scores]),
            define_asset_job("experiments", [experiment_report]),
        ]
        assets = [raw_purchase_logs, candidates, raw_feedback_events, hybrid_scores, release_gate, serving_index]
        assets.append(experiment_report)
        return Definitions(assets, asset_checks=[sound], jobs=jobs)

    def _write(
        self, context: Context, rows: Any, files: dict[str, str] | None = None, **metadata: Any
    ) -> MaterializeResult[Any]:
        writer = DayWriter(context, self.lake, context.asset_key.path[-1], [DAY])
        writer.add(DAY, rows, **{FILES: MetadataValue.json(files or {})}, **metadata)
        return writer.result()

    def materialize_stale(self) -> None:
        """Materialize the stale partitions, as a plan does."""
        keys = sorted({key for key, _ in self._checker().stale_partitions(RUN)})
        job = self.definitions.resolve_job_def("job")
        job.execute_in_process(
            instance=self.instance, partition_key=str(DAY), asset_selection=keys, raise_on_error=False
        )

    def promote(self, version: int, trained: dt.date) -> None:
        """Register a version and promote it."""
        if version == 1:
            self.releases.client.create_registered_model("model")
        self.releases.client.create_model_version("model", source="/nowhere")
        days = dict.fromkeys(("as_of", "als_as_of", "graph_as_of", "ranker_as_of"), trained)
        self.releases.set_challenger(version, {**days, "recipe": Recipe().model_dump_json()})
        self.releases.set_decision(version, PROMOTED, {})

    def stale(self) -> set[str]:
        return set(self.reasons())

    def reasons(self) -> dict[str, str]:
        return {key.path[-1]: why for (key, _), why in self._checker().stale_partitions(RUN).items()}

    def _checker(self, **more: Any) -> StalenessChecker:
        return StalenessChecker(
            self.definitions, self.instance, self.lake, self.releases, self.source, self.feedback, **more
        )


BOTH = {"raw_purchase_logs", "candidates"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with DagsterInstance.ephemeral() as instance:
        yield Bench(tmp_path, instance)


@pytest.fixture
def fresh(bench: Bench) -> Bench:
    bench.materialize_stale()
    assert bench.stale() == set()
    return bench


def test_a_partition_that_was_never_materialized_is_stale(bench: Bench) -> None:
    assert bench.reasons() == dict.fromkeys(BOTH, "never materialized")


def test_a_partition_missing_in_the_lake_is_stale_with_its_downstream_partitions(fresh: Bench) -> None:
    fresh.lake.delete("candidates", [DAY])
    assert fresh.stale() == {"candidates"}
    fresh.lake.delete("raw_purchase_logs", [DAY])
    assert fresh.reasons() == dict.fromkeys(BOTH, "not in the lake")


def test_a_damaged_partition_is_stale_but_not_its_unchanged_downstream_after_repair(fresh: Bench) -> None:
    for name in ("raw_purchase_logs", "candidates"):
        (file,) = fresh.lake.table(name).partitions[DAY].files
        path = fresh.lake.root / name / file.path
        path.write_bytes(path.read_bytes()[:-20] + bytes(20))
        assert fresh.stale() == set(), "damage is found only when the partition is read"
        with pytest.raises(DamagedPartition):
            fresh.lake.table(name).read([DAY])
        assert fresh.stale() == {name, "candidates"}
        fresh.materialize_stale()
        assert fresh.stale() == set()
        path = fresh.lake.root / name / fresh.lake.table(name).partitions[DAY].files[0].path
        path.unlink()
        assert fresh.reasons()[name] == f"damaged: {path} is missing"
        fresh.materialize_stale()
        assert fresh.stale() == set()


def test_a_damaged_published_index_is_stale(bench: Bench) -> None:
    serving, run = ServingFolder(bench.folder / "serving"), PlannedRun("publish_index", DAY, DAY)

    def stale() -> dict[Any, str]:
        return bench._checker(serving=serving, newest=DAY).stale_partitions(run)

    def publish() -> Path:
        bench.definitions.resolve_job_def("publish_index").execute_in_process(
            instance=bench.instance, partition_key=str(DAY)
        )
        current = serving.current()
        assert current is not None and stale() == {}
        return current.path

    assert stale(), "never materialized"
    (publish() / "ranker.ubj").write_bytes(b"")
    (why,) = stale().values()
    assert why.startswith("damaged: ") and "ranker.ubj" in why
    shutil.rmtree(publish())
    assert stale()
    publish()
    for name in ("current.json", "current.copy.json"):
        (serving.root / name).unlink()
    assert stale()
    publish()
    assert bench._checker(newest=DAY).stale_partitions(run) == {}, "without a serving folder, the index is not checked"


def test_a_partition_of_another_code_version_is_stale(fresh: Bench) -> None:
    fresh.code_version = "2"
    fresh.definitions = fresh._definitions()
    assert fresh.reasons() == {"candidates": "made by code version 1, now 2"}
    assert fresh._checker(keep=True).stale_partitions(RUN) == {}
    fresh.materialize_stale()
    assert fresh.stale() == set()


def test_newly_landed_events_make_a_partition_stale(bench: Bench) -> None:
    def stale() -> bool:
        return bool(bench._checker().stale_partitions(PlannedRun("events", DAY, DAY)))

    assert stale(), "never read"
    bench.definitions.resolve_job_def("events").execute_in_process(instance=bench.instance, partition_key=str(DAY))
    assert not stale(), "nothing landed"
    file = landed_file(bench.feedback, "raw_feedback_events", DAY)
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert stale()


def test_a_changed_experiments_file_makes_the_report_stale(bench: Bench) -> None:
    file = bench.folder / "experiments.yaml"

    def reasons() -> list[str]:
        checker = bench._checker(experiments=file)
        return list(checker.stale_partitions(PlannedRun("experiments", DAY, DAY)).values())

    def materialize() -> None:
        job = bench.definitions.resolve_job_def("experiments")
        job.execute_in_process(instance=bench.instance, partition_key=str(DAY))
        assert reasons() == []

    materialize()  # without a file
    bench.land("experiments: []", file.name, age=-5)
    assert reasons() == ["the list of its files has changed since"]
    materialize()
    bench.land("experiments: [one]", file.name, age=-5)
    assert reasons() == ["experiments.yaml has changed since"]


def test_a_changed_file_makes_its_partition_stale(fresh: Bench) -> None:
    fresh.land("first", age=-5)
    assert fresh.stale() == set(), "the content is the same"
    fresh.land("fixed", age=-5)
    expected = {"raw_purchase_logs": "2018-01-01.csv has changed since", "candidates": "raw_purchase_logs is stale"}
    assert fresh.reasons() == expected
    fresh.land("fixed by a copy that keeps the time", age=1e6)
    assert fresh.reasons() == expected


def test_a_file_that_changes_while_it_is_read_is_read_again(fresh: Bench) -> None:
    fresh.land("second")
    fresh.while_it_reads = lambda: fresh.land("third")
    fresh.definitions.resolve_job_def("raw").execute_in_process(instance=fresh.instance, partition_key=str(DAY))
    assert fresh.reasons()["raw_purchase_logs"] == "2018-01-01.csv has changed since"


def test_a_changed_upstream_partition_makes_a_partition_stale_until_its_content_is_back(fresh: Bench) -> None:
    was = fresh.lake.table("raw_purchase_logs").read([DAY]).drop_columns(["date"])
    fresh.lake.write("raw_purchase_logs", pd.DataFrame({"n": ["by hand"]}), DAY)
    assert fresh.reasons() == {"candidates": "raw_purchase_logs has changed since"}
    fresh.lake.write("raw_purchase_logs", was, DAY)
    assert fresh.stale() == set()


def test_a_changed_file_with_the_same_rows_does_not_make_downstream_partitions_stale(fresh: Bench) -> None:
    fresh.land("first ", age=-5)
    assert fresh.stale() == BOTH
    fresh.definitions.resolve_job_def("raw").execute_in_process(instance=fresh.instance, partition_key=str(DAY))
    assert fresh.stale() == set()


def test_the_fingerprint_is_the_data_version_of_dagster(fresh: Bench) -> None:
    for name in sorted(BOTH):
        event = fresh.instance.get_latest_materialization_event(AssetKey(name))
        assert event is not None and event.asset_materialization is not None
        fingerprint = fresh.lake.table(name).partitions[DAY].fingerprint
        assert event.asset_materialization.tags["dagster/data_version"] == fingerprint
        assert Materializations().of(name, fresh.instance)[DAY].fingerprint == fingerprint
    raw = fresh.lake.table("raw_purchase_logs")
    assert Materializations().of("candidates", fresh.instance)[DAY].made_from == {
        "raw_purchase_logs": {"fingerprint": raw.partitions[DAY].fingerprint, "version": raw.version}
    }


def test_a_late_file_makes_its_partition_stale_whatever_its_modification_time(fresh: Bench) -> None:
    fresh.land("late", name="2018-01-01.csv.gz", age=1e6)
    (fresh.folder / "shop.yaml").write_text(
        'purchases: {path: "{date:%Y-%m-%d}.csv*", columns: {customer_id: a, product_id: b, time: c}}'
    )
    fresh.source = load_data_source(str(fresh.folder / "shop.yaml"), fresh.folder)
    assert fresh.stale() == BOTH


def test_a_partition_stays_stale_until_its_blocking_check_passes(bench: Bench) -> None:
    # Regression: the second run found it up to date, and the plan continued with the downstream assets.
    bench.check_passes = False
    bench.materialize_stale()
    assert bench.stale() == {"candidates"}
    bench.materialize_stale()
    assert bench.stale() == {"candidates"}
    bench.check_passes = True
    bench.materialize_stale()
    assert bench.stale() == set()


def test_a_blocking_check_with_severity_warn_does_not_make_a_partition_stale(bench: Bench) -> None:
    bench.check_passes, bench.severity = False, AssetCheckSeverity.WARN
    bench.materialize_stale()
    assert bench.stale() == set()


def test_changed_rules_make_only_the_newest_lists_stale(bench: Bench) -> None:
    bench.definitions.resolve_job_def("lists").execute_in_process(instance=bench.instance, partition_key=str(DAY))

    def stale(rules_version: str, newest: dt.date) -> bool:
        run = PlannedRun("lists", DAY, DAY)
        return bool(bench._checker(rules_version=rules_version, newest=newest).stale_partitions(run))

    assert [stale(version, DAY) for version in ("abc", "xyz", "")] == [False, True, True]
    assert not stale("xyz", DAY + dt.timedelta(days=1))


def test_the_gate_decision_is_stale_until_a_release_is_active(bench: Bench) -> None:
    def stale() -> bool:
        return bool(bench._checker().stale_partitions(PlannedRun("gate", DAY, DAY)))

    bench.definitions.resolve_job_def("gate").execute_in_process(instance=bench.instance, partition_key=str(DAY))
    assert stale(), "the first challenger may pass with other limits"
    bench.promote(1, DAY - dt.timedelta(days=1))
    assert not stale(), "with a champion, the gate decides once"


def test_a_partition_made_with_other_models_than_the_active_ones_is_stale(bench: Bench) -> None:
    run = PlannedRun("lists", DAY, DAY)
    bench.definitions.resolve_job_def("lists").execute_in_process(instance=bench.instance, partition_key=str(DAY))

    def reasons() -> list[str]:
        return list(bench._checker(rules_version="abc", newest=DAY).stale_partitions(run).values())

    for version, trained in ((1, dt.date(2017, 12, 1)), (2, dt.date(2017, 12, 15))):
        bench.promote(version, trained)
        why = "made with als_as_of 2017-12-01, but version 2 is active, with 2017-12-15"
        assert reasons() == ([] if version == 1 else [why])
    bench.releases.roll_back()
    assert reasons() == []


def test_a_check_of_many_days_asks_dagster_once_for_each_asset(fresh: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = Materializations.of

    def count(self: Materializations, name: str, instance: DagsterInstance) -> Any:
        asked.append(name)
        return read(self, name, instance)

    monkeypatch.setattr(Materializations, "of", count)
    days = PlannedRun("job", DAY, DAY + dt.timedelta(days=30))
    checker = fresh._checker()
    assert {day for _, day in checker.stale_partitions(days)} == set(days.days[1:])
    assert sorted(asked) == ["candidates", "raw_purchase_logs"]
    assert replace(checker).stale_partitions(RUN) == {} and len(asked) == 4, "after a run, it asks again"
