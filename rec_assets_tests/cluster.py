"""A Spark standalone cluster and a Spark Connect server on this machine for tests; each daemon is a JVM."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyspark

SPARK_BIN = Path(pyspark.__file__).parent / "bin"
START_SECONDS = 90


@dataclass(frozen=True)
class Daemon:
    """A JVM and its descendants."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str) -> str:
        """Wait for a pattern in the log; returns its first group."""
        until = time.monotonic() + START_SECONDS
        while not (found := re.search(pattern, self.output)):
            assert self.process.poll() is None, self.output[-3000:]
            assert time.monotonic() < until, f"no {pattern} in {self.output[-3000:]}"
            time.sleep(0.1)
        return found[1]

    def kill(self) -> None:
        """Send SIGKILL to the JVM and its descendants."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def daemon(folder: Path, name: str, *command: str) -> Iterator[Daemon]:
    """Run a program of Spark in the background."""
    log = folder / f"{name}.log"
    environment = {
        **os.environ,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "512m",
        "SPARK_LOCAL_DIRS": str(folder / "scratch"),
        "PYSPARK_PYTHON": sys.executable,  # of the tasks, if a Connect server starts them
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SPARK_BIN / command[0], *command[1:]],
            env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    started = Daemon(process, log)
    try:
        yield started
    finally:
        started.kill()


@dataclass(frozen=True)
class Cluster:
    """A master and workers of one core each."""

    url: str
    state_url: str
    workers: list[Daemon]

    def state(self) -> Mapping[str, Any]:
        """The state of the master: workers, applications."""
        with urllib.request.urlopen(self.state_url, timeout=10) as answer:
            return dict(json.load(answer))


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """Start a master, and workers that register with it."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(
            daemon(folder, "master", "spark-class", "org.apache.spark.deploy.master.Master",
                   "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        )  # fmt: skip
        url = master.wait_for(r"Starting Spark master at (spark://\S+)")
        ui = master.wait_for(r"'MasterUI' on port (\d+)")
        started = [
            stack.enter_context(
                daemon(folder, f"worker{number}", "spark-class", "org.apache.spark.deploy.worker.Worker",
                       "--host", "127.0.0.1", "--webui-port", "0", "--cores", "1", "--memory", "1g",
                       "--work-dir", str(folder / "work"), url)
            )
            for number in range(workers)
        ]  # fmt: skip
        for worker in started:
            worker.wait_for("(Successfully registered with master)")
        yield Cluster(url, f"http://127.0.0.1:{ui}/json/", started)


@contextlib.contextmanager
def connect_server(folder: Path, master: str) -> Iterator[str]:
    """Start a Spark Connect server on a master; yields its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    configuration = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.executor.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": "-Xss4m",
        "spark.executor.extraJavaOptions": "-Xss4m",
    }
    options = [part for key, value in configuration.items() for part in ("--conf", f"{key}={value}")]
    with daemon(folder, "connect", "spark-submit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
                "--master", master, "--driver-memory", "1g", *options) as server:  # fmt: skip
        server.wait_for("(Spark Connect server started)")
        yield f"sc://127.0.0.1:{port}"
