"""The lake's IO manager: passes inputs to assets as Spark or pandas frames, and writes their outputs.

The annotation of an asset's parameter selects the type of the frame. `LazyArrowRows` are rows that Python reads in
Spark's tasks. A window of days is one frame with a `date` column.
"""

import datetime as dt
from contextlib import suppress
from typing import Any

import dagster as dg
import pandas as pd
from dagster._check import CheckError
from pydantic import PrivateAttr
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.data_versions import describe, input_version, inputs, versions
from rec_assets.resources.lake import Lake, LakeTable, MissingPartition, open_lake
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import parse_lake


class LakeIOManager(dg.ConfigurableIOManager):
    """Reads inputs from the lake and writes outputs to it, with their schema and a preview."""

    root: str
    spark: dg.ResourceDependency[SparkResource]

    _versions: dict[tuple[str, str], dict[str, Any]] = PrivateAttr(default_factory=dict)
    """(Step, table) → version of the partitions that the step has read."""

    @property
    def lake(self) -> Lake:
        """The lake itself."""
        return open_lake(parse_lake(self.root))

    def handle_output(self, context: dg.OutputContext, obj: SparkFrame | LazyArrowRows | pd.DataFrame) -> None:
        """Write a partition, or an unpartitioned table, and its metadata."""
        name = context.asset_key.path[-1]
        day = dt.date.fromisoformat(context.partition_key) if context.has_asset_partitions else None
        written = self.lake.write(name, obj, day)
        if not isinstance(obj, pd.DataFrame):
            source = obj.frame if isinstance(obj, LazyArrowRows) else obj
            source.sparkSession.catalog.clearCache()  # what the asset cached is not needed any more
        step = context.step_context
        made_from = {
            parent: self._versions.get((step.step.key, parent)) or input_version(self.lake.table(parent), days)
            for parent, days in inputs(step.job_def.asset_layer.asset_graph, context.asset_key, day).items()
        }
        step.set_data_version(context.asset_key, dg.DataVersion(written.fingerprint))
        context.add_output_metadata(
            {**describe(self.lake.table(name), day), **versions(written.fingerprint, made_from)}
        )

    def load_input(self, context: dg.InputContext) -> SparkFrame | LazyArrowRows | pd.DataFrame:
        """Read the days of the input's partition mapping.

        Raises:
            MissingPartition: a day was never materialized, or is before the first day of data.
        """
        table = self.lake.table(context.asset_key.path[-1])
        days = self._days(context, table) if context.has_asset_partitions else None
        self._versions[context.step_context.step.key, table.name] = input_version(table, days or [None])
        wanted = context.dagster_type.typing_type
        if wanted is SparkFrame:
            return table.spark(self.spark.spark_session, days)
        if wanted is LazyArrowRows:
            return table.lazy_rows(self.spark.spark_session, days)
        return table.pandas(days)

    def _days(self, context: dg.InputContext, table: LakeTable) -> list[dt.date]:
        """The days of the input's partition mapping; for an asset without days, all that exist."""
        if not context.has_partition_key:
            return table.days
        with suppress(CheckError, ValueError):
            if days := [dt.date.fromisoformat(key) for key in context.asset_partition_keys]:
                return days
        raise MissingPartition(
            f"{context.partition_key}: this needs {table.name} of a day before the first day of data: choose a later "
            "partition"
        )
