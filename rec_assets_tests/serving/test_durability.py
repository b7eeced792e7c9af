"""Workers killed under load, again and again: what was acknowledged is there, and nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import sqlalchemy as sa

from rec_assets_tests.conftest import free_port


class Server:
    """`rec-assets serve` with two workers; `kill` leaves none of it alive."""

    def __init__(self, home: Path, url: str) -> None:
        self.port = free_port()
        api = {"PORT": self.port, "WORKERS": 2, "DATABASE_URL": url, "BURST": 10**6, "REQUESTS_PER_SECOND": 10**6}
        self.environment = {
            **os.environ, "REC_HOME": str(home), **{f"REC_API__{name}": str(value) for name, value in api.items()}
        }  # fmt: skip
        self.command = [sys.executable, "-m", "rec_assets.cli"]
        self.key = subprocess.run(
            [*self.command, "keys", "add", "load", "--scope", "events"],
            env=self.environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            [*self.command, "serve"], env=self.environment, stdout=quiet, stderr=quiet, start_new_session=True
        )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def send(self, *ids: str) -> bool:
        """Send events; whether they were acknowledged."""
        events = [{"event_id": each, "type": "click", "product_id": "p", "customer_id": "c"} for each in ids]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/events",
            data=json.dumps({"events": events}).encode(),
            headers={"X-API-Key": self.key, "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except OSError:  # refused, reset, timed out, or a 5xx
            return False


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_what_was_acknowledged_survives_sigkill_and_nothing_is_there_twice(
    kills: int, url: str, tmp_path: Path
) -> None:
    server = Server(tmp_path, url)
    acknowledged: set[str] = set()
    stop = threading.Event()

    def client(name: int) -> None:
        number = 0
        while not stop.is_set():
            ids = [f"{name}-{number}-{part}" for part in range(3)]
            if server.send(*ids):  # else it is sent again, as a client would that got no answer
                acknowledged.update(ids)
                number += 1
            else:
                time.sleep(0.05)

    clients = [threading.Thread(target=client, args=(name,)) for name in range(4)]
    server.start()
    for each in clients:
        each.start()
    rounds = []
    for _ in range(kills):
        before, deadline = len(acknowledged), time.monotonic() + 60
        while len(acknowledged) < before + 60 and time.monotonic() < deadline:
            time.sleep(0.02)
        rounds.append(len(acknowledged) - before)
        server.kill()
        server.start()
    while not server.send("last"):
        time.sleep(0.1)
    stop.set()
    for each in clients:
        each.join()
    server.kill()
    assert min(rounds) >= 60, f"events were taken between all kills: {rounds}"
    with sa.create_engine(url).connect() as connection:
        kept = connection.execute(sa.text("SELECT event_id FROM events")).scalars().all()
    assert acknowledged <= set(kept)
    assert len(kept) == len(set(kept))
