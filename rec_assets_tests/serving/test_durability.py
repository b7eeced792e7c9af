"""Workers killed under load: acknowledged events survive, without duplicates."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from rec_assets_tests.serving.api_process import ApiProcess


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.long)])
def test_acknowledged_events_survive_sigkill_without_duplicates(kills: int, url: str, tmp_path: Path) -> None:
    server = ApiProcess(tmp_path, url)
    server.add_key("events")
    acknowledged: set[str] = set()
    stop = threading.Event()

    def client(name: int) -> None:
        number = 0
        while not stop.is_set():
            ids = [f"{name}-{number}-{part}" for part in range(3)]
            if server.send(*ids):  # otherwise send it again, like a client that got no response
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
    assert min(rounds) >= 60, f"events between kills: {rounds}"
    with sa.create_engine(url).connect() as connection:
        stored = connection.execute(sa.text("SELECT event_id FROM events")).scalars().all()
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
