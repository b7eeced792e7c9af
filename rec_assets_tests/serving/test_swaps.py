"""A new index again and again under load, with two real workers: each answer is of one index, wholly."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rec_assets.recsys.hybrid import ALL
from rec_assets.serving.folder import ServingFolder
from rec_assets.serving.index import Index
from rec_assets.serving.online import OnlineState
from rec_assets.serving.tables import READ
from rec_assets_tests.conftest import free_port
from rec_assets_tests.serving import shop

SWAPS = 50
CUSTOMER = "c00"


def _marked(made: Index, version: int) -> Index:
    """The index with its version in all titles."""
    titles = np.array([f"{title} of {version}" for title in made.state.titles], dtype=object)
    about = {**made.about, "version": str(version)}
    return replace(made, state=replace(made.state, titles=titles), about=about)


@pytest.mark.slow
def test_fifty_swaps_under_load_give_no_mixed_answer_and_no_error(index: Index, tmp_path: Path) -> None:
    serving = ServingFolder(tmp_path / "serving")
    serving.root.mkdir()

    def publish(version: int) -> None:
        serving.point(serving.add(version, shop.AS_OF, _marked(index, version).save))

    publish(1)
    online = OnlineState(f"sqlite:///{serving.root / 'online.db'}")
    online.create()
    key = online.add_key("load", [READ], dt.datetime.now(dt.timezone.utc))
    online.close()
    port = free_port()
    settings = {"PORT": port, "WORKERS": 2, "BURST": 10**6, "REQUESTS_PER_SECOND": 10**6}
    environment = {
        **os.environ, "REC_HOME": str(tmp_path), **{f"REC_API__{name}": str(value) for name, value in settings.items()}
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "rec_assets.cli", "serve"], env=environment, stdout=out, stderr=out
        )
    seen: set[int] = set()
    wrong: list[str] = []
    stop = threading.Event()

    def ask(session: str) -> dict[str, object]:
        # A list from the index, or a ranking made now.
        body = {"customer_id": CUSTOMER, "k": 5, "mode": ALL, "events": []}
        if session:
            body["events"] = [{"type": "click", "product_id": shop.product(int(session) % shop.PRODUCTS)}]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/recommendations",
            data=json.dumps(body).encode(),
            headers={"X-API-Key": key, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    def client(number: int) -> None:
        while not stop.is_set():
            number += 1
            try:
                answer = ask(str(number) if number % 2 else "")
            except OSError as error:
                wrong.append(repr(error))
                continue
            version, items = answer["model_version"], answer["items"]
            assert isinstance(version, int) and isinstance(items, list)
            seen.add(version)
            if len(items) != 5 or not all(item["title"].endswith(f" of {version}") for item in items):
                wrong.append(f"{version}: {[item['title'] for item in items]}")

    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                ask("")
                break
            except OSError:
                time.sleep(0.2)
        clients = [threading.Thread(target=client, args=(number * 1000,)) for number in range(4)]
        for each in clients:
            each.start()
        for version in range(2, SWAPS + 2):
            publish(version)
            deadline = time.monotonic() + 30
            while version not in seen and time.monotonic() < deadline:
                time.sleep(0.02)
        stop.set()
        for each in clients:
            each.join()
    finally:
        stop.set()
        server.terminate()
        server.wait(timeout=30)
    assert wrong == []
    assert seen == set(range(1, SWAPS + 2))
    assert "Traceback" not in log.read_text()
