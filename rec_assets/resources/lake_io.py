"""The lake's IO manager: passes inputs to assets as Spark or pandas frames, and writes their outputs.

The annotation of an asset's parameter selects the type of the frame. `LazyArrowRows` are rows that Python reads in
Spark's tasks. A window of days is one frame with a `date` column. A `ProductSnapshot` is mapped into memory. With
`LakeTable`, the asset itself chooses the days to read.
"""

import datetime as dt
from pathlib import Path

import dagster as dg
import pandas as pd
from pydantic import PrivateAttr
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.data_versions import StepInputs, describe, input_version, versions
from rec_assets.resources.lake import Lake, LakeTable, MissingPartition, Rows, open_lake
from rec_assets.resources.product_snapshots import load_product_snapshot
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import parse_lake


class LakeIOManager(dg.ConfigurableIOManager):
    """Reads inputs from the lake and writes outputs to it, with their schema and a preview.

    `disk` is a folder for temporary files that Spark's tasks see too.
    """

    root: str
    disk: str
    spark: dg.ResourceDependency[SparkResource]

    _inputs: StepInputs = PrivateAttr(default_factory=StepInputs)

    @property
    def lake(self) -> Lake:
        """The lake itself."""
        return open_lake(parse_lake(self.root))

    def handle_output(self, context: dg.OutputContext, obj: Rows) -> None:
        """Write a partition, or an unpartitioned table, and its metadata."""
        name = context.asset_key.path[-1]
        day = dt.date.fromisoformat(context.partition_key) if context.has_asset_partitions else None
        written = self.lake.write(name, obj, day)
        if isinstance(obj, (SparkFrame, LazyArrowRows)):
            source = obj.frame if isinstance(obj, LazyArrowRows) else obj
            source.sparkSession.catalog.clearCache()  # what the asset cached is not needed any more
        step = context.step_context
        made_from = {parent: input_version(*known) for parent, known in self._inputs.of(context, self.lake).items()}
        step.set_data_version(context.asset_key, dg.DataVersion(written.fingerprint))
        context.add_output_metadata(
            {**describe(self.lake.table(name), day), **versions(written.fingerprint, made_from)}
        )

    def load_input(
        self, context: dg.InputContext
    ) -> LakeTable | SparkFrame | LazyArrowRows | pd.DataFrame | ProductSnapshot:
        """Read the days of the input's partition mapping.

        Raises:
            MissingPartition: a day was never materialized, or is before the first day of data.
        """
        table, selected = self._inputs.of(context, self.lake)[context.asset_key.path[-1]]
        if not selected and context.has_partition_key:
            first = f"{table.name} of a day before the first day of data"
            raise MissingPartition(f"{context.partition_key}: this needs {first}: choose a later partition")
        days = None if selected == [None] else [day for day in selected if day is not None]
        wanted = context.dagster_type.typing_type
        if wanted is ProductSnapshot and days is not None:
            return load_product_snapshot(table, days[0], Path(self.disk))
        if wanted is LakeTable:
            return table
        if wanted is SparkFrame:
            return table.spark(self.spark.spark_session, days)
        if wanted is LazyArrowRows:
            return table.lazy_rows(self.spark.spark_session, days)
        return table.pandas(days)
