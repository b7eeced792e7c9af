"""A home that was moved or copied, into a folder with a name that globs and URLs read otherwise: all goes on there."""

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

from rec_assets.automation.feedback import land_feedback
from rec_assets.resources.mlflow_store import prepare_store
from rec_assets.resources.releases import Releases
from rec_assets.serving.index import Index
from rec_assets.serving.online import OnlineState
from rec_assets.settings import InvalidSettings, Settings, get_settings
from rec_assets.sqlite import sqlite_url
from rec_assets_tests.conftest import ODD_NAME, BootstrappedShop, Shop


def artifacts(home: Path) -> dict[Path, bytes]:
    folder = home / "mlflow" / "artifacts"
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_elsewhere_works_on_and_leaves_the_original_alone(shop: BootstrappedShop, tmp_path: Path) -> None:
    home = tmp_path / ODD_NAME / "home"
    shutil.copytree(shop.home, home)
    moved, original = Shop(home, shop.source), artifacts(shop.home)
    customer = shop.lake.pandas("hybrid_scores", shop.lake.days("hybrid_scores")[-1:])["customer_id"].iloc[0]
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

    online, said = OnlineState(settings.online_url), list[str]()
    online.create()
    online.forget(customer, dt.datetime.now(dt.timezone.utc))
    online.close()
    land_feedback(settings, "UTC", said.append)
    assert any("forgetting 1 customer" in line for line in said)
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    releases.fetch_index(releases.get(1), tmp_path / "fetched")
    assert Index.load(tmp_path / "fetched").histories.rows_of(customer) is None
    assert artifacts(shop.home) == original


def test_artifacts_that_never_lay_beside_their_database_stay_where_they_are(tmp_path: Path) -> None:
    """REC_MLFLOW_TRACKING_URI names a file elsewhere; the artifacts are in REC_HOME."""
    database = tmp_path / "elsewhere" / "mlflow.db"
    prepare_store(sqlite_url(database))
    address = (tmp_path / "home" / "mlflow" / "artifacts").as_uri()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        connection.execute("INSERT INTO experiments VALUES (?)", (address,))
        connection.commit()
        prepare_store(sqlite_url(database))
        assert connection.execute("SELECT artifact_location FROM experiments").fetchall() == [(address,)]


@pytest.mark.parametrize(("name", "named"), [("a%20b", "'%20'"), ("what?", "'?'")])
def test_a_home_that_no_database_can_be_opened_in_is_refused_in_a_line(
    name: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REC_HOME", str(tmp_path / name))
    get_settings.cache_clear()
    try:
        with pytest.raises(InvalidSettings, match=r"^REC_HOME: ") as refused:
            get_settings()
    finally:
        get_settings.cache_clear()
    assert named in str(refused.value) and "\n" not in str(refused.value)
    command = [sys.executable, "-m", "rec_assets.cli", "bootstrap"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1 and len(found.stderr.strip().splitlines()) == 1


def test_most_names_are_fine(tmp_path: Path) -> None:
    assert Settings(home=tmp_path / ODD_NAME).root == tmp_path / ODD_NAME
