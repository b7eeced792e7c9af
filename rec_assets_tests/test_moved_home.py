"""A REC_HOME that was moved or copied into a folder whose name has special characters of globs and URLs still works."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from rec_assets.automation.land_and_forget import land_and_forget
from rec_assets.resources.mlflow_store import prepare_store
from rec_assets.resources.releases import Releases
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.index_files.index import Index
from rec_assets.settings import InvalidSettings, Settings, get_settings
from rec_assets.sqlite import sqlite_url
from rec_assets_tests.conftest import ODD_NAME, BootstrappedShop, Shop


def artifacts(home: Path) -> dict[Path, bytes]:
    folder = home / "mlflow" / "artifacts"
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_copy_works_and_does_not_change_the_original(shop: BootstrappedShop, tmp_path: Path) -> None:
    home = tmp_path / ODD_NAME / "home"
    shutil.copytree(shop.home, home)
    moved, original = Shop(home, shop.source), artifacts(shop.home)
    customer = (
        shop.lake.table("hybrid_scores").pandas(shop.lake.table("hybrid_scores").days[-1:])["customer_id"].iloc[0]
    )
    lineage, listed, again = moved.run("lineage", "1"), moved.run("recommend", customer), moved.run("bootstrap")
    for command in (lineage, listed, again):
        assert command.returncode == 0, command.stderr[-2000:]
    assert "version 1" in lineage.stdout and "raw_purchase_logs" in lineage.stdout
    steps = [line for line in again.stderr.splitlines() if line.startswith("[")]
    assert steps and all(line.endswith(": up to date") for line in steps)

    settings = Settings(home=home)
    mlflow.set_tracking_uri(settings.mlflow_uri)
    model = mlflow.pyfunc.load_model("models:/product-recommender@champion")
    assert len(model.predict(pd.DataFrame({"customer_id": [customer], "k": [3], "list": ["all"]}))) == 3

    online, logged = OnlineState(settings.online_url), list[str]()
    online.create()
    online.forget(customer, dt.datetime.now(dt.timezone.utc))
    online.close()
    land_and_forget(settings, "UTC", logged.append)
    assert any("forgetting 1 customer" in line for line in logged)
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    releases.download_index(releases.get(1), tmp_path / "fetched")
    assert Index.load(tmp_path / "fetched").histories.rows_of(customer) is None
    assert artifacts(shop.home) == original


def test_artifacts_in_another_folder_than_their_database_stay_there(tmp_path: Path) -> None:
    """REC_MLFLOW_TRACKING_URI names a file in another folder; the artifacts are in REC_HOME."""
    database = tmp_path / "elsewhere" / "mlflow.db"
    prepare_store(sqlite_url(database))
    address = (tmp_path / "home" / "mlflow" / "artifacts").as_uri()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        connection.execute("INSERT INTO experiments VALUES (?)", (address,))
        connection.commit()
        prepare_store(sqlite_url(database))
        assert connection.execute("SELECT artifact_location FROM experiments").fetchall() == [(address,)]


@pytest.mark.integration
@pytest.mark.parametrize(("name", "named"), [("a%20b", "'%20'"), ("what?", "'?'")])
def test_a_home_unfit_for_databases_is_reported_in_one_line(
    name: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REC_HOME", str(tmp_path / name))
    get_settings.cache_clear()
    try:
        with pytest.raises(InvalidSettings, match=r"^REC_HOME: ") as error:
            get_settings()
    finally:
        get_settings.cache_clear()
    assert named in str(error.value) and "\n" not in str(error.value)
    command = [sys.executable, "-m", "rec_assets.cli", "bootstrap"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1 and len(found.stderr.strip().splitlines()) == 1


def test_other_special_characters_work(tmp_path: Path) -> None:
    assert Settings(home=tmp_path / ODD_NAME).root == tmp_path / ODD_NAME
