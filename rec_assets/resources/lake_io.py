"""The lake as Dagster sees it: an IO manager that hands assets their inputs as Spark or pandas frames.

Which frame an asset gets is what its parameter's annotation says; `LazyArrowRows` are a Spark frame's rows as Python
reads them in Spark's tasks. A window of days comes as one frame with a `date` column;
an input marked `ACTIVE` comes as the day whose model the release in force holds, or else as the newest of
its window that is there; one marked `ALL` as all the days that are there.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
from dagster import (
    ConfigurableIOManager,
    InputContext,
    MetadataValue,
    OutputContext,
    ResourceDependency,
    TableColumn,
    TableSchema,
)
from dagster._check import CheckError
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.releases import Releases
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.storage import Manifest
from rec_assets.settings import parse_lake

ACTIVE = {"lake/days": "in force"}
"""Metadata of an AssetIn of a model: the one in force is wanted, and before any release the newest that is there."""

NEWEST = {"lake/days": "newest"}
"""Metadata of an AssetIn of which only the newest day that is there is wanted."""

OF_PRODUCTS = {"lake/kind": "product"}
"""Metadata of an AssetIn, as a pandas frame, of `als_model`: the factors of products alone, as customers are many."""

ALL = {"lake/days": "all"}
"""Metadata of an AssetIn of which whatever days are there are wanted, however many there will be."""

_DAYS = "lake/days"
"""Where a pandas frame says which days it was read of."""


class LakeIOManager(ConfigurableIOManager):
    """Reads and writes assets in the lake."""

    root: str
    mlflow_uri: str
    registered_model: str
    spark: ResourceDependency[SparkResource]

    @property
    def lake(self) -> Lake:
        """The lake itself."""
        return Lake(parse_lake(self.root))

    def handle_output(self, context: OutputContext, obj: SparkFrame | LazyArrowRows | pd.DataFrame) -> None:
        """Write one partition, or an unpartitioned table, and show it in the UI."""
        table = context.asset_key.path[-1]
        day = dt.date.fromisoformat(context.partition_key) if context.has_asset_partitions else None
        if isinstance(obj, pd.DataFrame):
            manifest = self.lake.write(table, obj, day)
        else:
            manifest = self.lake.write_spark(table, obj, day)
            begun = obj.begin if isinstance(obj, LazyArrowRows) else obj
            begun.sparkSession.catalog.clearCache()  # what the asset kept to compute this has served
        context.add_output_metadata(partition_metadata(self.lake, table, day, manifest))

    def load_input(self, context: InputContext) -> SparkFrame | LazyArrowRows | pd.DataFrame:
        """Read what the input's partition mapping asks for.

        Raises:
            MissingPartition: a day of it was never materialized, or lies before the first day of data.
        """
        table = context.asset_key.path[-1]
        days = self._days(context, table) if context.has_asset_partitions else None
        wanted = context.dagster_type.typing_type
        if wanted is SparkFrame:
            return self.lake.spark(self.spark.spark_session, table, days)
        if wanted is LazyArrowRows:
            return self.lake.task_rows(self.spark.spark_session, table, days)
        kind = (context.definition_metadata or {}).get("lake/kind")
        frame = self.lake.pandas(table, days, where=ds.field("kind") == kind if kind else None)
        frame.attrs[_DAYS] = days
        return frame

    def _days(self, context: InputContext, table: str) -> Sequence[dt.date]:
        try:
            days = [dt.date.fromisoformat(key) for key in context.asset_partition_keys]
        except (CheckError, ValueError):
            days = []
        if not days:
            raise MissingPartition(
                f"{context.step_context.partition_key}: this needs an earlier as-of day of {table}, which is before "
                "the first day of data: choose a later partition"
            )
        wanted = (context.definition_metadata or {}).get("lake/days")
        if wanted is None:
            return days
        if wanted == "in force":
            release = Releases(self.mlflow_uri, self.registered_model).in_force(days[-1])
            if release is not None:
                version = release.version_of(table)
                if self.lake.manifest(table, version) is None:
                    raise MissingPartition(
                        f"{table} of {version}, which the release in force on {days[-1]} (version {release.version}) "
                        f"holds, is not in the lake: materialize {table} for {version}, or go back to another release "
                        "with `rec-assets rollback --to VERSION`"
                    )
                return [version]
        there = sorted(set(days) & set(self.lake.days(table)))
        if not there:
            raise MissingPartition(
                f"{table}: nothing from {days[0]} to {days[-1]} is in the lake: materialize {table} for {days[-1]} "
                "(it may be a few days older than the scores that use it, see REC_REUSE_DAYS)"
            )
        return there if wanted == "all" else there[-1:]


def day_of(model: pd.DataFrame) -> dt.date:
    """The day of a model that the IO manager read: a model that is rightly empty has no row that could tell."""
    day: dt.date = model.attrs[_DAYS][-1]
    return day


def partition_metadata(lake: Lake, table: str, day: dt.date | None, manifest: Manifest) -> dict[str, Any]:
    """What the UI shows of a partition: rows, size, schema, a preview, its fingerprint."""
    head = lake.head(table, day, rows=5)
    columns = [TableColumn(field.name, str(field.type)) for field in head.schema]
    return {
        "dagster/row_count": manifest.rows,
        "size_mb": round(manifest.bytes / 1e6, 3),
        "fingerprint": manifest.fingerprint,
        "dagster/column_schema": TableSchema(columns=columns),
        "preview": MetadataValue.md(preview(head.to_pandas())),
    }


def preview(frame: pd.DataFrame, rows: int = 5) -> str:
    """The first rows as a Markdown table, long values cut."""
    short = frame.head(rows).map(_shown)
    return str(short.to_markdown(index=False))


def _shown(value: object) -> str:
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
