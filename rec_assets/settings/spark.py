"""Settings of Spark and Databricks: where the Spark jobs run."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings

_SPARK_KEYS = {
    "spark.master": "set REC_SPARK_MASTER",
    "spark.remote": "set REC_SPARK_REMOTE",
    "spark.checkpoint.dir": "it is next to the lake's tables",
    "spark.driver.memory": "set REC_SPARK_DRIVER_MEMORY",
    "spark.sql.shuffle.partitions": "set REC_SPARK_SHUFFLE_PARTITIONS",
    "spark.sql.session.timeZone": "days and windows need UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "it is always on",
}
"""Keys that `spark_conf` can't set, and what to do instead."""

_SECRET = re.compile("(?i)secret|password|token|access[.]?key")
"""Keys that Spark itself hides in its logs (the default of `spark.redaction.regex`)."""


class DatabricksSettings(BaseModel):
    """A Databricks workspace that materializes assets, as `REC_DATABRICKS__…`.

    databricks-sdk reads the workspace's address and credentials from its own variables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster_id: str = Field(
        min_length=1, description="Id of the cluster that runs the tasks. Databricks starts it when needed."
    )
    volume: str = Field(
        pattern=r"^/Volumes/[^/]+/[^/]+/[^/]+$",
        description="Unity Catalog volume that is `REC_HOME` on Databricks, as `/Volumes/CATALOG/SCHEMA/VOLUME`.",
    )
    wheel: str = Field(pattern=r"\.whl$", description="Path of the rec_assets wheel in the workspace.")
    source: str | None = Field(None, description="`REC_SOURCE` on Databricks. The default is the same as here.")
    assets: Literal["spark", "all"] = Field(
        "spark",
        description="`spark`: assets that use Spark, with the volume mounted here as `REC_HOME`; `all`: every asset.",
    )
    poll_seconds: float = Field(5, gt=0, description="Interval in seconds at which the state of a task is polled.")


class SparkSettings(BaseSettings):
    """Spark and Databricks."""

    spark_master: str = Field("local[*]", description="URL of the Spark master.")
    spark_remote: str | None = Field(
        None, description="Spark Connect server to use instead of a master, as `sc://host:port/;use_ssl=true`."
    )
    spark_driver_memory: str = Field(
        "3g", description="Heap of the Spark driver. With a local master, this is the heap of all of Spark."
    )
    spark_shuffle_partitions: int = Field(
        4, ge=1, description="Number of tasks after a shuffle. Use two or three per core."
    )
    spark_conf: dict[str, str] = Field({}, description='Other Spark settings, as `{"spark.executor.memory": "8g"}`.')
    databricks: DatabricksSettings | None = Field(
        None, description="Databricks workspace that materializes assets. By default, no workspace is used."
    )

    @field_validator("spark_remote")
    @classmethod
    def _check_remote(cls, remote: str | None) -> str | None:
        if not remote:
            return None
        if not remote.startswith("sc://"):
            raise ValueError("must be the URL of a Spark Connect server, sc://host:port")
        if _SECRET.search(remote):
            raise ValueError(
                "must not contain a token, because the UI shows it: set SPARK_CONNECT_AUTHENTICATE_TOKEN instead"
            )
        return remote

    @field_validator("spark_conf")
    @classmethod
    def _check_conf(cls, conf: dict[str, str]) -> dict[str, str]:
        for key in conf:
            if not key.startswith("spark."):
                raise ValueError(f"{key} is no setting of Spark: its name must begin with `spark.`")
            if key in _SPARK_KEYS:
                raise ValueError(f"{key} can't be set here: {_SPARK_KEYS[key]}")
            if _SECRET.search(key):
                raise ValueError(
                    f"{key} would be shown in the UI: set it in spark-defaults.conf (SPARK_CONF_DIR) instead"
                )
        return conf

    @model_validator(mode="after")
    def _check_master_or_remote(self) -> SparkSettings:
        if self.spark_remote:
            if "spark_master" in self.model_fields_set:
                raise ValueError("REC_SPARK_MASTER and REC_SPARK_REMOTE are both set: unset one of them")
            for key in self.spark_conf:
                if not key.startswith("spark.sql."):
                    raise ValueError(
                        f"REC_SPARK_CONF: {key} is the Connect server's to set; with REC_SPARK_REMOTE, set only "
                        "spark.sql.* here"
                    )
        return self
