"""Two workers of `rec-assets serve` that share one database."""

from __future__ import annotations

import datetime as dt
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rec_assets.automation.land_and_forget import land_and_forget
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.settings import ApiSettings, Settings
from rec_assets_tests.conftest import free_port
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_process import ApiProcess

pytestmark = pytest.mark.slow

ANN, SESSION = "c00", "session-of-ann"


@pytest.fixture
def start(tmp_path: Path, index: Index) -> Iterator[Callable[..., ApiProcess]]:
    """Starts the API on a home with an index, with a key unless the database is broken."""
    running = []

    def run(url: str, *, has_database: bool = True, **environment: str) -> ApiProcess:
        shop.publish(tmp_path / "serving", index)
        api = ApiProcess(tmp_path, url, **environment)
        if has_database:
            api.add_key("read", "events", "sales", "admin")
        api.start()
        running.append(api)
        api.wait_for("/health/live", 200)
        return api

    yield run
    for api in running:
        api.kill()


def event(name: str, **more: Any) -> dict[str, Any]:
    return {"events": [{"event_id": name, "type": "click", "product_id": "p31", "customer_id": ANN, **more}]}


def test_all_workers_reject_a_revoked_key_at_once(start: Callable[..., ApiProcess], url: str) -> None:
    api, responses, stop = start(url), list[tuple[float, float, int]](), threading.Event()
    api.wait_for("/v1/trending", 200)

    def client() -> None:
        while not stop.is_set():
            start = time.monotonic()
            status, _ = api.ask("GET", "/v1/trending")
            responses.append((start, time.monotonic(), status))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    time.sleep(1)
    online, before = OnlineState(url), time.monotonic()
    assert online.revoke_key("test") == 1
    revoked = time.monotonic()
    online.close()
    time.sleep(1)
    stop.set()
    for each in clients:
        each.join()
    assert {status for _, end, status in responses if end < before} == {200}
    after = [status for begin, _, status in responses if begin > revoked]
    assert set(after) == {401} and len(after) > 20


def _no_server(home: Path) -> str:
    return f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/shop"


def _no_database(home: Path) -> str:
    (home / "other.db").write_bytes(b"This is not a database. " * 1000)
    return f"sqlite:///{home / 'other.db'}"


@pytest.mark.parametrize("database", [_no_server, pytest.param(_no_database, marks=pytest.mark.slow)])
def test_a_database_that_never_responds_is_not_reported_as_an_invalid_key(
    start: Callable[..., ApiProcess], tmp_path: Path, database: Callable[[Path], str]
) -> None:
    api = start(database(tmp_path), has_database=False)
    for path, body in (("/v1/trending", None), ("/v1/recommendations", {}), ("/v1/events", event("e1"))):
        responses = api.ask_all("GET" if body is None else "POST", path, body)
        assert {(status, response["error"]) for status, response in responses} == {(503, "database_unavailable")}
    ready = api.wait_for("/health/ready", 503)
    assert "the database does not respond" in ready["missing"]["online_state"]


@pytest.mark.slow
def test_an_exclusively_locked_sqlite_file_is_read_once_it_is_unlocked(
    start: Callable[..., ApiProcess], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'online.db'}"
    online = OnlineState(url)
    online.create()
    key = online.add_key("test", ["read", "events"], dt.datetime.now(dt.timezone.utc))
    online.close()
    other = sqlite3.connect(tmp_path / "online.db", isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    api = start(url, has_database=False)
    api.key = key
    assert {status for status, _ in api.ask_all("GET", "/v1/trending")} == {503}
    other.execute("COMMIT")
    other.close()
    api.wait_for("/v1/trending", 200)
    assert api.send("e1")


@pytest.mark.slow
def test_a_database_locked_for_20_seconds_rejects_only_events(start: Callable[..., ApiProcess], tmp_path: Path) -> None:
    api = start(f"sqlite:///{tmp_path / 'online.db'}")
    api.wait_for("/health/ready", 200)
    assert api.send("before")
    other = sqlite3.connect(tmp_path / "online.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    locked, warnings = time.monotonic(), list[dict[str, str]]()
    while time.monotonic() < locked + 20:
        assert not api.send("during")
        body = {"customer_id": ANN}
        assert {status for status, _ in api.ask_all("POST", "/v1/recommendations", body)} == {200}
        warnings += [response["warnings"] for status, response in api.ask_all("GET", "/health/ready") if status == 200]
    other.execute("COMMIT")
    assert any("not writable" in each.get("events", "") for each in warnings)
    deadline = time.monotonic() + 60
    while not api.send("during"):  # retry like the widget
        assert time.monotonic() < deadline
        time.sleep(0.2)
    rows = other.execute("SELECT event_id FROM events").fetchall()
    other.close()
    assert sorted(rows) == [("before",), ("during",)]


EXPERIMENTS = """experiments:
  - name: holdout
    start: 2020-01-01
    end: 2020-01-02
    main_metric: ctr
    variants:
      control: {share: 0.5}
      other: {share: 0.5, exploration: 0.1}
"""


@pytest.mark.slow
def test_a_forgotten_customer_disappears_from_all_workers_and_files(
    start: Callable[..., ApiProcess], url: str, tmp_path: Path
) -> None:
    today = dt.datetime.now(dt.timezone.utc).date()
    running = EXPERIMENTS.replace("2020-01-01", str(today)).replace("2020-01-02", str(today + dt.timedelta(days=1)))
    (tmp_path / "experiments.yaml").write_text(running)
    api = start(url, REC_EXPERIMENTS=str(tmp_path / "experiments.yaml"))
    api.wait_for("/health/ready", 200)
    shopper, time_sent = {"customer_id": ANN, "session_id": SESSION}, dt.datetime.now(dt.timezone.utc).isoformat()
    for name, of in (("e1", {}), ("e2", {"customer_id": None})):
        assert api.ask("POST", "/v1/events", event(name, time=time_sent, session_id=SESSION, **of))[0] == 200
    responses = api.ask_all("POST", "/v1/recommendations", shopper)
    assert {(response["answered_by"], len(response["experiments"])) for _, response in responses} == {("customer", 1)}

    settings = Settings(home=tmp_path, api=ApiSettings(database_url=url))
    land_and_forget(settings, "UTC", lambda _: None)
    landed = settings.feedback_landing / f"date={today}"
    assert all(SESSION in (landed / name).read_text() for name in ("events.jsonl", "exposures.jsonl"))

    status, forgotten = api.ask("DELETE", f"/v1/customers/{ANN}")
    assert (status, forgotten["events_deleted"]) == (200, 2)
    responses = api.ask_all("POST", "/v1/recommendations", {"customer_id": ANN})
    assert {response["answered_by"] for _, response in responses} == {"popular"}
    again = api.ask_all("POST", "/v1/events", event("e1", time=time_sent, session_id=SESSION))
    assert {status for status, _ in again} == {422}, "sent again by a client that got no response"
    assert SESSION not in _database_content(url, tmp_path / "online.db"), "also not in the write-ahead log"

    land_and_forget(settings, "UTC", lambda _: None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if SESSION.encode() in path.read_bytes()]
    published = ServingFolder(settings.serving).current()
    assert published is not None
    assert ANN.encode() not in Index.load(published.path).histories.customers


def _database_content(url: str, file: Path) -> str:
    """All bytes of the files of SQLite, or all rows of PostgreSQL."""
    if file.exists():
        return "".join(path.read_bytes().decode("latin-1") for path in file.parent.glob(f"{file.name}*"))
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        rows = [connection.exec_driver_sql(f'SELECT * FROM "{each}"').all() for each in tables]
    engine.dispose()
    return str(rows)
