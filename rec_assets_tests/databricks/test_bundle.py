"""The bundles have only fields that Databricks knows, and only names that exist in this code.

The types of databricks-bundles reject unknown fields. The other checks of `databricks bundle validate` need the CLI and
a workspace, and are not tested.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.bundles.clusters import Cluster
from databricks.bundles.jobs import Job
from databricks.bundles.model_serving_endpoints import ModelServingEndpoint
from databricks.bundles.registered_models import RegisteredModel
from databricks.bundles.schemas import Schema
from databricks.bundles.volumes import Volume

from rec_assets.definitions import build_definitions
from rec_assets.resources.databricks import ENTRY_POINT, PACKAGE
from rec_assets.settings import Settings
from rec_assets_tests.shops import write_giftware_shop

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "databricks"
BUNDLES = [FOLDER / "databricks.yml", FOLDER / "serving" / "databricks.yml"]
TYPES = {
    "clusters": Cluster, "jobs": Job, "model_serving_endpoints": ModelServingEndpoint,
    "registered_models": RegisteredModel, "schemas": Schema, "volumes": Volume,
}  # fmt: skip


def read(bundle: Path) -> dict[str, Any]:
    return yaml.safe_load(bundle.read_text())


@pytest.fixture(scope="module")
def pipeline() -> dict[str, Any]:
    return read(BUNDLES[0])


@pytest.mark.parametrize("bundle", BUNDLES, ids=["pipeline", "serving"])
def test_resources_have_only_known_fields(bundle: Path) -> None:
    for kind, resources in read(bundle)["resources"].items():
        for resource in resources.values():
            TYPES[kind].from_dict(resource)
            with pytest.raises(ValueError, match="Unexpected field 'color'"):
                TYPES[kind].from_dict({**resource, "color": "red"})


@pytest.mark.parametrize("bundle", BUNDLES, ids=["pipeline", "serving"])
def test_every_reference_exists(bundle: Path) -> None:
    found, text = read(bundle), bundle.read_text()
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == set(found["variables"])
    for kind, name in re.findall(r"\$\{resources\.(\w+)\.(\w+)\.name\}", text):
        assert name in found["resources"][kind]


def test_jobs_run_entry_points_and_jobs_that_exist(pipeline: dict[str, Any], tmp_path: Path) -> None:
    (found,) = entry_points(group="console_scripts", name=ENTRY_POINT)
    assert found.value == "rec_assets.on_databricks:main"
    assert callable(found.load())
    definitions = build_definitions(Settings(home=tmp_path, source=str(write_giftware_shop(tmp_path))))
    for name, job in pipeline["resources"]["jobs"].items():
        (task,) = job["tasks"]
        assert task["python_wheel_task"] == {
            "package_name": PACKAGE, "entry_point": ENTRY_POINT, "parameters": [name],
        }  # fmt: skip
        assert name == "bootstrap" or definitions.resolve_job_def(name)


def test_schedules_equal_the_settings(pipeline: dict[str, Any]) -> None:
    weekdays = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]

    def quartz(cron: str) -> str:
        minute, hour, day, month, weekday = cron.split()
        return f"0 {minute} {hour} {day} {month} ?" if weekday == "*" else (
            f"0 {minute} {hour} ? {month} {weekdays[int(weekday)]}"
        )  # fmt: skip

    settings = Settings()
    assert pipeline["variables"]["nightly_cron"]["default"] == quartz(settings.nightly_cron)
    assert pipeline["variables"]["retrain_cron"]["default"] == quartz(settings.retrain_cron)
    crons = {
        name: job["schedule"]["quartz_cron_expression"]
        for name, job in pipeline["resources"]["jobs"].items()
        if "schedule" in job
    }
    assert crons == {"daily_update": "${var.nightly_cron}", "retrain": "${var.retrain_cron}"}


def test_variables_are_settings(pipeline: dict[str, Any]) -> None:
    known = {f"REC_{name.upper()}" for name in Settings.model_fields}
    records = yaml.safe_load((FOLDER / "dagster.yaml").read_text())["storage"]["postgres"]["postgres_url"]["env"]
    assert set(pipeline["variables"]["settings"]["default"]) <= known | {records}


def test_the_endpoint_serves_the_model_of_the_pipeline(pipeline: dict[str, Any]) -> None:
    endpoint = read(BUNDLES[1])["resources"]["model_serving_endpoints"]["recommender"]
    (entity,) = endpoint["config"]["served_entities"]
    model = pipeline["resources"]["registered_models"]["recommender"]["name"]
    assert entity["entity_name"] == f"${{var.catalog}}.${{var.schema}}.{model}"
    assert model == Settings().registered_model
