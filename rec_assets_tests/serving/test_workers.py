"""Two workers of `rec-assets serve` on one database: what one is told, all know; what the database can't, both say."""

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

from rec_assets.automation.feedback import land_feedback
from rec_assets.serving.folder import ServingFolder
from rec_assets.serving.index import Index
from rec_assets.serving.online import OnlineState
from rec_assets.settings import Api, Settings
from rec_assets_tests.conftest import free_port
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.api_process import ApiProcess

ANN, SESSION = "c00", "session-of-ann"


@pytest.fixture
def start(tmp_path: Path, index: Index) -> Iterator[Callable[..., ApiProcess]]:
    """Starts the API on a home with an index; it has a key, where the database takes one."""
    running = []

    def run(url: str, *, is_well: bool = True, **environment: str) -> ApiProcess:
        shop.publish(tmp_path / "serving", index)
        api = ApiProcess(tmp_path, url, **environment)
        if is_well:
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


def test_a_key_that_is_taken_back_is_refused_at_once_by_all_workers(start: Callable[..., ApiProcess], url: str) -> None:
    api, answers, stop = start(url), list[tuple[float, float, int]](), threading.Event()
    api.wait_for("/v1/trending", 200)

    def client() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            status, _ = api.ask("GET", "/v1/trending")
            answers.append((begun, time.monotonic(), status))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    time.sleep(1)
    online, asked = OnlineState(url), time.monotonic()
    assert online.revoke_key("test") == 1
    revoked = time.monotonic()
    online.close()
    time.sleep(1)
    stop.set()
    for each in clients:
        each.join()
    assert {status for _, ended, status in answers if ended < asked} == {200}
    after = [status for begun, _, status in answers if begun > revoked]
    assert set(after) == {401} and len(after) > 20


def _no_server(home: Path) -> str:
    return f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/shop"


def _no_database(home: Path) -> str:
    (home / "other.db").write_bytes(b"This is no database. " * 1000)
    return f"sqlite:///{home / 'other.db'}"


@pytest.mark.parametrize("database", [_no_server, pytest.param(_no_database, marks=pytest.mark.slow)])
def test_a_database_that_is_silent_from_the_start_is_no_wrong_key(
    start: Callable[..., ApiProcess], tmp_path: Path, database: Callable[[Path], str]
) -> None:
    api = start(database(tmp_path), is_well=False)
    for path, body in (("/v1/trending", None), ("/v1/recommendations", {}), ("/v1/events", event("e1"))):
        answers = api.ask_all("GET" if body is None else "POST", path, body)
        assert {(status, answer["error"]) for status, answer in answers} == {(503, "database")}
    ready = api.wait_for("/health/ready", 503)
    assert "the database doesn't answer" in ready["missing"]["online_state"]


@pytest.mark.slow
def test_a_sqlite_file_that_another_holds_whole_is_no_wrong_key_and_is_read_once_it_is_free(
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
    api = start(url, is_well=False)
    api.key = key
    assert {status for status, _ in api.ask_all("GET", "/v1/trending")} == {503}
    other.execute("COMMIT")
    other.close()
    api.wait_for("/v1/trending", 200)
    assert api.send("e1")


@pytest.mark.slow
def test_a_database_that_is_locked_for_20_seconds_refuses_events_and_nothing_else(
    start: Callable[..., ApiProcess], tmp_path: Path
) -> None:
    api = start(f"sqlite:///{tmp_path / 'online.db'}")
    api.wait_for("/health/ready", 200)
    assert api.send("before")
    other = sqlite3.connect(tmp_path / "online.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    locked, said = time.monotonic(), list[dict[str, str]]()
    while time.monotonic() < locked + 20:
        assert not api.send("during")
        asked = {"customer_id": ANN}
        assert {status for status, _ in api.ask_all("POST", "/v1/recommendations", asked)} == {200}
        said += [answer["warnings"] for status, answer in api.ask_all("GET", "/health/ready") if status == 200]
    other.execute("COMMIT")
    assert any("can't be written to" in each.get("events", "") for each in said)
    deadline = time.monotonic() + 60
    while not api.send("during"):  # as the widget does
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
def test_a_customer_who_is_forgotten_is_gone_from_all_workers_and_files(
    start: Callable[..., ApiProcess], url: str, tmp_path: Path
) -> None:
    today = dt.datetime.now(dt.timezone.utc).date()
    running = EXPERIMENTS.replace("2020-01-01", str(today)).replace("2020-01-02", str(today + dt.timedelta(days=1)))
    (tmp_path / "experiments.yaml").write_text(running)
    api = start(url, REC_EXPERIMENTS=str(tmp_path / "experiments.yaml"))
    api.wait_for("/health/ready", 200)
    who, was = {"customer_id": ANN, "session_id": SESSION}, dt.datetime.now(dt.timezone.utc).isoformat()
    for name, of in (("e1", {}), ("e2", {"customer_id": None})):
        assert api.ask("POST", "/v1/events", event(name, time=was, session_id=SESSION, **of))[0] == 200
    answers = api.ask_all("POST", "/v1/recommendations", who)
    assert {(answer["answered_by"], len(answer["experiments"])) for _, answer in answers} == {("customer", 1)}

    settings = Settings(home=tmp_path, api=Api(database_url=url))
    land_feedback(settings, "UTC", lambda _: None)
    landed = settings.feedback_landing / f"date={today}"
    assert all(SESSION in (landed / name).read_text() for name in ("events.jsonl", "exposures.jsonl"))

    status, forgotten = api.ask("DELETE", f"/v1/customers/{ANN}")
    assert (status, forgotten["events_deleted"]) == (200, 2)
    answers = api.ask_all("POST", "/v1/recommendations", {"customer_id": ANN})
    assert {answer["answered_by"] for _, answer in answers} == {"popular"}
    again = api.ask_all("POST", "/v1/events", event("e1", time=was, session_id=SESSION))
    assert {status for status, _ in again} == {422}, "sent again by a client that had no answer"
    assert SESSION not in _everything(url, tmp_path / "online.db"), "not even in the log of writes"

    land_feedback(settings, "UTC", lambda _: None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if SESSION.encode() in path.read_bytes()]
    published = ServingFolder(settings.serving).current()
    assert published is not None
    assert ANN.encode() not in Index.load(published.path).histories.customers


def _everything(url: str, file: Path) -> str:
    """What the database holds: of SQLite every byte of its files, of PostgreSQL every row."""
    if file.exists():
        return "".join(path.read_bytes().decode("latin-1") for path in file.parent.glob(f"{file.name}*"))
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        rows = [connection.exec_driver_sql(f'SELECT * FROM "{each}"').all() for each in tables]
    engine.dispose()
    return str(rows)
