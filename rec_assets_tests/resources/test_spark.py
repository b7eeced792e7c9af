"""The session: one that the process has already is used as it is."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from rec_assets.resources import spark
from rec_assets.settings import Settings


def test_a_session_that_is_there_is_used_and_no_java_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    theirs = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()

    def not_looked_for() -> None:
        raise AssertionError("on Databricks the Java is none of our business")

    monkeypatch.setattr(spark, "require_java", not_looked_for)
    ours = spark.spark_resource(Settings(spark_master="spark://elsewhere:7077")).spark_session
    assert ours.sparkContext is theirs.sparkContext
    assert ours.conf.get("spark.sql.session.timeZone") == "UTC"
