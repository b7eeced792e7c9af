"""Spark's configuration from the settings, and the messages for invalid settings."""

import threading

import pytest
from pyspark.sql import SparkSession

from rec_assets.resources import spark
from rec_assets.resources.spark import SparkResource, SparkUnusable, spark_resource, start_early
from rec_assets.settings import InvalidSettings, Settings, get_settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REC_SPARK_MASTER", "REC_SPARK_REMOTE", "REC_SPARK_CONF"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"REC_SPARK_MASTER": "yarn", "REC_SPARK_REMOTE": "sc://host"},
            "REC_SPARK_REMOTE are both set",
        ),
        ({"REC_SPARK_REMOTE": "spark://host:7077"}, "REC_SPARK_REMOTE: must be the URL of a Spark Connect server"),
        ({"REC_SPARK_REMOTE": "sc://host/;token=hidden"}, "set SPARK_CONNECT_AUTHENTICATE_TOKEN instead"),
        (
            {"REC_SPARK_CONF": '{"spark.master": "yarn"}'},
            "spark.master can't be set here: set REC_SPARK_MASTER",
        ),
        ({"REC_SPARK_CONF": '{"executor.memory": "1g"}'}, "its name must begin with `spark.`"),
        ({"REC_SPARK_CONF": '{"spark.hadoop.fs.s3a.secret.key": "hidden"}'}, "would be shown in the UI"),
        ({"REC_SPARK_CONF": "{spark"}, "REC_SPARK_CONF: must be JSON"),
        (
            {"REC_SPARK_REMOTE": "sc://host", "REC_SPARK_CONF": '{"spark.executor.memory": "1g"}'},
            "spark.executor.memory is the Connect server's to set",
        ),
    ],
)
def test_invalid_or_contradicting_settings_are_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as raised:
        get_settings.__wrapped__()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_only_client_settings_are_passed_to_a_connect_server() -> None:
    config = spark_resource(Settings(spark_remote="sc://host:15002", spark_conf={"spark.sql.ansi.enabled": "true"}))
    assert config.spark_config.pop("spark.remote") == "sc://host:15002"
    assert all(key.startswith("spark.sql.") for key in config.spark_config)
    assert config.spark_config["spark.sql.ansi.enabled"] == "true"


def test_spark_conf_is_passed_to_a_cluster() -> None:
    config = spark_resource(Settings(spark_master="yarn", spark_conf={"spark.executor.memory": "8g"})).spark_config
    assert (config["spark.master"], config["spark.executor.memory"]) == ("yarn", "8g")


def test_only_a_local_spark_starts_early_and_its_error_is_left_to_the_first_asset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[str] = []

    def fail(resource: SparkResource) -> None:
        started.append(resource.spark_config["spark.master"])
        raise SparkUnusable("no Spark here")

    monkeypatch.setattr(SparkResource, "_init_session", fail)
    for settings in (
        Settings(spark_master="local[2]"), Settings(spark_master="spark://a:7077"), Settings(spark_remote="sc://a"),
    ):  # fmt: skip
        start_early(settings)
    for thread in threading.enumerate():
        if thread.name == "start Spark":
            thread.join()
    assert started == ["local[2]"]


@pytest.mark.integration
def test_an_existing_session_is_used_without_a_check_for_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    existing = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()

    def fail() -> None:
        raise AssertionError("an existing session needs no check for Java")

    monkeypatch.setattr(spark, "require_java", fail)
    session = spark.spark_resource(Settings(spark_master="spark://elsewhere:7077")).spark_session
    assert session.sparkContext is existing.sparkContext
    assert session.conf.get("spark.sql.session.timeZone") == "UTC"
