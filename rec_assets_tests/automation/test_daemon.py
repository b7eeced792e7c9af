"""Automation end to end: a slice of the demo on a real web server and daemon.

The tests build on each other, in this order: each lands files and waits for the results.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster import DagsterRunStatus

from rec_assets.automation.plan import PARENT_TAG
from rec_assets.automation.plan_execution import day_range_tags
from rec_assets.automation.plan_jobs import REASON_TAG
from rec_assets.resources.lake import Lake
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.sources.feedback import API_FILES
from rec_assets_tests.automation.deployment import Deployment
from rec_assets_tests.conftest import SMALL, Shop
from rec_assets_tests.shops import write_journey_slice
from rec_assets_tests.test_end_to_end import fingerprints
from rec_assets_tests.test_kill import assert_complete

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, BOOTSTRAPPED, LAST = dt.date(2017, 9, 10), dt.date(2017, 12, 10), dt.date(2017, 12, 31)
AUTOMATED = {
    **SMALL,
    "REC_GATE_DAYS": "3",
    "REC_GATE__MAX_NDCG_LOSS": "0.9",  # a few dozen customers on three days prove little
    "REC_GATE__MAX_CHURN": "1",
    "REC_GATE__MIN_COVERAGE": "0",
    "REC_GATE__MAX_LATENCY_MS": "60000",
    "REC_RETRAINING__NEW_INTERACTIONS_SHARE": "0.02",
    "REC_SENSOR_INTERVAL_SECONDS": "2",
    "REC_LANDING_SETTLE_SECONDS": "10",
}


@dataclass
class AutomatedShop:
    """The deployment, and the files that have not landed yet."""

    deployment: Deployment
    landing: Path
    later: Path

    def land(self, *days: dt.date) -> None:
        """Land the files of these days, complete and a minute old."""
        for day in days:
            path = self.landing / f"{day}.csv"
            shutil.copy(self.later / path.name, path)
            os.utime(path, (time.time() - 60,) * 2)

    def ingested(self, first: dt.date, last: dt.date | None = None) -> list[DagsterRunStatus]:
        """The statuses of the runs of `ingest` for exactly these days."""
        wanted = day_range_tags(first, last) if last else {"dagster/partition": str(first)}
        runs = self.deployment.runs("ingest")
        return [run.status for run in runs if wanted.items() <= run.tags.items() and PARENT_TAG not in run.tags]

    def wait_ingested(self, first: dt.date, last: dt.date | None = None, count: int = 1) -> None:
        """Wait until so many runs of `ingest` for these days have succeeded."""
        self.deployment.wait(
            f"{count} runs of ingest for {first} to {last or first}",
            lambda: self.ingested(first, last).count(DagsterRunStatus.SUCCESS) >= count,
            150,
        )

    def wait_ticks(self, count: int = 2) -> str:
        """Wait for some more ticks of the sensor; returns the last skip reason."""
        deployment = self.deployment
        seen = max((int(tick["tickId"]) for tick in deployment.ticks("purchase_logs_landed")), default=0)

        def has_ticked() -> bool:
            ended = [tick for tick in deployment.ticks("purchase_logs_landed") if tick["status"] != "STARTED"]
            return len([tick for tick in ended if int(tick["tickId"]) > seen]) >= count

        deployment.wait("more ticks of the sensor", has_ticked, 60)
        ended = [tick for tick in deployment.ticks("purchase_logs_landed") if tick["status"] != "STARTED"]
        return str(ended[0]["skipReason"] or "")


@pytest.fixture(scope="module")
def automated_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AutomatedShop]:
    """A bootstrapped slice of the demo; the files of later days have not landed. The daemon runs."""
    folder = tmp_path_factory.mktemp("automated_shop")
    source = write_journey_slice(folder / "shop", 120, FIRST, LAST)
    landing, later = folder / "shop" / "purchases", folder / "later"
    later.mkdir()
    for path in landing.iterdir():
        if path.stem > str(BOOTSTRAPPED):
            path.rename(later / path.name)
    shop = Shop(folder / "home", source, settings=AUTOMATED)
    made = shop.run("bootstrap")
    assert made.returncode == 0, made.stderr[-3000:]
    deployment = Deployment(shop)
    deployment.start()
    yield AutomatedShop(deployment, landing, later)
    deployment.kill()


def fingerprints_without_feedback(lake: Lake) -> dict[str, str]:
    """The content of every partition that does not come from the API's landed events."""
    return {name: value for name, value in fingerprints(lake).items() if name.split()[0] not in API_FILES}


def on(days: int) -> dt.date:
    return BOOTSTRAPPED + dt.timedelta(days=days)


def test_automation_is_off_by_default(automated_shop: AutomatedShop) -> None:
    assert [
        automated_shop.deployment.ticks(name)
        for name in ("purchase_logs_landed", "retraining_needed", "catalog_landed")
    ] == [[], [], []]


def test_landed_files_lead_to_a_new_champion(automated_shop: AutomatedShop) -> None:
    deployment, started = automated_shop.deployment, time.monotonic()
    assert deployment.champion() == 1
    deployment.turn_on("purchase_logs_landed")
    assert automated_shop.wait_ticks().startswith("nothing new: ")
    automated_shop.land(*(on(days) for days in range(1, 6)))
    deployment.turn_on("retraining_needed")
    deployment.wait("the alias to move", lambda: deployment.champion() == 2, 300 - (time.monotonic() - started))
    deployment.wait("the retraining to end", deployment.ended("retrain", 1), 120)
    deployment.turn_off("retraining_needed")

    assert automated_shop.ingested(on(1), on(5)) == [DagsterRunStatus.SUCCESS], "five days landed at once are one run"
    (retraining,) = deployment.runs("retrain")
    assert retraining.status == DagsterRunStatus.SUCCESS
    assert "interactions have landed since the last challenger" in retraining.tags[REASON_TAG]
    release = deployment.releases.get(2)
    assert (release.as_of, release.ranker_as_of) == (on(5), on(2)), "the purchases of the days since were compared"
    release_run = deployment.instance.get_run_by_id(release.tags["dagster_run_id"])
    assert release_run is not None and release_run.tags[PARENT_TAG] == retraining.run_id
    current = ServingFolder(deployment.shop.home / "serving").current()
    assert current is not None and (current.version, current.as_of) == (2, on(5))
    lineage = deployment.shop.run("lineage", "2").stdout
    assert f"purchases/{on(2)}.csv" in lineage and "promoted" in lineage


def test_a_file_written_in_two_parts_is_read_once_and_complete(automated_shop: AutomatedShop) -> None:
    whole = (automated_shop.later / f"{on(6)}.csv").read_bytes()
    path = automated_shop.landing / f"{on(6)}.csv"
    path.write_bytes(whole[: len(whole) // 2])
    assert "waiting until" in automated_shop.wait_ticks(1)
    path.write_bytes(whole)
    automated_shop.wait_ingested(on(6))
    automated_shop.wait_ticks()
    assert len(automated_shop.ingested(on(6))) == 1
    assert automated_shop.deployment.shop.lake.table("raw_purchase_logs").rows([on(6)]) == whole.count(b"\n") - 1


def test_the_same_file_landing_twice_is_read_once(automated_shop: AutomatedShop) -> None:
    before = len(automated_shop.deployment.runs("ingest"))
    automated_shop.land(on(6))
    assert automated_shop.wait_ticks(3).startswith("nothing new")
    assert len(automated_shop.deployment.runs("ingest")) == before


def test_a_corrected_day_is_read_again_and_used_for_the_next_lists(automated_shop: AutomatedShop) -> None:
    deployment, lake, day = automated_shop.deployment, automated_shop.deployment.shop.lake, on(2)
    path = automated_shop.landing / f"{day}.csv"
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:-3]) + b"\n")
    os.utime(path, (time.time() - 60,) * 2)
    automated_shop.wait_ingested(day)
    champion = deployment.champion()
    deployment.launch("daily_update")
    deployment.wait("the daily update to end", deployment.ended("daily_update", 1), 240)
    assert deployment.runs("daily_update")[-1].status == DagsterRunStatus.SUCCESS
    assert on(6) in lake.table("hybrid_scores").days and on(6) in lake.table("live_accuracy").days
    assert deployment.champion() == champion
    assert f"changed or deleted: {day}" in deployment.shop.run("lineage", str(champion)).stdout


def test_a_missing_day_has_no_sales_until_its_file_lands_late(automated_shop: AutomatedShop) -> None:
    lake = automated_shop.deployment.shop.lake
    automated_shop.land(on(8))
    automated_shop.wait_ingested(on(7), on(8))
    assert lake.table("raw_purchase_logs").rows([on(7)]) == 0 < lake.table("raw_purchase_logs").rows([on(8)])
    automated_shop.land(on(7))
    automated_shop.wait_ingested(on(7))
    assert lake.table("raw_purchase_logs").rows([on(7)]) > 0


def test_a_corrupt_file_fails_only_its_day_and_is_read_once_it_is_fixed(automated_shop: AutomatedShop) -> None:
    deployment, day = automated_shop.deployment, on(9)
    before, champion = fingerprints_without_feedback(deployment.shop.lake), deployment.champion()
    path = automated_shop.landing / f"{day}.csv"
    path.write_text("this,is,no\npurchase,log,file\n")
    os.utime(path, (time.time() - 60,) * 2)
    deployment.wait("the run to fail", lambda: automated_shop.ingested(day) == [DagsterRunStatus.FAILURE], 120)
    automated_shop.wait_ticks(3)
    assert automated_shop.ingested(day) == [DagsterRunStatus.FAILURE], "not retried until the file changes"
    assert (fingerprints_without_feedback(deployment.shop.lake), deployment.champion()) == (before, champion)
    automated_shop.land(day)
    automated_shop.wait_ingested(day)


def test_days_landed_during_a_downtime_are_read_in_one_run(automated_shop: AutomatedShop) -> None:
    automated_shop.deployment.stop()
    automated_shop.land(on(10), on(11), on(12))
    automated_shop.deployment.start()
    automated_shop.wait_ingested(on(10), on(12))
    assert len(automated_shop.ingested(on(10), on(12))) == 1


def test_two_runs_of_one_day_at_once_give_the_result_of_one(automated_shop: AutomatedShop) -> None:
    deployment, lake = automated_shop.deployment, automated_shop.deployment.shop.lake
    before = fingerprints(lake)
    runs = [deployment.launch("ingest", **{"dagster/partition": str(on(12))}) for _ in range(2)]
    deployment.wait(
        "both to end", lambda: all(deployment.status(run).value in ("SUCCESS", "FAILURE") for run in runs), 180
    )
    assert {deployment.status(run) for run in runs} == {DagsterRunStatus.SUCCESS}
    assert fingerprints(lake) == before
    assert_complete(lake)


def test_after_a_kill_the_retried_run_gives_the_undisturbed_result(automated_shop: AutomatedShop) -> None:
    deployment, lake = automated_shop.deployment, automated_shop.deployment.shop.lake
    killed = deployment.launch("daily_update")
    deployment.wait("scoring to begin", lambda: any(
        run.status == DagsterRunStatus.STARTED and run.tags[PARENT_TAG] == killed
        for run in deployment.runs("score_customers")
    ), 240)  # fmt: skip
    deployment.kill()
    assert_complete(lake)
    deployment.start()
    deployment.wait("the failure to be detected", lambda: deployment.status(killed) == DagsterRunStatus.FAILURE, 180)
    again = deployment.wait(
        "the retry", lambda: [run for run in deployment.runs("daily_update") if run.parent_run_id == killed], 120
    )
    deployment.wait("the retry to end", lambda: deployment.status(again[0].run_id) == DagsterRunStatus.SUCCESS, 300)
    assert {run.is_finished for run in deployment.instance.get_runs()} == {True}
    after = fingerprints(lake)
    for table in ("candidates", "hybrid_scores", "similar_products"):
        shutil.rmtree(lake.root / table / f"date={on(12)}")
    undisturbed = deployment.launch("daily_update")
    deployment.wait("a daily update", lambda: deployment.status(undisturbed) == DagsterRunStatus.SUCCESS, 300)
    assert fingerprints(lake) == after


def test_a_retraining_killed_after_its_promotion_is_still_published(automated_shop: AutomatedShop) -> None:
    # Regression: the retry found "nothing to train yet" because its own models were champion, and published nothing.
    deployment = automated_shop.deployment
    killed = deployment.launch("retrain")
    deployment.wait("scoring with the new champion to begin", lambda: any(
        run.status == DagsterRunStatus.STARTED and run.tags[PARENT_TAG] == killed
        for run in deployment.runs("score_customers")
    ), 300)  # fmt: skip
    assert deployment.champion() == 3
    deployment.kill()
    deployment.start()
    again = deployment.wait(
        "the retry", lambda: [run for run in deployment.runs("retrain") if run.parent_run_id == killed], 300
    )
    deployment.wait("the retry to end", lambda: deployment.status(again[0].run_id) == DagsterRunStatus.SUCCESS, 300)
    assert deployment.champion() == 3
    current = ServingFolder(deployment.shop.home / "serving").current()
    assert current is not None and (current.version, current.as_of) == (3, on(12))
    client = deployment.releases.client
    (experiment,) = (e for e in client.search_experiments() if e.name == "rec_assets")
    states = {run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert "RUNNING" not in states
