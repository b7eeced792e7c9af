"""A Spark cluster and Spark Connect give the results of one local process, also if a worker dies.

Run these tests with `make cluster-test`. They start real daemons on the loopback interface (`cluster.py`).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rec_assets.resources.lake import Lake
from rec_assets_tests.cluster import Cluster, cluster, connect_server
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop
from rec_assets_tests.shops import write_giftware_shop
from rec_assets_tests.test_end_to_end import fingerprints

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

# Enough iterations to kill a worker between them, and to overflow the stack without checkpoints.
SETTINGS = {**SMALL, "REC_RECIPE__ALS__ITERATIONS": "20"}
EXECUTORS = {"spark.executor.memory": "1g"}
TOP_N = {
    "hybrid_scores": ["customer_id", "list", "rank"],
    "similar_products": ["product_id", "kind", "rank"],
    "candidates": ["customer_id", "product_id"],
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> BootstrappedShop:
    """The giftware shop, bootstrapped in one process."""
    folder = tmp_path_factory.mktemp("local")
    bare = Shop(folder / "home", write_giftware_shop(folder / "shop"), settings=SETTINGS)
    result = bare.run("bootstrap")
    assert result.returncode == 0, result.stderr[-3000:]
    return BootstrappedShop(bare.home, bare.source, result, settings=SETTINGS)


@pytest.fixture(scope="module")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


def on_master(url: str, **conf: str) -> dict[str, str]:
    """Settings for Spark on a master of this machine."""
    return {**SETTINGS, "REC_SPARK_MASTER": url, "SPARK_LOCAL_IP": "127.0.0.1",
            "REC_SPARK_CONF": json.dumps({**EXECUTORS, **conf})}  # fmt: skip


def settings_without_spark() -> dict[str, str]:
    """The settings without the Spark master."""
    return {name: value for name, value in SETTINGS.items() if name != "REC_SPARK_MASTER"}


def on_connect(url: str) -> dict[str, str]:
    """Settings for a Spark Connect server, without Java on this machine."""
    return {**settings_without_spark(), "REC_SPARK_REMOTE": url, "JAVA_HOME": "/nowhere"}


def assert_same(lake: Lake, wanted: Lake) -> None:
    """Assert equal rows in the three tables; floats may differ in their last bits."""
    for table, keys in TOP_N.items():
        assert lake.table(table).days == wanted.table(table).days
        for day in wanted.table(table).days:
            found, expected = (
                each.table(table).pandas([day]).sort_values(keys, ignore_index=True) for each in (lake, wanted)
            )
            pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-6)
    graphs = [
        {name: content for name, content in fingerprints(each).items() if name.startswith(("co_purchase", "products"))}
        for each in (lake, wanted)
    ]
    assert graphs[0] == graphs[1]  # equal to the last bit, in the same order


def assert_same_lists(lake: Lake, wanted: Lake) -> None:
    """Assert at each rank the same product, or one with the same score in the other lists."""
    for table, owner, item in (
        ("hybrid_scores", ["customer_id", "list"], "product_id"),
        ("similar_products", ["product_id", "kind"], "similar_product_id"),
    ):
        day = max(wanted.table(table).days)
        found, expected = (
            each.table(table).pandas([day]).sort_values([*owner, "rank"], ignore_index=True) for each in (lake, wanted)
        )
        pd.testing.assert_frame_equal(found[[*owner, "rank"]], expected[[*owner, "rank"]])
        last = expected.groupby(owner)["score"].transform("last")  # for products just beyond the end of the list
        scored = found[[*owner, item]].merge(expected[[*owner, item, "score"]], how="left")["score"].fillna(last)
        np.testing.assert_allclose(scored, expected["score"], rtol=1e-4, atol=1e-6, err_msg=table)


def test_a_cluster_gives_the_local_results(local: BootstrappedShop, spark_cluster: Cluster, tmp_path: Path) -> None:
    before = len(spark_cluster.state()["completedapps"])
    shop = Shop(tmp_path / "home", local.source, settings=on_master(spark_cluster.url))
    done = shop.run("bootstrap")
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(spark_cluster.state()["completedapps"]) == before + 1  # one session for all runs
    assert_same(shop.lake, local.lake)


def test_spark_connect_gives_the_local_results(local: BootstrappedShop, spark_cluster: Cluster, tmp_path: Path) -> None:
    with connect_server(tmp_path, spark_cluster.url) as url:
        shop = Shop(tmp_path / "home", local.source, settings=on_connect(url))
        done = shop.run("bootstrap")
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(shop.lake, local.lake)


def als_stages(events: Path) -> list[bool]:
    """For each submitted stage of ALS in the event log: whether an executor was lost after it."""
    stages: list[bool] = []
    for log in events.iterdir():
        for line in log.read_text(errors="replace").splitlines():
            if '"Event":"SparkListenerStageSubmitted"' in line and "ALS.scala" in line:
                stages.append(False)
            elif '"Event":"SparkListenerExecutorRemoved"' in line:
                stages = [True] * len(stages)
    return stages


def test_a_worker_killed_during_training_does_not_change_the_lists(local: BootstrappedShop, tmp_path: Path) -> None:
    shutil.copytree(local.home, tmp_path / "home")
    events = tmp_path / "events"
    events.mkdir()
    newest = max(local.lake.table("als_model").days)
    with cluster(tmp_path / "cluster") as doomed:
        log = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": events.as_uri(),
               "spark.eventLog.compress": "false", "spark.eventLog.rolling.enabled": "false"}  # fmt: skip
        shop = Shop(tmp_path / "home", local.source, settings=on_master(doomed.url, **log))
        for table in ("als_model", *TOP_N):  # deleted partitions are materialized again
            shop.lake.delete(table, [newest])
        with (tmp_path / "log").open("wb") as output:
            run = subprocess.Popen([sys.executable, "-m", "rec_assets.cli", "bootstrap"], env=shop.environment,
                                   stdout=output, stderr=output)  # fmt: skip
        try:
            until = time.monotonic() + 300
            while len(als_stages(events)) < 10:
                assert run.poll() is None, (tmp_path / "log").read_text(errors="replace")[-3000:]
                assert time.monotonic() < until, "ALS did not begin"
                time.sleep(0.02)
            doomed.workers[0].kill()
            assert run.wait(timeout=500) == 0, (tmp_path / "log").read_text(errors="replace")[-3000:]
        finally:
            run.kill()
            run.wait()
    stages = als_stages(events)
    assert any(stages) and not all(stages)  # lost during ALS: there are stages before and after
    assert shop.lake.table("als_model").days == local.lake.table("als_model").days
    # Lost blocks are added up again, maybe in another order, so the last bits of the factors may differ.
    assert_same_lists(shop.lake, local.lake)


@pytest.mark.parametrize("variable", ["REC_SPARK_MASTER=spark", "REC_SPARK_REMOTE=sc"])
def test_an_unreachable_spark_is_reported_in_one_line(tmp_path: Path, variable: str) -> None:
    name, scheme = variable.split("=")
    with socket.socket() as taken:  # bound but not listening, so that no other process responds
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        asked = first_use({**settings_without_spark(), name: f"{scheme}://{address}"}, tmp_path)
    assert asked.returncode != 0
    assert f"{name}: no Spark answers at {address}" in asked.stderr.strip().splitlines()[-1]


def test_executors_without_rec_assets_are_reported_at_once(spark_cluster: Cluster, tmp_path: Path) -> None:
    bare = tmp_path / "bare" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare.parents[1]], check=True)
    # The requirements of Spark, without rec_assets.
    site = next((bare.parents[1] / "lib").glob("python*/site-packages"))
    packages = Path(pd.__file__).parents[1]
    for needed in ("pandas", "numpy", "numpy.libs", "pyarrow", "dateutil", "pytz", "tzdata", "six.py"):
        if (packages / needed).exists():
            (site / needed).symlink_to(packages / needed)
    asked = first_use({**on_master(spark_cluster.url), "PYSPARK_PYTHON": str(bare)}, tmp_path)
    assert "the executors' Python has no rec_assets: give them the environment" in asked.stderr


def first_use(settings: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Start Spark as the assets do, in a new process, which exits with the error message."""
    code = (
        "from rec_assets.settings import get_settings\n"
        "from rec_assets.resources.spark import SparkUnusable, spark_resource\n"
        "import sys\n"
        "try: spark_resource(get_settings()).spark_session\n"
        "except SparkUnusable as error: sys.exit(str(error))\n"
    )
    environment = {**os.environ, **settings, "REC_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
