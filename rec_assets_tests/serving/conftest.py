import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from rec_assets.serving.index import Index
from rec_assets_tests.serving import shop


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The shop's index, as read from its folder."""
    folder: Path = tmp_path_factory.mktemp("index")
    shop.index().save(folder)
    return Index.load(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of the database of a PostgreSQL server of our own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in (shutil.which("initdb"),) if path
    ]
    if not found:
        pytest.skip("no PostgreSQL on this machine: install the package `postgresql`")
    programs, user = found[-1].parent, getpass.getuser()
    as_server: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        user, as_server = "postgres", ["runuser", "-u", "postgres", "--"]
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # a short path: sockets' names are limited
        if as_server:
            shutil.chown(folder, "postgres")
        data, options = f"{folder}/data", f"-c listen_addresses='' -k {folder}"

        def run(*command: str) -> None:
            subprocess.run([*as_server, *command], check=True, capture_output=True, cwd=folder)

        run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", user)
        run(str(programs / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{user}@/postgres?host={folder}"
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty online state on each kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'online.db'}"
        return
    server = request.getfixturevalue("postgres")
    yield server
    import sqlalchemy as sa

    engine = sa.create_engine(server)
    with engine.begin() as connection:
        for table in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f'DROP TABLE "{table}"')
    engine.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
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
