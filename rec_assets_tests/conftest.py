"""Fixtures that many tests share (a bootstrapped shop, Spark, servers), and the classes that tests belong to.

A test without a marker runs in `make test`. The markers `slow`, `long` and `cluster` move it to the command of that
name. A test of `make test` is also in `make test-fast`, unless it uses one of HEAVY_FIXTURES or has the marker
`integration`.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # every run of tests imports this file
    from dagster import DagsterInstance
    from pyspark.sql import SparkSession
    from upath import UPath

    from rec_assets.resources.lake import Lake

os.environ["PYSPARK_PYTHON"] = sys.executable
# Test tables are small: compiling takes longer than it saves, in Java's second compiler and in Spark's code generation.
# `make test-long` and `make cluster-test` override this and run what users run.
os.environ.setdefault(
    "SPARK_SUBMIT_OPTS",
    "-XX:TieredStopAtLevel=1 -Xss4m -Dspark.sql.codegen.wholeStage=false -Dspark.sql.codegen.factoryMode=NO_CODEGEN",
)

# Nothing here outlives a power cut, and writing an index waits for the disk at each of its 70 files.
os.fsync = lambda _: None

CLASSES = ("slow", "long", "cluster")
"""Markers of the tests that `make test` leaves out. A test has one of them at most."""

HEAVY_FIXTURES = {"bucket", "browser", "postgres", "shop", "spark"}
"""Fixtures here and in `serving/conftest.py`. Tests with one are not fast. Tests of a process share what they start."""

SLOW_FIXTURES = {"browser", "postgres", "shop"}
"""A test that uses one of these is slow, unless its marker says something else."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker, and before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the markers `fast` and `slow` where the fixtures decide, and the group of tests that one worker runs."""
    shared = {item: _shared_fixtures(item) for item in items}
    for item, fixtures in shared.items():
        classes = [name for name in CLASSES if item.get_closest_marker(name)]
        if len(classes) > 1:
            raise pytest.UsageError(f"{item.nodeid}: a test has one class, not {' and '.join(classes)}")
        if not classes and fixtures & SLOW_FIXTURES:
            item.add_marker(pytest.mark.slow)
        elif not classes and not fixtures and not item.get_closest_marker("integration"):
            item.add_marker(pytest.mark.fast)
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("shop" if "shop" in fixtures else item.nodeid.split("::")[0]))
    # The tests of the bootstrapped shop take longest, so a worker begins with them. The tests that use Spark are next.
    items.sort(key=lambda item: ("shop" not in shared[item], "spark" not in shared[item]))


def _shared_fixtures(item: pytest.Item) -> set[str]:
    """The HEAVY_FIXTURES of a test. A fixture with such a name does not count if a module makes it for each test."""
    assert isinstance(item, pytest.Function)
    defined = item._fixtureinfo.name2fixturedefs
    used = {name for name in HEAVY_FIXTURES & defined.keys() if defined[name][-1].scope != "function"}
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return used | {
        value for value in parameters if isinstance(value, str) and value in HEAVY_FIXTURES
    }  # `url[postgres]`


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep bytes out of the names of tests: gzip writes the time, and all workers must find the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _no_spark_in_fast_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a fast test starts Spark: use the fixture `spark`, or add the marker `integration`")

    if request.node.get_closest_marker("fast"):
        from pyspark.sql import SparkSession

        monkeypatch.setattr(SparkSession.Builder, "getOrCreate", refuse)


SMALL = {
    "REC_HORIZON_DAYS": "14",
    "REC_LOOKBACK_DAYS": "60",
    "REC_SPARK_MASTER": "local[2]",
    "REC_SPARK_DRIVER_MEMORY": "2g",
    "REC_SPARK_SHUFFLE_PARTITIONS": "2",
    "REC_RECIPE__ALS__RANK": "8",
    "REC_RECIPE__ALS__ITERATIONS": "3",
    "REC_RECIPE__RANKER__ROUNDS": "30",
    "REC_RECIPE__LIST_SIZE": "20",
}


ODD_NAME = "my shop 100% #[2]{x}*"
"""A folder that globs, URLs and Spark's paths would read otherwise."""


@dataclass(frozen=True)
class Shop:
    """A shop's home and how to run commands on it."""

    home: Path
    source: Path
    settings: Mapping[str, str] = field(default_factory=lambda: SMALL, kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        """The settings, as variables."""
        return {**os.environ, **self.settings, "REC_HOME": str(self.home), "REC_SOURCE": str(self.source)}

    @property
    def lake(self) -> Lake:
        """Its lake."""
        from rec_assets.resources.lake import Lake
        from rec_assets.settings import parse_lake

        return Lake(parse_lake(self.settings.get("REC_LAKE", self.home / "lake")))

    def run(self, *arguments: str, timeout: float = 540) -> subprocess.CompletedProcess[str]:
        """`rec-assets ARGUMENTS`."""
        command = [sys.executable, "-m", "rec_assets.cli", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )


def dagster_instance(home: Path) -> DagsterInstance:
    """The Dagster instance of a home. Like `open_instance`, it sets DAGSTER_HOME, which dagster.yaml reads."""
    from dagster import DagsterInstance

    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    return DagsterInstance.from_config(str(home / "dagster"))


@dataclass(frozen=True)
class BootstrappedShop(Shop):
    """A shop after `rec-assets bootstrap`."""

    result: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> BootstrappedShop:
    """The giftware wholesaler, bootstrapped. Tests that change it work on a copy."""
    from rec_assets_tests.shops import write_giftware_shop

    folder = tmp_path_factory.mktemp("giftware")
    bare = Shop(folder / "home", write_giftware_shop(folder / "shop"))
    return BootstrappedShop(bare.home, bare.source, bare.run("bootstrap"))


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    """Spark with the settings of the graph, on one core. All tests of a process share one Java process."""
    from rec_assets.resources.spark import spark_resource
    from rec_assets.settings import Settings

    settings = Settings(
        home=tmp_path_factory.getbasetemp() / "spark",
        spark_master="local[1]",
        spark_driver_memory="2g",
        spark_shuffle_partitions=1,
    )
    # A job that ran in this process may have left other settings. The module's first test gets these again.
    return spark_resource(settings).spark_session


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    """Wait until a server listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"{process.args} does not listen after {seconds} s")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of the database of a PostgreSQL server of our own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in (shutil.which("initdb"),) if path
    ]
    if not found:
        pytest.skip("no PostgreSQL on this machine: install the package `postgresql`")
    programs, user = found[-1].parent, getpass.getuser()
    as_server: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        user, as_server = "postgres", ["runuser", "-u", "postgres", "--"]
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # a short path: sockets' names are limited
        if as_server:
            shutil.chown(folder, "postgres")
        data, options = f"{folder}/data", f"-c listen_addresses='' -k {folder}"

        def run(*command: str) -> None:
            subprocess.run([*as_server, *command], check=True, capture_output=True, cwd=folder)

        run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", user)
        run(str(programs / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{user}@/postgres?host={folder}"
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")


@pytest.fixture
def database(postgres: str) -> str:
    """URL of an empty database of that server, as Dagster wants it: by the driver psycopg2."""
    import sqlalchemy as sa

    name = f"d{uuid.uuid4().hex}"
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return postgres.replace("+psycopg:", "+psycopg2:").replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UPath]:
    """An empty bucket of moto, which answers as S3 does, over HTTP. It keeps everything in memory."""
    from upath import UPath

    port, log = free_port(), tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        command = [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=output)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            wait_for(port, server)
            found = UPath("s3://shop", use_listings_cache=False)
            found.fs.mkdir("shop")
            yield found
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(params=["disk", "bucket"])
def lake_root(request: pytest.FixtureRequest, tmp_path: Path) -> Path | UPath:
    """Root of an empty lake: a folder, and a prefix of a bucket."""
    if request.param == "disk":
        return tmp_path / "lake"
    root: UPath = request.getfixturevalue(request.param) / tmp_path.name
    return root
