from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the process that starts the test workers imports this file, too
    from playwright.sync_api import Browser

    from rec_assets.serving.index_files.index import Index
    from rec_assets.serving.runtime import ServingRuntime
    from rec_assets_tests.serving.api_client import Client


@pytest.fixture(autouse=True)
def without_self_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test each index in this process: a child process takes seconds. Tests with the marker `self_test` start it."""
    from rec_assets.serving.index_files.manifest import verify

    if request.node.get_closest_marker("self_test") is None:
        monkeypatch.setattr("rec_assets.serving.index_loader.self_test", verify)


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The shop's index, as read from its folder."""
    from rec_assets.serving.index_files.index import Index
    from rec_assets_tests.serving import shop

    folder: Path = tmp_path_factory.mktemp("index")
    shop.index().save(folder)
    return Index.load(folder)


@pytest.fixture
def start(tmp_path: Path, index: Index) -> Iterator[Callable[..., Client]]:
    """Starts the app with a new home."""
    from fastapi.testclient import TestClient

    from rec_assets.serving.api import create_app
    from rec_assets.settings import ApiSettings, Settings
    from rec_assets_tests.serving import shop
    from rec_assets_tests.serving.api_client import Client, now

    running = []

    def run(*, published: bool = True, **api: Any) -> Client:
        settings = Settings(home=tmp_path, api=ApiSettings(**{"requests_per_second": 1e6, "burst": 1_000_000, **api}))
        settings.serving.mkdir(parents=True, exist_ok=True)
        if published:
            shop.publish(settings.serving, index)
        app = create_app(settings)
        http = TestClient(app, raise_server_exceptions=False)
        http.__enter__()
        running.append(http)
        runtime: ServingRuntime = app.state.runtime
        http.headers["X-API-Key"] = runtime.online.add_key("test", ["read", "events", "sales", "admin"], now())
        return Client(http, runtime, tmp_path)

    yield run
    for http in running:
        http.__exit__(None, None, None)


@pytest.fixture
def client(start: Callable[..., Client]) -> Client:
    return start()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty online state on each kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'online.db'}"
        return
    server = request.getfixturevalue(request.param)
    yield server
    import sqlalchemy as sa

    engine = sa.create_engine(server)
    with engine.begin() as connection:
        for table in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f'DROP TABLE "{table}"')
    engine.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        named = os.environ.get("CHROMIUM")
        own = playwright.chromium.executable_path
        found = [named, own, *(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))]
        path = next((path for path in found if path and Path(path).exists()), None)
        if path is None:
            pytest.skip("no browser on this machine: install the package `chromium`, or name one as CHROMIUM")
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()
