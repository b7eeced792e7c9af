"""What makes a partition stale, one cause at a time, on a real instance and a lake of two tables."""

import datetime as dt
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    DagsterInstance,
    DailyPartitionsDefinition,
    Definitions,
    asset,
    asset_check,
    define_asset_job,
)
from dagster import AssetExecutionContext as Context

from rec_assets.automation.freshness import Freshness
from rec_assets.automation.plan import PlannedRun
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.lake import DamagedPartition, Lake
from rec_assets.resources.releases import PROMOTED, Releases
from rec_assets.serving.folder import ServingFolder
from rec_assets.sources.feedback import landed_file, read_feedback
from rec_assets.sources.landing import file_fingerprints
from rec_assets.sources.spec import Source, load_source
from rec_assets_tests.serving import shop

DAY = dt.date(2018, 1, 1)
RUN = PlannedRun("job", DAY, DAY)


class Bench:
    """raw_purchase_logs → candidates, the latter with a blocking check; and what Freshness thinks of them."""

    def __init__(self, folder: Path, instance: DagsterInstance) -> None:
        self.folder, self.instance, self.lake = folder, instance, Lake(folder / "lake")
        self.feedback = folder / "feedback"
        self.releases = Releases(f"sqlite:///{folder}/mlflow/mlflow.db", "model")
        (folder / "shop.yaml").write_text(
            'purchases: {path: "{date:%Y-%m-%d}.csv", columns: {customer_id: a, product_id: b, time: c}}'
        )
        self.land("first")
        self.source: Source = load_source(str(folder / "shop.yaml"), folder)
        self.check_passes, self.severity = True, AssetCheckSeverity.ERROR
        self.code_version = "1"
        self.definitions = self._definitions()

    def land(self, content: str, name: str = "2018-01-01.csv", age: float = 60) -> None:
        path = self.folder / name
        path.write_text(content)
        os.utime(path, (time.time() - age,) * 2)

    def _definitions(self) -> Definitions:
        days = DailyPartitionsDefinition("2018-01-01", end_date="2018-01-03")

        @asset(partitions_def=days)
        def raw_purchase_logs() -> None:
            content = "".join(path.read_text() for path in self.source.files(DAY))
            files = file_fingerprints(self.source, DAY)
            self.lake.write("raw_purchase_logs", pd.DataFrame({"n": [content]}), DAY, files)

        @asset(partitions_def=days, deps=[raw_purchase_logs], code_version=self.code_version)
        def candidates(context: Context) -> None:
            content = self.lake.pandas("raw_purchase_logs", [DAY])["n"]
            self.lake.write("candidates", pd.DataFrame({"n": content}), DAY)
            context.add_output_metadata({"als_version": "2017-12-01"})

        @asset_check(asset=candidates, blocking=True)
        def sound() -> AssetCheckResult:
            return AssetCheckResult(passed=self.check_passes, severity=self.severity)

        @asset(partitions_def=days)
        def raw_feedback_events() -> None:
            self.lake.write("raw_feedback_events", read_feedback(self.feedback, DAY), DAY)

        @asset(partitions_def=days)
        def hybrid_scores(context: Context) -> None:
            self.lake.write("hybrid_scores", pd.DataFrame({"n": [1]}), DAY)
            context.add_output_metadata({"rules_version": "abc"})

        @asset(partitions_def=days)
        def release_gate() -> None:
            self.lake.write("release_gate", pd.DataFrame({"passed": [False]}), DAY)

        @asset(partitions_def=days)
        def serving_index() -> None:
            shop.publish(self.folder / "serving", shop.index())
            self.lake.write("serving_index", pd.DataFrame({"n": [1]}), DAY)

        jobs = [
            define_asset_job("publish", [serving_index]),
            define_asset_job("gate", [release_gate]),
            define_asset_job("job", [raw_purchase_logs, candidates]),
            define_asset_job("events", [raw_feedback_events]),
            define_asset_job("lists", [hybrid_scores]),
        ]
        assets = [raw_purchase_logs, candidates, raw_feedback_events, hybrid_scores, release_gate, serving_index]
        return Definitions(assets, asset_checks=[sound], jobs=jobs)

    def make(self) -> None:
        """Make what is stale, as a plan does."""
        keys = sorted({key for key, _ in self._freshness().stale(RUN)})
        job = self.definitions.resolve_job_def("job")
        job.execute_in_process(
            instance=self.instance, partition_key=str(DAY), asset_selection=keys, raise_on_error=False
        )

    def promote(self, version: int, trained: dt.date) -> None:
        """Register a version and promote it."""
        if version == 1:
            self.releases.client.create_registered_model("model")
        self.releases.client.create_model_version("model", source="/nowhere")
        days = dict.fromkeys(("as_of", "als_version", "graph_version", "ranker_version"), trained)
        self.releases.propose(version, {**days, "recipe": Recipe().model_dump_json()})
        self.releases.decide(version, PROMOTED, {})

    def stale(self) -> set[str]:
        return {key.path[-1] for key, _ in self._freshness().stale(RUN)}

    def _freshness(self, **more: Any) -> Freshness:
        return Freshness(self.definitions, self.instance, self.lake, self.releases, self.source, self.feedback, **more)


BOTH = {"raw_purchase_logs", "candidates"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with DagsterInstance.ephemeral() as instance:
        yield Bench(tmp_path, instance)


@pytest.fixture
def made(bench: Bench) -> Bench:
    bench.make()
    assert bench.stale() == set()
    return bench


def test_what_was_never_made_is_stale(bench: Bench) -> None:
    assert bench.stale() == BOTH


def test_what_is_gone_from_the_lake_is_stale_with_what_is_made_from_it(made: Bench) -> None:
    made.lake.delete("candidates", DAY)
    assert made.stale() == {"candidates"}
    made.lake.delete("raw_purchase_logs", DAY)
    assert made.stale() == BOTH


def test_what_is_damaged_is_made_again_and_nothing_that_was_made_from_it_before(made: Bench) -> None:
    for name in ("raw_purchase_logs", "candidates"):
        manifest = made.lake.manifest(name, DAY)
        assert manifest is not None
        path = made.lake.root / name / f"date={DAY}" / manifest.files[0]
        whole = path.read_bytes()
        path.write_bytes(whole[:-20] + bytes(20))
        assert made.stale() == set(), "what nobody read is taken to be whole"
        with pytest.raises(DamagedPartition):
            made.lake.read(name, [DAY])
        assert made.stale() == {name, "candidates"}
        made.make()
        assert made.stale() == set()
        assert path.read_bytes() == whole


def test_an_index_that_is_damaged_where_it_is_served_is_published_again(bench: Bench) -> None:
    serving, run = ServingFolder(bench.folder / "serving"), PlannedRun("publish", DAY, DAY)

    def stale() -> list[Any]:
        return bench._freshness(serving=serving, newest=DAY).stale(run)

    def publish() -> Path:
        bench.definitions.resolve_job_def("publish").execute_in_process(instance=bench.instance, partition_key=str(DAY))
        current = serving.current()
        assert current is not None and stale() == []
        return current.path

    assert stale(), "never made"
    (publish() / "ranker.ubj").write_bytes(b"")
    assert "ranker.ubj" in bench._freshness(serving=serving, newest=DAY).damage(*stale()[0])
    shutil.rmtree(publish())
    assert stale()
    publish()
    for name in ("current.json", "current.copy.json"):
        (serving.root / name).unlink()
    assert stale()
    publish()
    assert bench._freshness(newest=DAY).stale(run) == [], "another machine's to look at"


def test_what_another_version_of_the_code_made_is_stale(made: Bench) -> None:
    made.code_version = "2"
    made.definitions = made._definitions()
    assert made.stale() == {"candidates"}
    made.make()
    assert made.stale() == set()


def test_events_that_landed_since_are_read(bench: Bench) -> None:
    def stale() -> bool:
        return bool(bench._freshness().stale(PlannedRun("events", DAY, DAY)))

    assert stale(), "never read"
    bench.definitions.resolve_job_def("events").execute_in_process(instance=bench.instance, partition_key=str(DAY))
    assert not stale(), "nothing landed"
    file = landed_file(bench.feedback, "raw_feedback_events", DAY)
    file.parent.mkdir(parents=True)
    file.write_text("")
    assert stale()


def test_a_file_that_changed_since_is_read_again(made: Bench) -> None:
    made.land("fixed", age=-5)
    assert made.stale() == BOTH


def test_a_late_file_counts_however_old_it_says_it_is(made: Bench) -> None:
    made.land("late", name="2018-01-01.csv.gz", age=1e6)
    (made.folder / "shop.yaml").write_text(
        'purchases: {path: "{date:%Y-%m-%d}.csv*", columns: {customer_id: a, product_id: b, time: c}}'
    )
    made.source = load_source(str(made.folder / "shop.yaml"), made.folder)
    assert made.stale() == BOTH


def test_what_a_blocking_check_stopped_once_is_stopped_again(bench: Bench) -> None:
    # The second try used to find it up to date, and went on to what comes after it.
    bench.check_passes = False
    bench.make()
    assert bench.stale() == {"candidates"}
    bench.make()
    assert bench.stale() == {"candidates"}
    bench.check_passes = True
    bench.make()
    assert bench.stale() == set()


def test_a_blocking_check_that_only_warned_stops_nothing(bench: Bench) -> None:
    bench.check_passes, bench.severity = False, AssetCheckSeverity.WARN
    bench.make()
    assert bench.stale() == set()


def test_of_the_newest_day_alone_lists_by_other_rules_are_stale(bench: Bench) -> None:
    bench.definitions.resolve_job_def("lists").execute_in_process(instance=bench.instance, partition_key=str(DAY))

    def stale(rules_version: str, newest: dt.date) -> bool:
        run = PlannedRun("lists", DAY, DAY)
        return bool(bench._freshness(rules_version=rules_version, newest=newest).stale(run))

    assert [stale(version, DAY) for version in ("abc", "xyz", "")] == [False, True, True]
    assert not stale("xyz", DAY + dt.timedelta(days=1))


def test_a_decision_on_the_first_release_is_made_anew_until_one_is_in_force(bench: Bench) -> None:
    def stale() -> bool:
        return bool(bench._freshness().stale(PlannedRun("gate", DAY, DAY)))

    bench.definitions.resolve_job_def("gate").execute_in_process(instance=bench.instance, partition_key=str(DAY))
    assert stale(), "rejected with no release before it, it may pass by other limits"
    bench.promote(1, DAY - dt.timedelta(days=1))
    assert not stale(), "beside a champion a challenger is judged once"


def test_what_was_made_with_other_models_than_are_in_force_is_stale(made: Bench) -> None:
    for version, trained in ((1, dt.date(2017, 12, 1)), (2, dt.date(2017, 12, 15))):
        made.promote(version, trained)
        assert made.stale() == (set() if version == 1 else {"candidates"})
    made.releases.roll_back()
    assert made.stale() == set()
