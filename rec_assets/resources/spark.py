"""The Spark session: started when first used, one a process, closed with it; configured from the settings."""

import os
import sys
from typing import TYPE_CHECKING

from dagster_pyspark import LazyPySparkResource

from rec_assets.resources.java import require_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from rec_assets.settings import Settings


class SparkResource(LazyPySparkResource):
    """`LazyPySparkResource` that first makes sure there is a Java that can run Spark."""

    @property
    def spark_session(self) -> "SparkSession":
        """The process's session.

        Raises:
            JavaMissing: no Java, or too old a one; says how to get it.
        """
        from pyspark.sql import SparkSession

        # On Databricks there is one already, with its own master, Java and Python; that one is used.
        if SparkSession.getActiveSession() is None:
            require_java()
            if self.spark_config["spark.master"].startswith("local"):
                os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # nobody else talks to it
                os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # tasks see the packages that we see
        session: SparkSession = super().spark_session
        session.sparkContext.setLogLevel("ERROR")
        return session


def spark_resource(settings: "Settings") -> SparkResource:
    """The resource for these settings."""
    return SparkResource(
        spark_config={
            "spark.master": settings.spark_master,
            "spark.app.name": "rec_assets",
            "spark.driver.memory": settings.spark_driver_memory,
            "spark.sql.shuffle.partitions": str(settings.spark_shuffle_partitions),
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            # Small tables are joined by broadcast only where the code says so: sizes are guesses.
            "spark.sql.autoBroadcastJoinThreshold": "10m",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.log.level": "ERROR",
        }
    )
