"""The run requests and skip reasons of each sensor; `test_daemon` tests whole chains on a daemon."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

import pandas as pd
import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    MetadataValue,
    SensorDefinition,
    SensorResult,
    SkipReason,
    build_sensor_context,
)
from mlflow import MlflowClient

from rec_assets.automation.plan_jobs import EXPORT_MESSAGE, REASON_TAG
from rec_assets.automation.sensors import build_sensors
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.data_versions import FILES, input_version, versions
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import PROMOTED, Releases
from rec_assets.settings import Settings
from rec_assets.sources.landing import catalog_fingerprint, file_fingerprints
from rec_assets.sources.spec import load_data_source

YAML = """
purchases:
  path: "{date:%Y-%m-%d}.csv"
  columns: {customer_id: buyer, product_id: sku, time: at}
catalog:
  path: products.csv
  columns: {product_id: sku}
"""


class Shop:
    """A landing folder, a lake and the sensors over both."""

    def __init__(self, folder: Path, yaml_text: str = YAML) -> None:
        self.folder, yaml = folder, folder / "shop.yaml"
        yaml.write_text(yaml_text)
        self.settings = Settings(home=folder / "home", source=str(yaml), lookback_days=10, horizon_days=2, gate_days=2)
        self.source = load_data_source(str(yaml), self.settings.root)
        self.lake = Lake(self.settings.lake)
        days = DayPartitions(self.settings, dt.date(2018, 1, 1), None)
        self.sensors = {sensor.name: sensor for sensor in build_sensors(self.settings, self.source, days)}
        self.instance = DagsterInstance.ephemeral()
        self.cursors: dict[str, str | None] = {}
        self.run_keys: list[str | None] = []  # of the last tick

    def land(self, name: str, content: str = "at,buyer,sku\n", age: float = 1000) -> None:
        path = self.folder / name
        path.write_text(content)
        os.utime(path, (time.time() - age,) * 2)

    def ingest(self) -> None:
        """Write all landed days to the lake, as a run of `ingest` does."""
        for day in self.source.landed_days():
            self.write("raw_purchase_logs", 1, day, file_fingerprints(self.source, day))
            self.write("cleaned_interactions", 100, day)

    def write(self, table: str, rows: int, day: dt.date | None, files: dict[str, str] | None = None) -> None:
        """Write a partition and record its materialization."""
        written = self.lake.write(table, pd.DataFrame({"n": range(rows)}), day)
        raw = input_version(self.lake.table("raw_purchase_logs"), [day])
        about = versions(written.fingerprint, {"raw_purchase_logs": raw})
        about[FILES] = MetadataValue.json(files or {})
        event = AssetMaterialization(table, metadata=about, partition=str(day) if day else None)
        self.instance.report_runless_asset_event(event)

    def release(self, as_of: str, trained: str) -> None:
        releases = Releases(self.settings.mlflow_uri, self.settings.registered_model)
        client: MlflowClient = releases.client
        client.create_registered_model(releases.model)
        version = int(client.create_model_version(releases.model, source="/nowhere").version)
        days = dict.fromkeys(("als_as_of", "graph_as_of", "ranker_as_of"), trained)
        releases.set_challenger(version, {"as_of": as_of, **days, "recipe": Recipe().model_dump_json()})
        releases.set_decision(version, PROMOTED, {})

    def tick(self, name: str, in_progress: str = "") -> tuple[str, list[dict[str, str]]]:
        """One tick; returns the skip reason and the tags of the requested runs."""
        sensor: SensorDefinition = self.sensors[name]
        run = DagsterRun(job_name=in_progress, status=DagsterRunStatus.STARTED)
        if in_progress:
            self.instance.add_run(run)
        result = sensor(build_sensor_context(instance=self.instance, cursor=self.cursors.get(name)))
        self.instance.delete_run(run.run_id) if in_progress else None
        if isinstance(result, SkipReason):
            return str(result.skip_message), []
        assert isinstance(result, SensorResult)
        self.cursors[name] = result.cursor
        self.run_keys = [request.run_key for request in result.run_requests or []]
        skip_reason = (
            result.skip_reason.skip_message if isinstance(result.skip_reason, SkipReason) else result.skip_reason
        )
        return skip_reason or "", [dict(request.tags) for request in result.run_requests or []]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_no_landed_files_are_a_skip_reason(shop: Shop) -> None:
    skip_reason, requested = shop.tick("purchase_logs_landed")
    assert skip_reason.startswith("no files have landed in ") and not requested


def test_an_export_requests_nothing(tmp_path: Path) -> None:
    export = Shop(tmp_path, YAML.replace("{date:%Y-%m-%d}", "orders"))
    export.land("orders.csv")
    export.land("products.csv", "sku\n")
    assert all(export.tick(name) == (EXPORT_MESSAGE, []) for name in export.sensors)


def test_new_days_are_requested_once(shop: Shop) -> None:
    shop.land("2018-01-01.csv")
    shop.land("2018-01-03.csv")
    skip_reason, (tags,) = shop.tick("purchase_logs_landed")
    assert skip_reason == ""
    assert tags[REASON_TAG] == "3 days landed: 2018-01-01, 2018-01-02, 2018-01-03"
    assert tags["dagster/asset_partition_range_start"] == "2018-01-01"
    assert tags["dagster/asset_partition_range_end"] == "2018-01-03"
    shop.ingest()
    for table in ("raw_purchase_logs", "cleaned_interactions"):
        shop.write(table, 0, dt.date(2018, 1, 2))
    assert shop.tick("purchase_logs_landed") == ("nothing new: 2 days have landed, the newest is 2018-01-03", [])


def test_no_days_are_requested_while_ingest_runs(shop: Shop) -> None:
    # Regression: during a run, some days are read and not cleaned yet, and were requested again.
    shop.land("2018-01-01.csv")
    assert shop.tick("purchase_logs_landed", in_progress="ingest") == ("waiting for the running ingest", [])
    assert len(shop.tick("purchase_logs_landed", in_progress="score_customers")[1]) == 1


def test_growing_files_wait_and_future_days_are_ignored(shop: Shop) -> None:
    shop.land("2018-01-01.csv")
    shop.ingest()
    shop.land("2018-01-02.csv", age=1)
    shop.land("2071-01-01.csv")
    skip_reason, requested = shop.tick("purchase_logs_landed")
    assert not requested
    assert skip_reason.endswith(
        "waiting until the files of 2018-01-02 are complete; ignored, because they are in the future: 2071-01-01"
    )


def test_a_day_before_the_first_day_is_ignored(shop: Shop) -> None:
    tomorrow = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)
    shop.land("2017-12-31.csv")
    shop.land("2018-01-01.csv")
    _, (tags,) = shop.tick("purchase_logs_landed")
    assert tags[REASON_TAG] == "1 day landed: 2018-01-01"
    partitions = DayPartitions(shop.settings, dt.date(2018, 1, 1), None).partitions
    assert partitions.has_partition_key(str(tomorrow))


def test_an_overdue_day_is_checked_once(shop: Shop) -> None:
    today, day = dt.datetime.now(dt.timezone.utc).date(), dt.timedelta(days=1)
    assert shop.tick("purchase_logs_overdue") == ("less than 14 days have landed", [])
    for age in range(5, 35):
        shop.land(f"{today - age * day}.csv", age=(age - 2) * 86_400)
    _, (tags,) = shop.tick("purchase_logs_overdue")
    assert tags[REASON_TAG].startswith(f"{today - 4 * day} ") and "should have landed" in tags[REASON_TAG]
    requested = shop.run_keys
    shop.tick("purchase_logs_overdue")
    assert shop.run_keys == requested  # so Dagster does not run it again
    for age in range(5):
        shop.land(f"{today - age * day}.csv")
    skip_reason, requests = shop.tick("purchase_logs_overdue")
    assert skip_reason.startswith(f"no day is overdue, the newest landed day is {today}; ") and not requests


def test_a_new_catalog_is_requested_once(shop: Shop) -> None:
    assert shop.tick("catalog_landed") == ("no catalog has landed", [])
    shop.land("products.csv", "sku\nA\n", age=1)
    assert shop.tick("catalog_landed") == ("waiting until the new catalog is complete", [])
    shop.land("products.csv", "sku\nA\n")
    assert shop.tick("catalog_landed") == ("", [{REASON_TAG: "a new catalog has landed"}])
    shop.write("raw_product_catalog", 1, None, catalog_fingerprint(shop.source))
    assert shop.tick("catalog_landed") == ("nothing new: the newest catalog is in the lake", [])


@pytest.mark.integration
def test_retraining_is_requested_when_the_gate_can_compare_and_enough_is_new(shop: Shop) -> None:
    assert shop.tick("retraining_needed")[0].startswith("there is no release yet")
    for number in range(1, 11):
        shop.land(f"2018-01-{number:02}.csv")
    shop.ingest()
    shop.release(as_of="2018-01-10", trained="2018-01-08")
    skip_reason, requested = shop.tick("retraining_needed")
    assert skip_reason.endswith("with the champion from 2018-01-11 on, and the newest day is 2018-01-10")
    shop.land("2018-01-11.csv")
    shop.ingest()
    skip_reason, (tags,) = shop.tick("retraining_needed")
    assert tags[REASON_TAG].startswith("100 interactions have landed since the last challenger, 12.5%")
    for job in ("ingest", "retrain"):
        # Regression: during a run, new days and accuracies exist before the models, and were requested again.
        skip_reason, requested = shop.tick("retraining_needed", in_progress=job)
        assert skip_reason == "waiting for the running ingest or retrain" and not requested


@pytest.mark.integration
def test_retraining_is_requested_once_a_day(shop: Shop) -> None:
    for number in range(1, 12):
        shop.land(f"2018-01-{number:02}.csv")
    shop.ingest()
    shop.release(as_of="2018-01-10", trained="2018-01-08")
    keys = []
    for unknown in (0.0, 0.9):
        live = pd.DataFrame({"hit_rate": [0.1], "unknown_products": [unknown], "unknown_customers": [0.0]})
        shop.lake.write("live_accuracy", live, dt.date(2018, 1, 11))
        _, (tags,) = shop.tick("retraining_needed")
        keys += shop.run_keys
        assert ("without ALS factors" in tags[REASON_TAG]) == (unknown > 0)
    assert keys == ["2018-01-11"] * 2
