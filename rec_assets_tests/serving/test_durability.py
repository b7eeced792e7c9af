"""Workers killed under load, again and again: what was acknowledged is there, and nothing twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from rec_assets_tests.serving.api_process import ApiProcess


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_what_was_acknowledged_survives_sigkill_and_nothing_is_there_twice(
    kills: int, url: str, tmp_path: Path
) -> None:
    server = ApiProcess(tmp_path, url)
    server.add_key("events")
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
