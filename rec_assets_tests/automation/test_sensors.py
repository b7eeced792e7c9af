"""What each sensor says at a tick, also where there is nothing to do; a whole chain on a daemon is in `test_daemon`."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

import pandas as pd
import pytest
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    SensorDefinition,
    SensorResult,
    SkipReason,
    build_sensor_context,
)
from mlflow import MlflowClient

from rec_assets.automation.flows import REASON_TAG
from rec_assets.automation.sensors import build_sensors
from rec_assets.partitions import build_day_partitions
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import PROMOTED, Releases
from rec_assets.settings import Settings
from rec_assets.sources.landing import catalog_fingerprint, file_fingerprints
from rec_assets.sources.spec import load_source

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

    def __init__(self, folder: Path) -> None:
        self.folder, yaml = folder, folder / "shop.yaml"
        yaml.write_text(YAML)
        self.settings = Settings(home=folder / "home", source=str(yaml), lookback_days=10, horizon_days=2, gate_days=2)
        self.source = load_source(str(yaml), self.settings.root)
        self.lake = Lake(self.settings.lake)
        days = build_day_partitions(self.settings, dt.date(2018, 1, 1), None)
        self.sensors = {sensor.name: sensor for sensor in build_sensors(self.settings, self.source, days)}
        self.cursors: dict[str, str | None] = {}
        self.run_keys: list[str | None] = []  # of the last tick

    def land(self, name: str, content: str = "at,buyer,sku\n", age: float = 1000) -> None:
        path = self.folder / name
        path.write_text(content)
        os.utime(path, (time.time() - age,) * 2)

    def ingest(self) -> None:
        """Note that all that lies there was read."""
        for day in self.source.landed_days():
            files = file_fingerprints(self.source, day)
            self.lake.write("raw_purchase_logs", pd.DataFrame({"n": [1]}), day, files)
            self.lake.write("cleaned_interactions", pd.DataFrame({"n": range(100)}), day, files)

    def release(self, as_of: str, trained: str) -> None:
        releases = Releases(self.settings.mlflow_uri, self.settings.registered_model)
        client: MlflowClient = releases.client
        client.create_registered_model(releases.model)
        version = int(client.create_model_version(releases.model, source="/nowhere").version)
        days = dict.fromkeys(("als_version", "graph_version", "ranker_version"), trained)
        releases.propose(version, {"as_of": as_of, **days, "recipe": Recipe().model_dump_json()})
        releases.decide(version, PROMOTED, {})

    def tick(self, name: str, at_work: str = "") -> tuple[str, list[dict[str, str]]]:
        """One look: what it says where it asks for nothing, and the tags of the runs it asks for."""
        sensor: SensorDefinition = self.sensors[name]
        with DagsterInstance.ephemeral() as instance:
            if at_work:
                instance.add_run(DagsterRun(job_name=at_work, status=DagsterRunStatus.STARTED))
            found = sensor(build_sensor_context(instance=instance, cursor=self.cursors.get(name)))
        if isinstance(found, SkipReason):
            return str(found.skip_message), []
        assert isinstance(found, SensorResult)
        self.cursors[name] = found.cursor
        self.run_keys = [request.run_key for request in found.run_requests or []]
        said = found.skip_reason.skip_message if isinstance(found.skip_reason, SkipReason) else found.skip_reason
        return said or "", [dict(request.tags) for request in found.run_requests or []]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_landing_says_that_nothing_has_landed(shop: Shop) -> None:
    said, asked = shop.tick("landing")
    assert said.startswith("nothing has landed in ") and not asked


def test_landing_asks_for_what_is_new_and_then_says_that_nothing_is(shop: Shop) -> None:
    shop.land("2018-01-01.csv")
    shop.land("2018-01-03.csv")
    said, (asked,) = shop.tick("landing")
    assert said == ""
    assert asked[REASON_TAG] == "3 days landed: 2018-01-01, 2018-01-02, 2018-01-03"
    assert asked["dagster/asset_partition_range_start"] == "2018-01-01"
    assert asked["dagster/asset_partition_range_end"] == "2018-01-03"
    shop.ingest()
    for table in ("raw_purchase_logs", "cleaned_interactions"):
        shop.lake.write(table, pd.DataFrame({"n": []}), dt.date(2018, 1, 2))
    assert shop.tick("landing") == ("nothing new: 2 days have landed, the newest is 2018-01-03", [])


def test_landing_asks_for_nothing_while_a_run_is_reading(shop: Shop) -> None:
    # Half-way, the lake has days read and not cleaned; a second run used to be asked for.
    shop.land("2018-01-01.csv")
    assert shop.tick("landing", at_work="ingest") == ("waiting for the run of ingest that is at work", [])
    assert len(shop.tick("landing", at_work="score")[1]) == 1


def test_landing_waits_for_a_file_that_grows_and_leaves_out_one_of_the_future(shop: Shop) -> None:
    shop.land("2018-01-01.csv")
    shop.ingest()
    shop.land("2018-01-02.csv", age=1)
    shop.land("2071-01-01.csv")
    said, asked = shop.tick("landing")
    assert not asked
    assert said.endswith("waiting until 2018-01-02 has stopped growing; left out, as it lies in the future: 2071-01-01")


def test_a_day_before_the_first_or_after_today_does_not_stop_the_sensor(shop: Shop) -> None:
    tomorrow = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)
    shop.land("2017-12-31.csv")
    shop.land("2018-01-01.csv")
    _, (asked,) = shop.tick("landing")
    assert asked[REASON_TAG] == "1 day landed: 2018-01-01"
    partitions = build_day_partitions(shop.settings, dt.date(2018, 1, 1), None).partitions
    assert partitions.has_partition_key(str(tomorrow))


def test_a_new_catalog_is_asked_for_once_it_is_not_the_one_in_the_lake(shop: Shop) -> None:
    assert shop.tick("new_catalog") == ("no catalog has landed", [])
    shop.land("products.csv", "sku\nA\n", age=1)
    assert shop.tick("new_catalog") == ("waiting until the new catalog has stopped growing", [])
    shop.land("products.csv", "sku\nA\n")
    assert shop.tick("new_catalog") == ("", [{REASON_TAG: "a new catalog has landed"}])
    sources = catalog_fingerprint(shop.source)
    shop.lake.write("raw_product_catalog", pd.DataFrame({"product_id": ["A"]}), sources=sources)
    assert shop.tick("new_catalog") == ("nothing new: the newest catalog is in the lake", [])


def test_models_are_asked_for_when_they_can_be_judged_and_enough_is_new(shop: Shop) -> None:
    assert shop.tick("models_grown_old")[0].startswith("there is no release to improve on yet")
    for number in range(1, 11):
        shop.land(f"2018-01-{number:02}.csv")
    shop.ingest()
    shop.release(as_of="2018-01-10", trained="2018-01-08")
    said, asked = shop.tick("models_grown_old")
    assert said == "newer models than the champion's can be judged from 2018-01-11 on; newest is 2018-01-10"
    shop.land("2018-01-11.csv")
    shop.ingest()
    said, (asked,) = shop.tick("models_grown_old")
    assert asked[REASON_TAG].startswith("100 purchase lines have landed since models were last proposed, 12.5%")
    for job in ("ingest", "retrain"):
        # Days and accuracies come in before the models do; a second run used to be asked for.
        said, asked = shop.tick("models_grown_old", at_work=job)
        assert said == "waiting for the run of ingest or retrain that is at work" and not asked


def test_models_are_asked_for_once_a_day_whatever_else_speaks_for_them(shop: Shop) -> None:
    for number in range(1, 12):
        shop.land(f"2018-01-{number:02}.csv")
    shop.ingest()
    shop.release(as_of="2018-01-10", trained="2018-01-08")
    keys = []
    for unknown in (0.0, 0.9):
        live = pd.DataFrame({"hit_rate": [0.1], "unknown_products": [unknown], "unknown_customers": [0.0]})
        shop.lake.write("live_accuracy", live, dt.date(2018, 1, 11))
        _, (asked,) = shop.tick("models_grown_old")
        keys += shop.run_keys
        assert ("unknown" in asked[REASON_TAG]) == (unknown > 0)
    assert keys == ["2018-01-11"] * 2
