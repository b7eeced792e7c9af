"""A bootstrap that is killed and run again gives the same result as an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance, DagsterRunStatus
from mlflow import MlflowClient

from rec_assets.resources.lake import Lake
from rec_assets_tests.conftest import BootstrappedShop, Shop
from rec_assets_tests.test_end_to_end import fingerprints

pytestmark = pytest.mark.long

# The process is killed so many seconds after this line of progress.
MOMENTS = (("[2/12]", 2.0), ("[4/12]", 8.0), ("[6/12]", 4.0), ("[11/12]", 3.0))


def start_and_kill(shop: Shop, line: str, delay: float, log: Path) -> None:
    """Start a bootstrap, wait for a line of progress and a delay, then SIGKILL it and its descendants."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "rec_assets.cli", "bootstrap"],
            env=shop.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        until = time.monotonic() + 400
        while line not in log.read_text(errors="replace"):
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < until, f"{line} did not appear"
            time.sleep(0.05)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def assert_complete(lake: Lake) -> None:
    """Assert that every visible partition is complete."""
    for name in lake.tables():
        table = lake.table(name)
        assert table.damage() == {}
        for day, part in table.partitions.items():
            found = sum(pq.read_metadata(lake.root / name / file.path).num_rows for file in part.files)
            assert part.rows == found, (name, day)


@pytest.mark.timeout(900)
def test_killed_at_several_points_a_bootstrap_gives_the_same_result(shop: BootstrappedShop, tmp_path: Path) -> None:
    disturbed = Shop(tmp_path / "home", shop.source)
    for number, (line, delay) in enumerate(MOMENTS):
        start_and_kill(disturbed, line, delay, tmp_path / f"{number}.log")
        assert_complete(disturbed.lake)
    last = disturbed.run("bootstrap")
    assert last.returncode == 0, last.stderr[-3000:]
    assert fingerprints(disturbed.lake) == fingerprints(shop.lake)

    instance = DagsterInstance.from_config(str(disturbed.home / "dagster"))
    statuses = {run.status for run in instance.get_runs()}
    assert statuses <= {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE}
    assert DagsterRunStatus.FAILURE in statuses  # the killed runs
    client = MlflowClient(f"sqlite:///{disturbed.home}/mlflow/mlflow.db")
    versions = [v for v in client.search_model_versions("name = 'product-recommender'") if v.tags]
    assert {version.tags["as_of"] for version in versions} == {str(max(shop.lake.table("champion").days))}
    runs = client.search_runs([client.get_experiment_by_name("rec_assets").experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
