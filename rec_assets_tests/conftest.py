"""A small shop with its whole graph materialized, once per session, by the command a user would type; and servers."""

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

import pytest
from upath import UPath

from rec_assets.resources.lake import Lake
from rec_assets_tests.shops import write_giftware_shop

os.environ["PYSPARK_PYTHON"] = sys.executable
# Small tables: Java's second compiler never earns what it costs.
# Its stack is the one that the graph's own sessions get: ten iterations of ALS need it where nothing is checkpointed.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -Xss4m")

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
        return Lake(self.home / "lake")

    def run(self, *arguments: str, timeout: float = 540) -> subprocess.CompletedProcess[str]:
        """`rec-assets ARGUMENTS`."""
        command = [sys.executable, "-m", "rec_assets.cli", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )


@dataclass(frozen=True)
class BootstrappedShop(Shop):
    """A shop after `rec-assets bootstrap`."""

    result: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> BootstrappedShop:
    """The giftware wholesaler, bootstrapped. Tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("giftware")
    bare = Shop(folder / "home", write_giftware_shop(folder / "shop"))
    return BootstrappedShop(bare.home, bare.source, bare.run("bootstrap"))


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


@pytest.fixture(params=["disk", "s3"])
def lake_root(request: pytest.FixtureRequest, tmp_path: Path) -> Path | UPath:
    """Where an empty lake may lie: a folder, and a prefix of a bucket."""
    if request.param == "disk":
        return tmp_path / "lake"
    root: UPath = request.getfixturevalue("bucket") / tmp_path.name
    return root
