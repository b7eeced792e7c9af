"""The API without an index or a database, with a full disk, and while indexes change."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from rec_assets.serving.api import create_app
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.manifest import write_manifest
from rec_assets.settings import Settings
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_client import ANN, Client, event, wait_until

pytestmark = pytest.mark.integration


def test_a_missing_home_is_created_and_readiness_says_what_to_do(tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "new"))
    with TestClient(app) as http:
        ready = http.get("/health/ready")
    assert ready.status_code == 503 and set(ready.json()["missing"]) == {"index"}
    assert "rec-assets bootstrap" in ready.json()["missing"]["index"]
    assert (tmp_path / "new" / "serving" / "online.db").exists()


def test_a_broken_database_is_not_reported_as_an_invalid_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "serving" / "online.db").mkdir(parents=True)
    with TestClient(create_app(Settings(home=tmp_path))) as http:
        response = http.get("/v1/trending", headers={"X-API-Key": "rec_some"})
        missing = http.get("/health/ready").json()["missing"]
    assert (response.status_code, response.json()["error"]) == (503, "database_unavailable")
    assert "must be writable" in missing["online_state"]
    assert any("unable to open database file" in line and "\n" not in line for line in caplog.messages)


def test_without_an_index_the_api_reports_it_and_accepts_events(start: Callable[..., Client], index: Index) -> None:
    client = start(published=False)
    ready = client.get("/health/ready")
    assert ready.status_code == 503 and "serving_index" in ready.json()["missing"]["index"]
    assert client.get("/v1/trending").json()["error"] == "no_index"
    assert client.send(event(1)).json()["new"] == 1
    shop.publish(client.runtime.indexes.folder.root, index)
    deadline = time.monotonic() + 10
    while client.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert client.get("/health/ready").json()["model_version"] == 1
    assert client.get("/health/live").json()["status"] == "ok"


def test_a_new_index_is_loaded_while_requests_continue(client: Client, index: Index) -> None:
    responses, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            responses.append(client.get(f"/v1/customers/{ANN}/recommendations", k=3))

    thread = threading.Thread(target=ask)
    thread.start()
    for version in (2, 3, 2):
        shop.publish(client.runtime.indexes.folder.root, index, version)
        deadline = time.monotonic() + 10
        while client.get("/health/ready").json()["model_version"] != version and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.get("/health/ready").json()["model_version"] == version
    stop.set()
    thread.join()
    assert {response.status_code for response in responses} == {200}
    assert {response.json()["model_version"] for response in responses} >= {2, 3}


def test_an_unreadable_index_is_skipped_and_retried(
    client: Client, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec_assets.serving.index_loader.RETRY_SECONDS", 0.0)

    def write_without_ranker(folder: Path) -> None:
        index.save(folder)
        (folder / "ranker.ubj").unlink()
        write_manifest(folder)

    broken = client.runtime.indexes.folder.add(9, shop.AS_OF, write_without_ranker)
    client.runtime.indexes.folder.make_current(broken)
    client.runtime.refresh()
    assert client.get("/v1/trending").json()["model_version"] == 1
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["missing"], ready.json()["model_version"]) == (200, {}, 1)
    assert "can't be read" in ready.json()["warnings"]["index"]
    index.save(broken.path)
    client.runtime.refresh()
    assert client.get("/v1/trending").json()["model_version"] == 9
    assert client.get("/health/ready").json()["warnings"] == {}


def test_an_unavailable_database_stops_only_events(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/v1/trending").status_code == 200
    online, calls = client.runtime.online, []

    def fail(*_: Any) -> None:
        calls.append(1)
        raise OperationalError("", {}, Exception("no response"))

    with monkeypatch.context() as patched:
        for name in ("create", "counters", "recent_events", "record"):
            patched.setattr(online, name, fail)
        for _ in range(5):
            assert client.recommend(customer_id=ANN)
            response = client.send(event(1))
            assert (response.status_code, response.json()["error"]) == (503, "database_unavailable")
        assert client.get("/health/ready").status_code == 503
        assert len(calls) <= 3, "after a failure, no request waits for the database"
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert client.send(event(1)).json() == {"new": 1, "duplicates": 0, "rejected": []}


def test_a_full_disk_rejects_events_until_there_is_space(client: Client) -> None:
    online, limit = client.runtime.online, {"pages": 1}  # SQLite raises it to the size of the file

    @sa.event.listens_for(online._writer, "checkout")
    def set_limit(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={limit['pages']}")

    client.send({**event(0), "customer_id": None, "session_id": "s1"})
    seen = client.recommend(session_id="s1")
    large = [event(number, order_id="\U0001f484" * 512) for number in range(1, 200)]
    assert client.send(*large).json()["error"] == "database_unavailable"
    for _ in range(12):  # more than a second
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "ok"), "recommendations continue"
        assert "not writable" in ready.json()["warnings"]["events"]
        assert client.send(event(1)).status_code == 503
        assert client.recommend(session_id="s1") == seen, "stored events still count"
        time.sleep(0.1)
    limit["pages"] = 10**6
    wait_until(lambda: not client.get("/health/ready").json()["warnings"])
    assert client.send(*large).json()["new"] == 199


def test_a_probe_detects_an_unwritable_database_before_an_event_is_lost(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rec_assets.serving.runtime.PROBE_SECONDS", 0.1)
    connection = client.runtime.online._writer.raw_connection()
    connection.cursor().execute("PRAGMA query_only=ON")
    connection.close()
    wait_until(lambda: "events" in client.get("/health/ready").json()["warnings"])
    assert client.get("/health/ready").status_code == 200 and client.recommend(customer_id=ANN)


def test_keys_that_were_never_read_are_not_invalid(start: Callable[..., Client]) -> None:
    client = start()
    with client.runtime.online._writer.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE keys RENAME TO hidden")
    app = create_app(Settings(home=client.home))
    app.state.runtime.online.create = lambda: None  # it would create an empty table
    with TestClient(app) as http:
        response = http.get("/v1/trending", headers={"X-API-Key": client.http.headers["X-API-Key"]})
        ready = http.get("/health/ready")
        assert (response.status_code, response.json()["error"]) == (503, "database_unavailable"), (
            "the counters can be read but the keys can't"
        )
        assert ready.status_code == 503 and set(ready.json()["missing"]) == {"online_state"}
        with client.runtime.online._writer.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS keys")
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO keys")
        wait_until(lambda: http.get("/health/ready").status_code == 200)
        headers = {"X-API-Key": client.http.headers["X-API-Key"]}
        assert http.get("/v1/trending", headers=headers).status_code == 200


def test_the_tables_of_an_emptied_database_are_created_again(start: Callable[..., Client], url: str) -> None:
    client = start(database_url=url)
    with client.runtime.online._writer.begin() as connection:
        connection.exec_driver_sql("DROP TABLE events")
    assert client.send(event(1)).status_code == 503
    wait_until(lambda: client.send(event(1)).status_code == 200)
