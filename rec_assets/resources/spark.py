"""The Spark session: one per process, started at first use, configured from the settings.

Spark runs in this process, on a cluster (`REC_SPARK_MASTER`) or behind a Spark Connect server (`REC_SPARK_REMOTE`). A
small first task checks that the executors have the packages and see the shared disk.
"""

import atexit
import logging
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from dagster_pyspark import LazyPySparkResource

from rec_assets.errors import UserError
from rec_assets.resources.java import require_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from rec_assets.settings import Settings

CONNECT_PORT = 15002
_CONNECT_SECONDS = 10
_FIRST_TASK_SECONDS = 60


class SparkUnusable(UserError, RuntimeError):
    """Spark is not reachable, or its executors are not set up; the message is one line that says what to do."""


class SparkResource(LazyPySparkResource):
    """Spark session that is started at first use, after checks of the address and the executors.

    Attributes:
        folder: The lake or REC_HOME, which all executors must see.
    """

    folder: str

    def _init_session(self) -> None:
        from pyspark.sql import SparkSession

        if self._spark_session is not None:
            return
        # On Databricks the process already has a session; use it.
        starts_session = SparkSession.getActiveSession() is None
        master = self.spark_config.get("spark.master", "")
        if starts_session:
            self._prepare(master)
        super()._init_session()
        if starts_session and not master.startswith("local"):
            try:
                _check_once(self._spark_session, self.folder)
            except SparkUnusable:
                self._spark_session = None
                raise

    def _prepare(self, master: str) -> None:
        remote = self.spark_config.get("spark.remote")
        if remote:
            _require_connect()
            _require_listener("REC_SPARK_REMOTE", remote)
            return
        require_java()
        # Tasks use this Python. On a cluster, the path must exist there, or the user sets PYSPARK_PYTHON.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # no other machine connects to it
        elif master.startswith("spark://"):
            _require_listener("REC_SPARK_MASTER", master)

    @property
    def spark_session(self) -> "SparkSession":
        """The process's session.

        Raises:
            JavaMissing: Java is missing or too old. A Connect server needs no Java here.
            SparkUnusable: the master or server does not answer, or the executors are not set up.
        """
        session: SparkSession = super().spark_session
        return session


# The lineage of ALS factors is long, and serializing it overflowed Java's default stack. ALS checkpoints its factors
# every tenth iteration, which limits the lineage.
_STACK = "-Xss4m"
# Collect and release the heap of an idle driver, because Python needs the memory to fit the ranker. Java's default,
# concurrent collections, released nothing.
_RELEASE_HEAP = (
    "-XX:G1PeriodicGCInterval=10000 -XX:-G1PeriodicGCInvokesConcurrent -XX:MinHeapFreeRatio=20 -XX:MaxHeapFreeRatio=40"
)


def spark_resource(settings: "Settings") -> SparkResource:
    """The Spark resource of a deployment."""
    shared = settings.shared_disk
    if settings.spark_remote:
        location = {"spark.remote": settings.spark_remote}
    else:
        location = {
            "spark.master": settings.spark_master,
            "spark.app.name": "rec_assets",
            "spark.driver.memory": settings.spark_driver_memory,
            "spark.driver.extraJavaOptions": f"{_STACK} {_RELEASE_HEAP}",
            "spark.executor.extraJavaOptions": _STACK,
            "spark.checkpoint.dir": str(settings.staging),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.log.level": "ERROR",
        }
    return SparkResource(
        spark_config={
            **location,
            "spark.sql.shuffle.partitions": str(settings.spark_shuffle_partitions),
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            # The code requests broadcast joins of larger tables explicitly, because Spark only estimates sizes.
            "spark.sql.autoBroadcastJoinThreshold": "10m",
            # A window of days is hundreds of files with known names; listing them in tasks takes longer.
            "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
            **settings.spark_conf,
        },
        folder=str(shared),
    )


def start_early(settings: "Settings") -> None:
    """Start a local Spark and its first Python workers in a thread, while this process imports modules and plans."""
    spark = spark_resource(settings)
    if not settings.spark_master.startswith("local") or settings.spark_remote:
        return

    def start() -> None:
        with suppress(Exception):  # the first asset that uses Spark tries again, and reports what is wrong
            _check_executors(spark.spark_session, spark.folder)

    thread = threading.Thread(target=start, name="start Spark", daemon=True)
    thread.start()
    atexit.register(_end_quietly, thread)


def _end_quietly(thread: threading.Thread) -> None:
    """Kill Java if the process ends before the first tasks have, which would print errors after the last message."""
    from pyspark import SparkContext

    if thread.is_alive() and (gateway := SparkContext._gateway) is not None:
        logging.disable()
        gateway.proc.kill()


def _require_connect() -> None:
    missing = [name for name in ("grpc", "grpc_status", "zstandard") if not find_spec(name)]
    if missing:
        raise SparkUnusable(
            f"REC_SPARK_REMOTE needs the packages of Spark Connect, and {missing[0]} is missing: "
            "pip install 'rec_assets[connect]'"
        )


def _require_listener(setting: str, url: str) -> None:
    """Check that a server listens. Spark itself would retry for minutes and report little."""
    # spark://host:port,host:port (with standby masters) or sc://host:port/;key=value
    addresses = url.split("://", 1)[1].split("/", 1)[0].split(",")
    failures = []
    for address in addresses:
        host, _, port = address.rpartition(":") if ":" in address else (address, "", str(CONNECT_PORT))
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
            return
        except (OSError, ValueError) as error:
            failures.append(f"{address}: {error}")
    raise SparkUnusable(
        f"{setting}: no Spark answers at {'; '.join(failures)}. Is it running, and can this machine reach it?"
    )


@lru_cache(maxsize=1)
def _check_once(session: "SparkSession", folder: str) -> None:
    """Check the executors of a session once, and stop the session at exit."""
    # Without this, models that Python drops at shutdown call the Connect server and wait forever.
    atexit.register(session.stop)
    _check_executors(session, folder)


def _check_executors(session: "SparkSession", folder: str) -> None:
    """Run small tasks that import the science code and look for a file in the folder."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    warning = threading.Timer(
        _FIRST_TASK_SECONDS,
        logging.getLogger("rec_assets").warning,
        ["Spark has not run a first task yet: has it free cores and memory, and can executors reach this machine?"],
    )
    warning.daemon = True
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".seen-by-all-") as marker:
        name = marker.name

        def probe(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            import xgboost  # noqa: F401

            import rec_assets.recsys.ranking.in_spark  # noqa: F401

            for _ in frames:
                yield pd.DataFrame({"host": [socket.gethostname()], "sees": [os.path.exists(name)]})

        tasks = int(str(session.conf.get("spark.sql.shuffle.partitions")))
        warning.start()
        try:
            rows = session.range(0, tasks, 1, tasks).mapInPandas(probe, "host string, sees boolean").collect()
        except (PySparkException, Py4JJavaError) as error:
            raise SparkUnusable(_explain(str(error))) from None
        finally:
            warning.cancel()
    blind = sorted({row["host"] for row in rows if not row["sees"]})
    if blind:
        raise SparkUnusable(
            f"the executors on {', '.join(blind)} don't see {folder}: put REC_HOME on a disk that this "
            "machine and all executors share under one path"
        )


def _explain(error: str) -> str:
    missing = re.search(r"No module named '?([\w.]+)", error)
    if missing:
        return (
            f"the executors' Python has no {missing[1]}: give them the environment of this process "
            "(docs/cluster.md, The executors' Python)"
        )
    if "PYTHON_VERSION_MISMATCH" in error:
        ours = ".".join(map(str, sys.version_info[:2]))
        return (
            f"the executors run another Python version than this process ({ours}): give them the same one "
            "(docs/cluster.md, The executors' Python)"
        )
    return f"a first small task failed on the executors: {error.strip().splitlines()[0]}"
