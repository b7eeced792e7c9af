"""The lake's IO manager: passes inputs to assets as Spark or pandas frames, and writes their outputs.

The annotation of an asset's parameter selects the type of the frame. `LazyArrowRows` are rows that Python reads in
Spark's tasks. A window of days is one frame with a `date` column. The constants below are metadata of an `AssetIn` that
select days of its window, or rows.
"""

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow.dataset as ds
from dagster._check import CheckError
from pydantic import PrivateAttr
from pyspark.sql import DataFrame as SparkFrame

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.data_versions import describe, input_version, inputs, versions
from rec_assets.resources.lake import Lake, LakeTable, MissingPartition, open_lake
from rec_assets.resources.releases import AS_OF_NAMES, Release, Releases
from rec_assets.resources.spark import SparkResource
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
        mapped = self._mapped_days(context) if context.has_asset_partitions else []
        self._versions[context.step_context.step.key, table.name] = input_version(table, mapped or [None])
        table, days = self._select(context, table, mapped) if context.has_asset_partitions else (table, None)
        wanted = context.dagster_type.typing_type
        if wanted is SparkFrame:
            return table.spark(self.spark.spark_session, days)
        if wanted is LazyArrowRows:
            return table.lazy_rows(self.spark.spark_session, days)
        kind = (context.definition_metadata or {}).get("lake/kind")
        frame = table.pandas(days, where=ds.field("kind") == kind if kind else None)
        frame.attrs[_READ_DAYS] = days
        return frame

    def _mapped_days(self, context: dg.InputContext) -> list[dt.date]:
        """The days of the input's partition mapping."""
        try:
            days = [dt.date.fromisoformat(key) for key in context.asset_partition_keys]
        except (CheckError, ValueError):
            days = []
        if not days:
            raise MissingPartition(
                f"{context.step_context.partition_key}: this needs {context.asset_key.path[-1]} of a day before the "
                "first day of data: choose a later partition"
            )
        return days

    def _select(
        self, context: dg.InputContext, table: LakeTable, days: list[dt.date]
    ) -> tuple[LakeTable, Sequence[dt.date]]:
        """The days to read, and the table at the version to read: that of the active release for its models."""
        selection = (context.definition_metadata or {}).get("lake/days")
        if selection is None:
            return table, days
        if selection == "active":
            release = Releases(self.mlflow_uri, self.registered_model).active(days[-1])
            if release is not None:
                released, day = released_model(self.lake, release, table.name)
                return released, [day]
        existing = sorted(set(days) & set(table.days))
        if not existing:
            raise MissingPartition(
                f"{table.name}: nothing from {days[0]} to {days[-1]} is in the lake: materialize {table.name} for "
                f"{days[-1]} (a model may be a few days older than the scores that use it, see REC_MODEL_REUSE_DAYS)"
            )
        return table, existing if selection == "all" else existing[-1:]


def released_model(lake: Lake, release: Release, name: str) -> tuple[LakeTable, dt.date]:
    """The table of a model at the version that a release was made from, and the day of the model in it.

    If that version is gone, such as after a new start of the lake, it is the newest one.

    Raises:
        MissingPartition: neither has the day.
    """
    day: dt.date = getattr(release, AS_OF_NAMES[name])
    with suppress(MissingPartition):
        table, fingerprint = lake.at(release.table_versions).table(name), release.model_fingerprints.get(name)
        if table.is_intact(day) and table.partitions[day].fingerprint == fingerprint:
            return table, day
    table = lake.table(name)
    if day not in table.partitions:
        raise MissingPartition(
            f"{name} of {day}, which version {release.version} was made from, is not in the lake: materialize {name} "
            f"for {day}, or roll back to another release with `rec-assets rollback --to VERSION`"
        )
    return table, day


def model_day(model: pd.DataFrame) -> dt.date:
    """The as-of day of a model that the IO manager read. It also works for a model without rows."""
    day: dt.date = model.attrs[_READ_DAYS][-1]
    return day
