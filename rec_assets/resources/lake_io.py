"""The lake's IO manager: passes inputs to assets as Spark or pandas frames, and writes their outputs.

The annotation of an asset's parameter selects the type of the frame. `LazyArrowRows` are rows that Python reads in
Spark's tasks. A window of days is one frame with a `date` column. The constants below are metadata of an `AssetIn` that
select days of its window, or rows.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow.dataset as ds
from dagster._check import CheckError
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.manifest import Manifest
from rec_assets.resources.releases import AS_OF_NAMES, Releases
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.table_columns import column_schema
from rec_assets.settings import parse_lake

ACTIVE = {"lake/days": "active"}
"""The model of the active release; before the first release, the newest model in the window."""

NEWEST_DAY = {"lake/days": "newest"}
"""The newest day of the window that exists."""

ALL_DAYS = {"lake/days": "all"}
"""All days of the window that exist."""

PRODUCTS_ONLY = {"lake/kind": "product"}
"""For `als_model` as a pandas frame: only the factors of products, because there are many customers."""

_READ_DAYS = "read_days"
"""Key of a pandas frame's `attrs` with the days that it was read from."""


class LakeIOManager(dg.ConfigurableIOManager):
    """Reads inputs from the lake and writes outputs to it, with their schema and a preview."""

    root: str
    mlflow_uri: str
    registered_model: str
    spark: dg.ResourceDependency[SparkResource]

    @property
    def lake(self) -> Lake:
        """The lake itself."""
        return Lake(parse_lake(self.root))

    def handle_output(self, context: dg.OutputContext, obj: SparkFrame | LazyArrowRows | pd.DataFrame) -> None:
        """Write a partition, or an unpartitioned table, and its metadata."""
        table = context.asset_key.path[-1]
        day = dt.date.fromisoformat(context.partition_key) if context.has_asset_partitions else None
        if isinstance(obj, pd.DataFrame):
            manifest = self.lake.write(table, obj, day)
        else:
            manifest = self.lake.write_spark(table, obj, day)
            source = obj.frame if isinstance(obj, LazyArrowRows) else obj
            source.sparkSession.catalog.clearCache()  # what the asset cached is not needed any more
        context.add_output_metadata(partition_metadata(self.lake, table, day, manifest))

    def load_input(self, context: dg.InputContext) -> SparkFrame | LazyArrowRows | pd.DataFrame:
        """Read the days of the input's partition mapping.

        Raises:
            MissingPartition: a day was never materialized, or is before the first day of data.
        """
        table = context.asset_key.path[-1]
        days = self._days(context, table) if context.has_asset_partitions else None
        wanted = context.dagster_type.typing_type
        if wanted is SparkFrame:
            return self.lake.spark(self.spark.spark_session, table, days)
        if wanted is LazyArrowRows:
            return self.lake.lazy_rows(self.spark.spark_session, table, days)
        kind = (context.definition_metadata or {}).get("lake/kind")
        frame = self.lake.pandas(table, days, where=ds.field("kind") == kind if kind else None)
        frame.attrs[_READ_DAYS] = days
        return frame

    def _days(self, context: dg.InputContext, table: str) -> Sequence[dt.date]:
        try:
            days = [dt.date.fromisoformat(key) for key in context.asset_partition_keys]
        except (CheckError, ValueError):
            days = []
        if not days:
            raise MissingPartition(
                f"{context.step_context.partition_key}: this needs {table} of a day before the first day of data: "
                "choose a later partition"
            )
        selection = (context.definition_metadata or {}).get("lake/days")
        if selection is None:
            return days
        if selection == "active":
            release = Releases(self.mlflow_uri, self.registered_model).active(days[-1])
            if release is not None:
                day: dt.date = getattr(release, AS_OF_NAMES[table])
                if self.lake.manifest(table, day) is None:
                    raise MissingPartition(
                        f"{table} of {day}, which the active release of {days[-1]} (version {release.version}) needs, "
                        f"is not in the lake: materialize {table} for {day}, or roll back to another release with "
                        "`rec-assets rollback --to VERSION`"
                    )
                return [day]
        existing = sorted(set(days) & set(self.lake.days(table)))
        if not existing:
            raise MissingPartition(
                f"{table}: nothing from {days[0]} to {days[-1]} is in the lake: materialize {table} for {days[-1]} "
                "(a model may be a few days older than the scores that use it, see REC_MODEL_REUSE_DAYS)"
            )
        return existing if selection == "all" else existing[-1:]


def model_day(model: pd.DataFrame) -> dt.date:
    """The as-of day of a model that the IO manager read. It also works for a model without rows."""
    day: dt.date = model.attrs[_READ_DAYS][-1]
    return day


def partition_metadata(lake: Lake, table: str, day: dt.date | None, manifest: Manifest) -> dict[str, Any]:
    """Metadata of a partition for the UI: rows, size, fingerprint, schema and a preview."""
    head = lake.head(table, day, rows=5)
    return {
        "dagster/row_count": manifest.rows,
        "size_mb": round(manifest.bytes / 1e6, 3),
        "fingerprint": manifest.fingerprint,
        "dagster/column_schema": column_schema(table, head.schema),
        "preview": dg.MetadataValue.md(head.to_pandas().map(_shorten).to_markdown(index=False)),
    }


def _shorten(value: object) -> str:
    """A value as text of at most 60 characters."""
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
