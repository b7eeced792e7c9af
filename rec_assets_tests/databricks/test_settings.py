"""The settings that a task on Databricks gets from this machine."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rec_assets.assets.databricks_assets import databricks_environment
from rec_assets.settings import Settings

PLACE = {"cluster_id": "0101-120000-works", "volume": "/Volumes/main/shop/state", "wheel": "rec_assets.whl"}


def test_settings_are_sent_except_local_ones_and_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Settings(
        home="elsewhere", source="shop.yaml", lookback_days=60, recipe={"als": {"rank": 8}},
        retention={"als_model": None}, mlflow_tracking_uri="databricks",
        alerts_webhook="https://example.com/secret", spark_master="local[2]",
        spark_conf={"spark.local.dir": "/here"}, lake="/here/lake", spark_shuffle_partitions=3,
        databricks={**PLACE, "source": "/Volumes/main/shop/state/shop.yaml"},
    )  # fmt: skip
    sent = databricks_environment(here)
    assert "secret" not in str(sent)
    for name, value in sent.items():
        monkeypatch.setenv(name, value)
    there = Settings()
    assert str(there.home) == PLACE["volume"] and there.source == "/Volumes/main/shop/state/shop.yaml"
    assert (there.lookback_days, there.recipe, there.mlflow_uri) == (60, here.recipe, "databricks")
    assert there.retention.als_model is None
    assert there.databricks is None and there.spark_master == "local[*]" and not there.spark_conf
    assert there.lake == there.home / "lake" and there.spark_shuffle_partitions == 3


def test_a_lake_on_s3_is_the_same_for_both() -> None:
    here = Settings(lake="s3://shop/lake", mlflow_tracking_uri="databricks", databricks=PLACE)
    assert databricks_environment(here)["REC_LAKE"] == "s3://shop/lake"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"volume": "/mnt/state"}, "volume"),
        ({"wheel": "rec_assets.zip"}, "wheel"),
        ({"color": "red"}, "color"),
    ],
)
def test_a_wrong_field_is_named_in_the_error(wrong: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=rf"databricks\.{reason}"):
        Settings(mlflow_tracking_uri="databricks", databricks={**PLACE, **wrong})


def test_databricks_needs_a_shared_model_registry() -> None:
    with pytest.raises(ValidationError, match="needs REC_MLFLOW_TRACKING_URI"):
        Settings(databricks=PLACE)
