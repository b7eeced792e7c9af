"""Data versions: the fingerprint of a partition, and those of the partitions that it was made from.

Both are recorded with each materialization, and tell what is stale. The fingerprint is also Dagster's data version, so
the UI tells the same. If one run materializes many days, Dagster has one data version for all of them; the metadata of
each day have its own.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CODE_VERSION_TAG

from rec_assets.recsys.spark.arrow_rows import spark_type
from rec_assets.resources.day_files import DayFiles
from rec_assets.resources.lake import Day, Lake, LakeTable, Partition
from rec_assets.resources.spark_files import File
from rec_assets.resources.table_columns import TABLES

FINGERPRINT, MADE_FROM, FILES = "fingerprint", "made_from", "files"
"""Metadata: fingerprint of the partition; upstream asset → `input_version`; file → SHA-256."""

UPSTREAM = "rec_assets/upstream"
"""Tag of an asset of the shop, which is no table of the lake."""

PAGE = 1000
"""Materializations that are read at a time."""


def inputs(graph: BaseAssetGraph[Any], key: dg.AssetKey, day: Day) -> dict[str, list[Day]]:
    """Upstream asset → those of its partitions that a partition is made from, by the partition mappings."""
    parents = [parent for parent in graph.get(key).parent_keys if UPSTREAM not in graph.get(parent).tags]
    found: dict[str, set[Day]] = {parent.path[-1]: set() for parent in parents}
    for parent, partition in graph.get_parents_partitions(key, str(day) if day else None).parent_partitions:
        if parent in parents:
            found[parent.path[-1]].add(dt.date.fromisoformat(partition) if partition else None)
    return {name: sorted(days, key=str) for name, days in found.items()}


def input_version(table: LakeTable, days: Iterable[Day]) -> dict[str, Any]:
    """The fingerprint of those of these partitions that exist, and the version of their table."""
    there = [day for day in days if day in table.partitions]
    fingerprint = table.partitions[there[0]].fingerprint if len(there) == 1 else table.fingerprint(there)
    return {"fingerprint": fingerprint, "version": table.version}


class StepInputs:
    """The tables that steps read, as they were when the step began to read."""

    def __init__(self) -> None:
        self._by_step: dict[str, dict[str, tuple[LakeTable, list[Day]]]] = {}

    def of(self, context: dg.InputContext | dg.OutputContext, lake: Lake) -> dict[str, tuple[LakeTable, list[Day]]]:
        """Upstream asset → its table and days. For an asset without days, these are the days that exist."""
        if (step := context.step_context).step.key not in self._by_step:
            graph, outputs = step.job_def.asset_layer.asset_graph, step.step.step_outputs
            key = next(output.properties.asset_key for output in outputs if output.properties.asset_key)
            day = dt.date.fromisoformat(step.partition_key) if graph.get(key).is_partitioned else None
            found = ((lake.table(name), days) for name, days in inputs(graph, key, day).items())
            self._by_step[step.step.key] = {
                table.name: (table, [each for each in days if day or each in table.partitions]) for table, days in found
            }
        return self._by_step[step.step.key]


@dataclass(frozen=True)
class Materialization:
    """The newest record of a partition in Dagster."""

    at: float
    run_id: str
    code_version: str | None
    metadata: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the partition."""
        return str(self.metadata.get(FINGERPRINT, ""))

    @property
    def made_from(self) -> dict[str, dict[str, Any]]:
        """Upstream asset → `input_version`; empty if it was not recorded."""
        return self.metadata.get(MADE_FROM) or {}

    @property
    def files(self) -> dict[str, str]:
        """File → SHA-256, if it was made from files outside the lake."""
        return self.metadata.get(FILES) or {}


@dataclass
class Materializations:
    """The newest materialization of every partition. What was read once is not read again."""

    _newest: dict[dg.AssetKey, dict[Day, Materialization]] = field(default_factory=lambda: defaultdict(dict))
    _cursors: dict[dg.AssetKey, int] = field(default_factory=dict)

    def of(self, name: str, instance: dg.DagsterInstance) -> Mapping[Day, Materialization]:
        """Day → newest materialization of an asset. `instance` must be the same at each call."""
        key = dg.AssetKey(name)
        newest, has_more = self._newest[key], True
        while has_more:
            records = dg.AssetRecordsFilter(key, after_storage_id=self._cursors.get(key))
            page = instance.fetch_materializations(records, limit=PAGE, ascending=True)
            has_more = page.has_more
            for record in page.records:
                self._cursors[key] = record.storage_id
                event = record.asset_materialization
                assert event is not None
                day = dt.date.fromisoformat(record.partition_key) if record.partition_key else None
                newest[day] = Materialization(
                    record.timestamp, record.run_id, (event.tags or {}).get(CODE_VERSION_TAG),
                    {name: value.value for name, value in event.metadata.items()},
                )  # fmt: skip
        return newest


class DayWriter:
    """Writes days of a table in one commit, with the data versions of each day.

    Args:
        context: Context of the step.
        lake: Lake of the table.
        name: The table, which is also the asset.
        days: The days that the step may write.
    """

    def __init__(self, context: dg.AssetExecutionContext, lake: Lake, name: str, days: Iterable[Day]) -> None:
        self._context, self._lake, self._name = context, lake, name
        self._staged: dict[Day, Partition] = {}
        self._metadata: dict[Day, dict[str, Any]] = {}
        # Before the step reads its inputs: if one changes meanwhile, the next plan sees the difference.
        table = functools.cache(lake.table)
        graph, key = context.job_def.asset_layer.asset_graph, dg.AssetKey(name)
        self._made_from = {
            day: {name: input_version(table(name), parts) for name, parts in inputs(graph, key, day).items()}
            for day in days
        }

    def add(self, day: Day, data: pa.Table | pd.DataFrame, **metadata: Any) -> int:
        """Write the rows of a day, with further metadata, but don't show them yet. Returns their number."""
        self._staged[day], self._metadata[day] = self._lake.stage(self._name, data, day), metadata
        return self._staged[day].rows

    def add_files(self, files: DayFiles, day: dt.date, written: Sequence[File], /, **metadata: Any) -> int:
        """The same for files that Spark's tasks wrote."""
        self._staged[day] = self._lake.stage_files(self._name, files, day, written)
        self._metadata[day] = metadata
        return sum(file.rows for file in written)

    def commit(self) -> dict[Day, dict[str, Any]]:
        """Show the days added so far, in one commit. Returns the metadata of each day."""
        for day, part in self._lake.commit(self._name, self._staged).items() if self._staged else ():
            known = versions(part.fingerprint, self._made_from[day])
            self._metadata[day] = {"dagster/row_count": part.rows, **known, **self._metadata[day]}
        self._staged = {}
        return self._metadata

    def result(self, **metadata: Any) -> dg.MaterializeResult[Any]:
        """Commit, and describe the result at its newest day; `metadata` are those of the whole run."""
        by_day = self.commit()
        newest = max(by_day, key=str)
        described = {**describe(self._lake.table(self._name), newest), **metadata}
        for day, about in by_day.items():
            # Dagster would repeat metadata of the result at each day of a range, and each plan reads them all.
            about = {**described, **about} if day == newest else about
            self._context.add_asset_metadata(about, asset_key=self._name, partition_key=str(day) if day else None)
        version = combined([about[FINGERPRINT] for about in by_day.values()])
        return dg.MaterializeResult(asset_key=self._name, data_version=dg.DataVersion(version))


def combined(fingerprints: Sequence[str]) -> str:
    """One data version of several partitions; of a single one, it is its fingerprint."""
    one = len(fingerprints) == 1
    return fingerprints[0] if one else hashlib.sha256(" ".join(fingerprints).encode()).hexdigest()


def versions(fingerprint: str, made_from: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The metadata that hold the data versions of a partition."""
    return {FINGERPRINT: fingerprint, MADE_FROM: dg.MetadataValue.json(dict(made_from))}


def describe(table: LakeTable, day: Day) -> dict[str, Any]:
    """Metadata of a partition for the UI: rows, size, columns and a preview."""
    head = table.head(day, rows=5)
    return {
        "dagster/row_count": table.partitions[day].rows,
        "size_mb": round(table.partitions[day].bytes / 1e6, 3),
        "dagster/column_schema": column_schema(table.name, head.schema),
        "preview": dg.MetadataValue.md(head.to_pandas().map(_shorten).to_markdown(index=False)),
    }


def column_schema(table: str, schema: pa.Schema) -> dg.TableSchema:
    """Dagster's schema of a table: name, type and description of each column."""
    declared = TABLES.get(table, {})
    return dg.TableSchema(
        [
            dg.TableColumn(field.name, spark_type(field.type), declared.get(field.name, ("", None))[1])
            for field in schema
        ]
    )


def _shorten(value: object) -> str:
    """A value as text of at most 60 characters."""
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
