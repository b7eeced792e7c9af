"""Where Spark runs, as the settings say it, and what is said where they contradict each other."""

import pytest
from pyspark.sql import SparkSession

from rec_assets.resources import spark
from rec_assets.resources.spark import spark_resource
from rec_assets.settings import InvalidSettings, Settings, get_settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REC_SPARK_MASTER", "REC_SPARK_REMOTE", "REC_SPARK_CONF"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "said"),
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
def test_settings_that_clash_are_one_line_that_says_so(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as raised:
        get_settings.__wrapped__()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "hidden" not in str(raised.value)


def test_a_connect_server_is_asked_for_what_it_lets_a_client_set_alone() -> None:
    config = spark_resource(Settings(spark_remote="sc://host:15002", spark_conf={"spark.sql.ansi.enabled": "true"}))
    assert config.spark_config.pop("spark.remote") == "sc://host:15002"
    assert all(key.startswith("spark.sql.") for key in config.spark_config)
    assert config.spark_config["spark.sql.ansi.enabled"] == "true"


def test_what_a_cluster_needs_is_passed_on() -> None:
    config = spark_resource(Settings(spark_master="yarn", spark_conf={"spark.executor.memory": "8g"})).spark_config
    assert (config["spark.master"], config["spark.executor.memory"]) == ("yarn", "8g")


def test_a_session_that_is_there_is_used_and_no_java_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    theirs = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()

    def not_looked_for() -> None:
        raise AssertionError("on Databricks the Java is none of our business")

    monkeypatch.setattr(spark, "require_java", not_looked_for)
    ours = spark.spark_resource(Settings(spark_master="spark://elsewhere:7077")).spark_session
    assert ours.sparkContext is theirs.sparkContext
    assert ours.conf.get("spark.sql.session.timeZone") == "UTC"
