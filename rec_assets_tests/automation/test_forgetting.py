"""Forgotten customers are removed from the lake, the landing zone, the indexes and the released models."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sqlalchemy.exc import OperationalError

from rec_assets.assets.model_loading import released_model
from rec_assets.automation.land_and_forget import land_and_forget
from rec_assets.cli import cli
from rec_assets.recsys.data.forgetting import customer_digest, is_forgotten
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.lake import Lake
from rec_assets.serving.database.events import Event
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.index_files.index import Index
from rec_assets.settings import Settings, get_settings
from rec_assets_tests.serving import shop
from rec_assets_tests.shops import write_giftware_shop

pytestmark = pytest.mark.integration

NOW = dt.datetime.now(dt.timezone.utc)
TODAY = NOW.date()
ANN, BOB = "c00", "c01"


def days_ago(days: int) -> dt.date:
    return TODAY - dt.timedelta(days=days)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake, an index and events with two customers."""
    found = Settings(home=tmp_path)
    lake = Lake(found.lake)
    for days in (0, 1, 2):
        of_day = pd.DataFrame({"customer_id": [ANN, BOB, None], "line": ["a", "b", "c"]})
        lake.write("raw_purchase_logs", of_day, days_ago(days))
    lake.write("raw_purchase_logs", pd.DataFrame({"customer_id": [BOB]}), days_ago(3))
    lake.write("als_model", pd.DataFrame({"kind": ["customer", "product"], "id": [ANN, "p00"]}), days_ago(1))
    shop.publish(found.serving, shop.index())
    online = OnlineState(found.online_url)
    online.create()
    events = [("e1", ANN, "s1"), ("e2", None, "s1"), ("e3", BOB, "s2"), ("e4", None, "s2")]
    online.record([Event(name, "click", "p01", NOW, customer, session) for name, customer, session in events], NOW)
    online.close()
    return found


def forget(settings: Settings, customer: str) -> list[str]:
    online = OnlineState(settings.online_url)
    online.forget(customer, dt.datetime.now(dt.timezone.utc))
    online.close()
    logged: list[str] = []
    land_and_forget(settings, "UTC", logged.append)
    return logged


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_forgotten_customer_is_removed_from_all_data(settings: Settings) -> None:
    land_and_forget(settings, "UTC", lambda _: None)
    landed = settings.feedback_landing / f"date={TODAY}" / "events.jsonl"
    assert len(landed.read_text().splitlines()) == 4
    assert any("forgetting 1 customer" in line for line in forget(settings, ANN))
    lake = Lake(settings.lake)
    for days in (0, 1, 2):
        assert lake.table("raw_purchase_logs").pandas([days_ago(days)])["customer_id"].dropna().to_list() == [BOB]
    assert lake.table("als_model").pandas([days_ago(1)])["id"].to_list() == ["p00"]
    assert [json.loads(line)["event_id"] for line in landed.read_text().splitlines()] == ["e3", "e4"]
    published = ServingFolder(settings.serving).current()
    assert published is not None and ServingFolder(settings.serving).indexes() == [published]
    index = Index.load(published.path)
    assert ANN.encode() not in index.histories.customers and BOB.encode() in index.histories.customers
    before = shop.index()
    for customer in (BOB, "c29"):
        kept, was = index.lists["all"].rows_of(customer), before.lists["all"].rows_of(customer)
        assert kept is not None and was is not None
        assert np.array_equal(index.lists["all"].product[kept], before.lists["all"].product[was])
        theirs, then = index.histories.rows_of(customer), before.histories.rows_of(customer)
        assert theirs is not None and then is not None
        assert np.array_equal(index.histories.product[theirs], before.histories.product[then])


def test_no_earlier_version_of_a_table_holds_a_forgotten_customer(settings: Settings) -> None:
    lake = Lake(settings.lake)
    for customers in ([ANN], [ANN, BOB], [BOB]):  # the newest version does not have them any more
        lake.write("cleaned_interactions", pd.DataFrame({"customer_id": customers}), days_ago(2))
    lake.write("candidates", pd.DataFrame({"customer_id": [ANN]}), days_ago(30))
    lake.delete("candidates", [days_ago(30)])
    logged = forget(settings, ANN)
    for folder in settings.lake.rglob("date=*"):
        for file in folder.iterdir():
            found = pq.read_table(file, partitioning=None).to_pydict()
            assert ANN not in found.get("customer_id", []) + found.get("id", []), file
    assert "cleaned_interactions: 0 rows of 0 days removed; 2 files of versions before 3 deleted" in logged
    assert "raw_purchase_logs: 3 rows of 3 days removed; 3 files of versions before 5 deleted" in logged
    logs = [path.read_text(errors="replace") for path in settings.lake.rglob("_delta_log/*.json")]
    assert not any(re.search(rf"\b{ANN}\b", log) for log in logs)  # names of files may contain these letters


def test_the_receipt_names_each_table_and_index(settings: Settings) -> None:
    environment = {
        **os.environ,
        "REC_HOME": str(settings.home),
        "REC_SOURCE": str(write_giftware_shop(settings.home / "shop")),
    }
    command = [sys.executable, "-m", "rec_assets.cli", "forget", ANN]
    found = subprocess.run([*command, "--receipt"], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    for line in ("online state: 2 events removed", "raw_purchase_logs: 3 rows of 3 days removed", "als_model: 1 rows",
                 "serving index "):  # fmt: skip
        assert any(each.startswith(line) for each in found.stdout.splitlines()), found.stdout
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.stdout == "the customer is forgotten. Delete their lines from your own files, too\n"


def test_forgetting_runs_once_and_again_after_a_kill(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("rec_assets.automation.land_and_forget.Index.load", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            forget(settings, ANN)
    assert customer_digest(ANN) in ForgottenFile.read(settings.forgotten_file).pending
    logged: list[str] = []
    land_and_forget(settings, "UTC", logged.append)
    assert any("forgetting" in line for line in logged)
    assert ForgottenFile.read(settings.forgotten_file).pending == {}
    logged.clear()
    land_and_forget(settings, "UTC", logged.append)
    assert logged == []


@pytest.mark.parametrize("before", [["ingest 1"], []])
def test_what_other_runs_may_still_write_is_removed_by_the_next_plan(settings: Settings, before: list[str]) -> None:
    lake, of_day = Lake(settings.lake), pd.DataFrame({"customer_id": [ANN, BOB]})
    lake.write("candidates", of_day, days_ago(1))
    staged = lake.stage("candidates", of_day, TODAY)
    online = OnlineState(settings.online_url)
    online.forget(ANN, NOW)
    online.close()
    logged: list[str] = []
    runs = iter([before, ["ingest 1"]])
    land_and_forget(settings, "UTC", logged.append, other_runs=lambda: next(runs))
    assert any("the next plan repeats this: ['ingest 1']" in line for line in logged)
    if before:
        lake.commit("candidates", {TODAY: staged})
        assert lake.table("candidates").pandas([TODAY])["customer_id"].to_list() == [ANN, BOB]
    else:  # the run began in between, and fails, because its files are gone
        with pytest.raises(FileNotFoundError):
            lake.commit("candidates", {TODAY: staged})
    land_and_forget(settings, "UTC", lambda _: None)
    assert set(lake.table("candidates").pandas(lake.table("candidates").days)["customer_id"]) == {BOB}
    assert ForgottenFile.read(settings.forgotten_file).pending == {}


def test_without_its_database_the_command_does_not_say_that_a_customer_is_forgotten(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REC_HOME", str(settings.home))
    monkeypatch.setenv("REC_SOURCE", str(write_giftware_shop(settings.home / "shop")))
    monkeypatch.setattr("rec_assets.automation.land_and_forget.land_events", _unreachable)
    get_settings.cache_clear()
    try:
        found = CliRunner().invoke(cli, ["forget", ANN, "--receipt"])
    finally:
        get_settings.cache_clear()
    assert found.exit_code == 1 and "not all data are rewritten yet" in found.output, found.output
    assert "could not land the API's events" in found.output


def _unreachable(*_: object, **__: object) -> dict[dt.date, int]:
    raise OperationalError("select 1", {}, Exception("no connection"))


def test_an_unreadable_index_is_deleted(settings: Settings) -> None:
    serving = ServingFolder(settings.serving)
    (published,) = serving.indexes()
    (published.path / "histories" / "rating.npy").unlink()
    assert any("deleting an index that can't be rewritten" in line for line in forget(settings, ANN))
    assert serving.indexes() == [] and serving.current() is None
    assert ForgottenFile.read(settings.forgotten_file).pending == {}


def test_a_damaged_partition_is_skipped_and_retried(settings: Settings) -> None:
    lake = Lake(settings.lake)
    (file,) = (settings.lake / "raw_purchase_logs" / f"date={days_ago(1)}").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    assert any(f"raw_purchase_logs of {days_ago(1)} is damaged" in line for line in forget(settings, ANN))
    for days in (0, 2):
        assert lake.table("raw_purchase_logs").pandas([days_ago(days)])["customer_id"].dropna().to_list() == [BOB]
    assert customer_digest(ANN) in ForgottenFile.read(settings.forgotten_file).pending
    lake.write("raw_purchase_logs", pd.DataFrame({"customer_id": [BOB]}), days_ago(1))  # as the plan materializes it
    land_and_forget(settings, "UTC", lambda _: None)
    assert ForgottenFile.read(settings.forgotten_file).pending == {}


def test_forgotten_customers_are_ignored_when_files_are_read_again(settings: Settings) -> None:
    forget(settings, ANN)
    rows = Lake(settings.lake).table("raw_purchase_logs").read([days_ago(3)]).drop_columns(["date"])
    again = pd.DataFrame({"customer_id": [ANN, BOB]})
    forgotten = ForgottenFile.read(settings.forgotten_file)
    import pyarrow as pa

    assert forgotten.without(pa.Table.from_pandas(again), TODAY)["customer_id"].to_pylist() == [BOB]
    later = TODAY + dt.timedelta(days=1)
    assert forgotten.without(pa.Table.from_pandas(again), later).num_rows == 2, "later purchases count again"
    assert forgotten.without(rows, days_ago(3)) is rows


def test_the_stored_requests_contain_no_ids(settings: Settings) -> None:
    forget(settings, ANN)
    assert ANN.encode() not in settings.forgotten_file.read_bytes()
    assert settings.forgotten_file.stat().st_mode & 0o777 == 0o640, "someone with a list of all ids could test them"
    assert is_forgotten(pd.Series([ANN, None]), TODAY, {customer_digest(ANN): TODAY}).tolist() == [True, False]


@pytest.mark.slow
def test_a_released_model_is_rewritten_too(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    from rec_assets.resources.releases import Releases
    from rec_assets.serving import pyfunc

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow").mkdir()
    mlflow.set_tracking_uri(settings.mlflow_uri)
    mlflow.set_experiment("forgetting")  # an earlier test's experiment is still the process's active one
    shop.index().save(tmp_path / "index")
    with mlflow.start_run():
        model_info = mlflow.pyfunc.log_model(
            name=settings.registered_model,
            python_model=pyfunc.__file__,
            artifacts={"index": str(tmp_path / "index")},
            registered_model_name=settings.registered_model,
            pip_requirements=[],
        )
    releases = Releases(settings.mlflow_uri, settings.registered_model)
    days = dict.fromkeys(("as_of", "als_as_of", "graph_as_of", "ranker_as_of"), str(shop.AS_OF))
    version = int(model_info.registered_model_version)
    release = releases.set_challenger(version, {**days, "recipe": shop.RECIPE.model_dump_json(), "content": "x"})
    lake, day = Lake(settings.lake), shop.AS_OF
    trained = pd.DataFrame({"kind": ["customer", "product"], "id": [ANN, "p00"]})
    lake.write("als_model", trained, day)
    fingerprint = lake.table("als_model").partitions[day].fingerprint
    named = {"table_versions": lake.table("als_model").version, "model_fingerprints": fingerprint}
    releases.set_tags(version, {name: json.dumps({"als_model": value}) for name, value in named.items()})
    lake.write("als_model", trained.assign(id=[ANN, "remade"]), day)
    forget(settings, ANN)
    table, day = released_model(lake, releases.get(version), "als_model")
    assert table.pandas([day])["id"].to_list() == ["p00"], "the release keeps its model"
    assert lake.table("als_model").pandas([day])["id"].to_list() == ["remade"]
    releases.download_index(release, tmp_path / "fetched")
    index = Index.load(tmp_path / "fetched")
    assert ANN.encode() not in index.histories.customers and BOB.encode() in index.histories.customers
    model = mlflow.pyfunc.load_model(f"models:/{settings.registered_model}/{version}")
    answer = model.predict(pd.DataFrame({"customer_id": [ANN, BOB], "k": [3, 3], "list": ["all", "all"]}))
    by_customer = answer.groupby("customer_id")["source"].first()
    assert by_customer[ANN] == "best_sellers" and by_customer[BOB] != "best_sellers"
    # A model that can't be read is logged, and stays pending.
    monkeypatch.setattr(releases.__class__, "download_index", lambda *_: shop.index().save(_[-1]) or _break(_[-1]))
    assert any(f"version {version} of" in line and "delete it in MLflow" in line for line in forget(settings, BOB))
    assert customer_digest(BOB) in ForgottenFile.read(settings.forgotten_file).pending


def _break(index: Path) -> None:
    (index / "histories" / "rating.npy").unlink()
