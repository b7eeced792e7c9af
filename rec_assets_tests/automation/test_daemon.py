"""It runs itself: a slice of the demo on a real web server and daemon, with no hand on it but where a test says so.

The tests build on each other, in this order, as days do in a shop: each lands files and waits for what comes of them.
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

from rec_assets.automation.execution import PARENT_TAG, day_range_tags
from rec_assets.automation.flows import REASON_TAG
from rec_assets.resources.lake import Lake
from rec_assets.serving.folder import ServingFolder
from rec_assets.sources.feedback import LANDED
from rec_assets_tests.automation.deployment import Deployment
from rec_assets_tests.conftest import SMALL, Shop
from rec_assets_tests.shops import write_journey_slice
from rec_assets_tests.test_end_to_end import fingerprints
from rec_assets_tests.test_kill import assert_whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, BOOTSTRAPPED, LAST = dt.date(2017, 9, 10), dt.date(2017, 12, 10), dt.date(2017, 12, 31)
AUTOMATED = {
    **SMALL,
    "REC_GATE_DAYS": "3",
    "REC_GATE__MARGIN": "0.9",  # a few dozen customers on three days tell little
    "REC_GATE__CHURN": "1",
    "REC_GATE__COVERAGE": "0",
    "REC_GATE__LATENCY_MS": "60000",
    "REC_RETRAINING__NEW_SHARE": "0.02",
    "REC_SENSOR_SECONDS": "2",
    "REC_LANDING_SETTLE_SECONDS": "10",
}


@dataclass
class Street:
    """The deployment, and the files that are still to land."""

    deployment: Deployment
    landing: Path
    later: Path

    def land(self, *days: dt.date) -> None:
        """Land the files of these days, as whole files of some age."""
        for day in days:
            path = self.landing / f"{day}.csv"
            shutil.copy(self.later / path.name, path)
            os.utime(path, (time.time() - 60,) * 2)

    def ingested(self, first: dt.date, last: dt.date | None = None) -> list[DagsterRunStatus]:
        """How the runs of `ingest` for exactly these days stand."""
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

    def looks(self, count: int = 2) -> str:
        """Wait for some more ticks of the sensor; returns what the last one said."""
        deployment = self.deployment
        seen = max((int(tick["tickId"]) for tick in deployment.ticks("landing")), default=0)

        def looked() -> bool:
            ended = [tick for tick in deployment.ticks("landing") if tick["status"] != "STARTED"]
            return len([tick for tick in ended if int(tick["tickId"]) > seen]) >= count

        deployment.wait("the sensor to look", looked, 60)
        ended = [tick for tick in deployment.ticks("landing") if tick["status"] != "STARTED"]
        return str(ended[0]["skipReason"] or "")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """A slice of the demo up to a day, bootstrapped; the files of later days lie aside. The daemon runs."""
    folder = tmp_path_factory.mktemp("street")
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
    yield Street(deployment, landing, later)
    deployment.kill()


def purchases_and_after(lake: Lake) -> dict[str, str]:
    """Every partition's content but what the API landed, which is read whatever the purchases' files are like."""
    return {name: value for name, value in fingerprints(lake).items() if name.split("/")[0] not in LANDED}


def on(days: int) -> dt.date:
    return BOOTSTRAPPED + dt.timedelta(days=days)


def test_automation_is_off_until_turned_on(street: Street) -> None:
    assert [street.deployment.ticks(name) for name in ("landing", "models_grown_old", "new_catalog")] == [[], [], []]


def test_files_that_land_end_in_a_new_champion_with_no_hand_on_it(street: Street) -> None:
    deployment, started = street.deployment, time.monotonic()
    assert deployment.champion() == 1
    deployment.turn_on("landing")
    assert street.looks().startswith("nothing new: ")
    street.land(*(on(days) for days in range(1, 6)))
    deployment.turn_on("models_grown_old")
    deployment.wait("the alias to move", lambda: deployment.champion() == 2, 300 - (time.monotonic() - started))
    deployment.wait("the flow to end", deployment.ended("retrain", 1), 120)
    deployment.turn_off("models_grown_old")

    assert street.ingested(on(1), on(5)) == [DagsterRunStatus.SUCCESS], "five days landed at once are one run"
    (flow,) = deployment.runs("retrain")
    assert flow.status == DagsterRunStatus.SUCCESS
    assert "purchase lines have landed since models were last proposed" in flow.tags[REASON_TAG]
    release = deployment.releases.get(2)
    assert (release.as_of, release.ranker_version) == (on(5), on(2)), "the days since have judged it"
    proposed = deployment.instance.get_run_by_id(release.tags["dagster_run_id"])
    assert proposed is not None and proposed.tags[PARENT_TAG] == flow.run_id
    current = ServingFolder(deployment.shop.home / "serving").current()
    assert current is not None and (current.version, current.as_of) == (2, on(5))
    told = deployment.shop.run("lineage", "2").stdout
    assert f"purchases/{on(2)}.csv" in told and "promoted" in told


def test_a_file_that_lands_in_two_halves_is_read_once_and_whole(street: Street) -> None:
    whole = (street.later / f"{on(6)}.csv").read_bytes()
    path = street.landing / f"{on(6)}.csv"
    path.write_bytes(whole[: len(whole) // 2])
    assert "waiting until" in street.looks(1)
    path.write_bytes(whole)
    street.wait_ingested(on(6))
    street.looks()
    assert len(street.ingested(on(6))) == 1
    assert street.deployment.shop.lake.rows("raw_purchase_logs", [on(6)]) == whole.count(b"\n") - 1


def test_the_same_file_landing_twice_is_read_once(street: Street) -> None:
    before = len(street.deployment.runs("ingest"))
    street.land(on(6))
    assert street.looks(3).startswith("nothing new")
    assert len(street.deployment.runs("ingest")) == before


def test_a_day_corrected_after_its_release_is_read_again_and_reaches_the_next_lists(street: Street) -> None:
    deployment, lake, day = street.deployment, street.deployment.shop.lake, on(2)
    path = street.landing / f"{day}.csv"
    path.write_bytes(b"\n".join(path.read_bytes().splitlines()[:-3]) + b"\n")
    os.utime(path, (time.time() - 60,) * 2)
    street.wait_ingested(day)
    champion = deployment.champion()
    deployment.launch("refresh")
    deployment.wait("refresh to end", deployment.ended("refresh", 1), 240)
    assert deployment.runs("refresh")[-1].status == DagsterRunStatus.SUCCESS
    assert on(6) in lake.days("hybrid_scores") and on(6) in lake.days("live_accuracy")
    assert deployment.champion() == champion
    assert f"not as they were: {day}" in deployment.shop.run("lineage", str(champion)).stdout


def test_a_day_that_is_missing_counts_as_closed_until_its_file_comes_late(street: Street) -> None:
    lake = street.deployment.shop.lake
    street.land(on(8))
    street.wait_ingested(on(7), on(8))
    assert lake.rows("raw_purchase_logs", [on(7)]) == 0 < lake.rows("raw_purchase_logs", [on(8)])
    street.land(on(7))
    street.wait_ingested(on(7))
    assert lake.rows("raw_purchase_logs", [on(7)]) > 0


def test_a_corrupt_file_fails_its_day_alone_and_is_read_once_mended(street: Street) -> None:
    deployment, day = street.deployment, on(9)
    before, champion = purchases_and_after(deployment.shop.lake), deployment.champion()
    path = street.landing / f"{day}.csv"
    path.write_text("this,is,no\npurchase,log,file\n")
    os.utime(path, (time.time() - 60,) * 2)
    deployment.wait("the run to fail", lambda: street.ingested(day) == [DagsterRunStatus.FAILURE], 120)
    street.looks(3)
    assert street.ingested(day) == [DagsterRunStatus.FAILURE], "not tried again as long as it is the same file"
    assert (purchases_and_after(deployment.shop.lake), deployment.champion()) == (before, champion)
    street.land(day)
    street.wait_ingested(day)


def test_three_days_of_downtime_are_made_up_for_in_one_run(street: Street) -> None:
    street.deployment.stop()
    street.land(on(10), on(11), on(12))
    street.deployment.start()
    street.wait_ingested(on(10), on(12))
    assert len(street.ingested(on(10), on(12))) == 1


def test_two_runs_for_one_day_at_once_leave_it_as_one_would(street: Street) -> None:
    deployment, lake = street.deployment, street.deployment.shop.lake
    before = fingerprints(lake)
    asked = [deployment.launch("ingest", **{"dagster/partition": str(on(12))}) for _ in range(2)]
    deployment.wait(
        "both to end", lambda: all(deployment.status(run).value in ("SUCCESS", "FAILURE") for run in asked), 180
    )
    assert {deployment.status(run) for run in asked} == {DagsterRunStatus.SUCCESS}
    assert fingerprints(lake) == before
    assert_whole(lake)


def test_a_daemon_killed_in_mid_run_ends_where_an_undisturbed_one_does(street: Street) -> None:
    deployment, lake = street.deployment, street.deployment.shop.lake
    killed = deployment.launch("refresh")
    deployment.wait("scoring to begin", lambda: any(
        run.status == DagsterRunStatus.STARTED and run.tags[PARENT_TAG] == killed for run in deployment.runs("score")
    ), 240)  # fmt: skip
    deployment.kill()
    assert_whole(lake)
    deployment.start()
    deployment.wait("it to be noticed", lambda: deployment.status(killed) == DagsterRunStatus.FAILURE, 180)
    again = deployment.wait(
        "it to be made again", lambda: [run for run in deployment.runs("refresh") if run.parent_run_id == killed], 120
    )
    deployment.wait("that to end", lambda: deployment.status(again[0].run_id) == DagsterRunStatus.SUCCESS, 300)
    assert {run.is_finished for run in deployment.instance.get_runs()} == {True}
    after = fingerprints(lake)
    for table in ("candidates", "hybrid_scores", "similar_products"):
        shutil.rmtree(lake.root / table / f"date={on(12)}")
    undisturbed = deployment.launch("refresh")
    deployment.wait("a refresh", lambda: deployment.status(undisturbed) == DagsterRunStatus.SUCCESS, 300)
    assert fingerprints(lake) == after


def test_a_retraining_killed_after_its_promotion_still_reaches_the_shop(street: Street) -> None:
    # Its retry used to find "nothing to train yet", as the champion was already its own; nothing was published.
    deployment = street.deployment
    killed = deployment.launch("retrain")
    deployment.wait("lists by the new champion to begin", lambda: any(
        run.status == DagsterRunStatus.STARTED and run.tags[PARENT_TAG] == killed for run in deployment.runs("score")
    ), 300)  # fmt: skip
    assert deployment.champion() == 3
    deployment.kill()
    deployment.start()
    again = deployment.wait(
        "it to be made again", lambda: [run for run in deployment.runs("retrain") if run.parent_run_id == killed], 300
    )
    deployment.wait("that to end", lambda: deployment.status(again[0].run_id) == DagsterRunStatus.SUCCESS, 300)
    assert deployment.champion() == 3
    current = ServingFolder(deployment.shop.home / "serving").current()
    assert current is not None and (current.version, current.as_of) == (3, on(12))
    client = deployment.releases.client
    (experiment,) = (each for each in client.search_experiments() if each.name == "rec_assets")
    states = {run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert "RUNNING" not in states
