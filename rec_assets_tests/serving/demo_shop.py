"""The demo shop as a process, as `make storefront` starts it."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rec_assets.serving.database.online_state import OnlineState
from rec_assets_tests.conftest import free_port


@dataclass
class DemoShop:
    """A running demo shop: address, home and process."""

    address: str
    home: Path
    process: subprocess.Popen[bytes]

    @classmethod
    @contextmanager
    def run(cls, home: Path, environment: Mapping[str, str] = os.environ) -> Iterator[DemoShop]:
        """Start it on the published index of a home, and wait until it is ready."""
        port = free_port()
        settings = {**environment, "REC_HOME": str(home), "REC_API__PORT": str(port)}
        with (home / "storefront.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rec_assets.cli", "storefront"],
                env=settings, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        running = cls(f"http://127.0.0.1:{port}", home, process)
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    urllib.request.urlopen(f"{running.address}/health/ready", timeout=1)
                    break
                except OSError:
                    time.sleep(0.2)
            yield running
        finally:
            running.stop()

    def events(self) -> list[dict[str, Any]]:
        online = OnlineState(f"sqlite:///{self.home}/serving/online.db")
        epoch = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
        found = [dict(row) for row in online.rows_between("events", epoch, epoch + dt.timedelta(days=36500))]
        online.close()
        return sorted(found, key=lambda row: row["time"])

    def wait_for(self, kind: str, seconds: float = 10) -> list[dict[str, Any]]:
        """Wait for events of a type; returns them."""
        deadline = time.monotonic() + seconds
        while not (found := [row for row in self.events() if row["type"] == kind]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(20)
