"""A bootstrap that is killed and run again gives the same result as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from dagster import DagsterRunStatus
from mlflow import MlflowClient

from rec_assets.resources.lake import Lake
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop, dagster_instance
from rec_assets_tests.test_end_to_end import fingerprints

pytestmark = pytest.mark.long

KILLS = 20
SECONDS = (5.0, 22.0)
"""A process is killed so long after its start, at a random moment. A step takes up to ten seconds."""


def start_and_kill(shop: Shop, seconds: float) -> None:
    """Start a bootstrap, then SIGKILL it and its descendants, unless it has ended."""
    command = [sys.executable, "-m", "rec_assets.cli", "bootstrap"]
    process = subprocess.Popen(
        command, env=shop.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def assert_complete(lake: Lake) -> None:
    """Assert that every visible partition is complete."""
    for name in lake.tables():
        table = lake.table(name)
        for day in table.partitions:
            assert len(table.read([day] if day else None)) == table.rows([day]), (name, day)


class Reader(threading.Thread):
    """Reads random partitions of a lake until it is stopped, and counts them; an unexpected result ends it."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(daemon=True)
        self.lake, self.chance, self.stopped = lake, random.Random(1), threading.Event()
        self.read, self.error = 0, ""

    def run(self) -> None:
        """Read."""
        while not self.stopped.is_set() and not self.error:
            try:
                for name in self.lake.tables():
                    table = self.lake.table(name)
                    for day in self.chance.sample(sorted(table.partitions, key=str), min(3, len(table.partitions))):
                        rows = len(table.read([day] if day else None))
                        if rows != table.rows([day]):
                            self.error = f"{name} of {day}: {rows} rows, not {table.rows([day])}"
                        self.read += 1
            except Exception as error:  # whatever it is, it is not explained
                self.error = repr(error)
            time.sleep(0.05)


@pytest.fixture(params=["disk", "bucket"])
def shops(request: pytest.FixtureRequest, shop: BootstrappedShop, tmp_path: Path) -> tuple[Shop, Shop]:
    """A shop to disturb, and an undisturbed one."""
    if request.param == "disk":
        return Shop(tmp_path / "home", shop.source), shop
    bucket = request.getfixturevalue("bucket")
    disturbed, undisturbed = (
        Shop(tmp_path / name, shop.source, settings={**SMALL, "REC_LAKE": str(bucket / name)}) for name in ("a", "b")
    )
    made = undisturbed.run("bootstrap")
    assert made.returncode == 0, made.stderr[-3000:]
    return disturbed, undisturbed


@pytest.mark.timeout(1800)
def test_killed_at_random_moments_a_bootstrap_gives_the_same_result(shops: tuple[Shop, Shop]) -> None:
    (disturbed, undisturbed), chance = shops, random.Random(22)
    reader = Reader(disturbed.lake)
    reader.start()
    for _ in range(KILLS):
        start_and_kill(disturbed, chance.uniform(*SECONDS))
    last = disturbed.run("bootstrap")
    reader.stopped.set()
    reader.join(60)
    assert last.returncode == 0, last.stderr[-3000:]
    assert not reader.error and reader.read > 1000
    assert fingerprints(disturbed.lake) == fingerprints(undisturbed.lake)

    instance = dagster_instance(disturbed.home)
    statuses = {run.status for run in instance.get_runs()}
    assert statuses <= {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE}
    assert DagsterRunStatus.FAILURE in statuses  # the killed runs
    client = MlflowClient(f"sqlite:///{disturbed.home}/mlflow/mlflow.db")
    versions = [v for v in client.search_model_versions("name = 'product-recommender'") if v.tags]
    assert {version.tags["as_of"] for version in versions} == {str(max(undisturbed.lake.table("champion").days))}
    runs = client.search_runs([client.get_experiment_by_name("rec_assets").experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
