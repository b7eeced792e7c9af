"""The Spark session: started when first used, one a process, closed with it; configured from the settings.

Here alone it is decided whether Spark runs in this process, on a cluster (`REC_SPARK_MASTER`) or behind a Spark Connect
server (`REC_SPARK_REMOTE`), and found out early whether its executors can do our work.
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
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from dagster_pyspark import LazyPySparkResource

from rec_assets.resources.java import require_java
from rec_assets.resources.storage import STAGING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from rec_assets.settings import Settings

CONNECT_PORT = 15002
_CONNECT_SECONDS = 10
_PATIENCE_SECONDS = 60


class SparkUnusable(RuntimeError):
    """There is no such Spark, or its executors can't do our work; the message is one line that says what to do."""


class SparkResource(LazyPySparkResource):
    """`LazyPySparkResource` that first looks whether Spark can be reached, and then whether its executors are fit.

    Attributes:
        folder: Of the lake, or else REC_HOME; all executors must see it.
    """

    folder: str

    def _init_session(self) -> None:
        from pyspark.sql import SparkSession

        if self._spark_session is not None:
            return
        # On Databricks the process has one already, with a master, Java and Python of its own; that one is used.
        is_ours = SparkSession.getActiveSession() is None
        master = self.spark_config.get("spark.master", "")
        if is_ours:
            self._prepare(master)
        super()._init_session()
        if is_ours and not master.startswith("local"):
            try:
                _first_use(self._spark_session, self.folder)
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
        # Tasks see the packages that we see; on a cluster this path must be there too, or PYSPARK_PYTHON be set.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        if master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # nobody else talks to it
        elif master.startswith("spark://"):
            _require_listener("REC_SPARK_MASTER", master)

    @property
    def spark_session(self) -> "SparkSession":
        """The process's session.

        Raises:
            JavaMissing: no Java, or too old a one; says how to get it. A Connect server needs none here.
            SparkUnusable: nobody answers at the master's or server's address, or the executors can't do our work.
        """
        session: SparkSession = super().spark_session
        return session


# A task is sent with the history of its rows, and ALS's is long: it has overflowed Java's usual stack. ALS writes its
# factors down every tenth iteration, so that it ends there.
_STACK = "-Xss4m"
# The heap of a driver that lies idle is swept and given back: while Python fits the ranker, it needs the memory. Sweeps
# beside the work, Java's default, free whole regions alone, and gave nothing back.
_GIVE_BACK = (
    "-XX:G1PeriodicGCInterval=10000 -XX:-G1PeriodicGCInvokesConcurrent -XX:MinHeapFreeRatio=20 -XX:MaxHeapFreeRatio=40"
)


def spark_resource(settings: "Settings") -> SparkResource:
    """The resource for these settings."""
    shared = settings.shared_disk
    if settings.spark_remote:
        place = {"spark.remote": settings.spark_remote}
    else:
        place = {
            "spark.master": settings.spark_master,
            "spark.app.name": "rec_assets",
            "spark.driver.memory": settings.spark_driver_memory,
            "spark.driver.extraJavaOptions": f"{_STACK} {_GIVE_BACK}",
            "spark.executor.extraJavaOptions": _STACK,
            "spark.checkpoint.dir": str(shared / STAGING),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.log.level": "ERROR",
        }
    return SparkResource(
        spark_config={
            **place,
            "spark.sql.shuffle.partitions": str(settings.spark_shuffle_partitions),
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            # Small tables are joined by broadcast only where the code says so: sizes are guesses.
            "spark.sql.autoBroadcastJoinThreshold": "10m",
            # A window of days is hundreds of files, each known by name: asking for them in tasks takes longer.
            "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
            **settings.spark_conf,
        },
        folder=str(shared),
    )


def _require_connect() -> None:
    missing = [name for name in ("grpc", "grpc_status", "zstandard") if not find_spec(name)]
    if missing:
        raise SparkUnusable(
            f"REC_SPARK_REMOTE needs the packages of Spark Connect, and {missing[0]} is missing: "
            "pip install 'rec_assets[connect]'"
        )


def _require_listener(setting: str, url: str) -> None:
    """Spark itself would go on trying for minutes, and then say little."""
    # spark://host:port,host:port (masters in reserve) or sc://host:port/;key=value
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
def _first_use(session: "SparkSession", folder: str) -> None:
    """Once a session that isn't local: its executors are looked at, and its end is seen to."""
    # Else models that are dropped while Python shuts down ask a Connect server to forget them, and wait for ever.
    atexit.register(session.stop)
    _check_executors(session, folder)


def _check_executors(session: "SparkSession", folder: str) -> None:
    """Have tasks import what ours import, and look for a file in the folder."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    waiting = threading.Timer(
        _PATIENCE_SECONDS,
        logging.getLogger("rec_assets").warning,
        ["Spark has not run a first task yet: has it free cores and memory, and can executors reach this machine?"],
    )
    waiting.daemon = True
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".seen-by-all-") as marker:
        name = marker.name

        def look(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            import rec_assets.recsys.ranking.scoring  # noqa: F401

            for _ in frames:
                yield pd.DataFrame({"host": [socket.gethostname()], "sees": [os.path.exists(name)]})

        tasks = int(str(session.conf.get("spark.sql.shuffle.partitions")))
        waiting.start()
        try:
            rows = session.range(0, tasks, 1, tasks).mapInPandas(look, "host string, sees boolean").collect()
        except (PySparkException, Py4JJavaError) as error:
            raise SparkUnusable(_unfit(str(error))) from None
        finally:
            waiting.cancel()
    blind = sorted({row["host"] for row in rows if not row["sees"]})
    if blind:
        raise SparkUnusable(
            f"the executors on {', '.join(blind)} don't see {folder}: put REC_HOME on a disk that this "
            "machine and all executors share under one path"
        )


def _unfit(error: str) -> str:
    missing = re.search(r"No module named '?([\w.]+)", error)
    if missing:
        return (
            f"the executors' Python has no {missing[1]}: give them the environment that this process has "
            "(docs/cluster.md, The executors' Python)"
        )
    if "PYTHON_VERSION_MISMATCH" in error:
        ours = ".".join(map(str, sys.version_info[:2]))
        return (
            f"the executors run another Python than {ours}, which this process has: give them the same one "
            "(docs/cluster.md, The executors' Python)"
        )
    return f"a first small task failed on the executors: {error.strip().splitlines()[0]}"
