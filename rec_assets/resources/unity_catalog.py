"""A lake in a schema of Unity Catalog: `REC_LAKE=uc://catalog.schema`. On Databricks, Spark itself reads and writes it.

The tables are managed Delta tables, so they appear in Catalog Explorer, lineage and SQL. Spark has no files that are
named by their content, so a partition is compared with the new rows before it is replaced. It has no partitions
without rows either, so their days are in a table property.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from rec_assets.errors import UserError
from rec_assets.recsys.data.raw_lines import LINE
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, spark_type
from rec_assets.recsys.spark.customers import repartition
from rec_assets.resources.day_files import DayFiles
from rec_assets.resources.lake import Day, Days, Lake, LakeTable, MissingPartition, Partition, Rows
from rec_assets.resources.spark_files import File
from rec_assets.resources.table_columns import stored_schema

if TYPE_CHECKING:
    from rec_assets.settings import CatalogSchema

EMPTY_DAYS = "rec_assets.empty_days"
"""Table property: days without rows, as JSON."""

MISSING_FILE = ("FileNotFoundException", "FILE_NOT_EXIST", "PATH_NOT_FOUND")
"""Words in Spark's errors about files of a version that were vacuumed."""

WHOLE_CUSTOMERS = ("customer_histories", "candidates", "hybrid_scores")
"""Tables whose tasks need all rows of a customer. The catalog may divide them between files."""

WEEK_HOURS = 7 * 24

_NO_ROWS = Partition((File("", 0, 0),))


class CatalogUnusable(UserError, RuntimeError):
    """This process can't read Unity Catalog; the message says what to do."""


@dataclass(frozen=True)
class CatalogTable(LakeTable):
    """A table of the schema at one version."""

    lake: CatalogLake

    def damage(self, days: Iterable[Day] | None = None) -> dict[Day, str]:
        """None: the store of the catalog verifies its objects."""
        return {}

    def read(self, days: Days = None, columns: list[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
        """See LakeTable."""
        rows = self.spark(self.lake.session, days).toArrow()
        rows = rows if where is None else rows.filter(where)
        return rows.select(columns) if columns else rows

    def batches(self, days: Days, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """See LakeTable."""
        return iter(self.spark(self.lake.session, days).select(*columns).toArrow().to_batches())

    def head(self, day: Day = None, *, rows: int) -> pa.Table:
        """See LakeTable."""
        return self.spark(self.lake.session, [day] if day else None).drop("date").limit(rows).toArrow()

    def spark(self, session: SparkSession, days: Days = None) -> DataFrame:
        """See LakeTable."""
        self.require([None] if days is None else days)
        frame = session.read.option("versionAsOf", self.version or 0).table(self.lake.full_name(self.name))
        if days is None:
            return frame
        columns = [column for column in frame.columns if column != "date"]
        return frame.where(F.col("date").isin(list(days))).select(*columns, "date")

    def part_reader(self, day: Day) -> None:
        """None: the catalog has no files that tasks could read."""

    def lazy_rows(self, session: SparkSession, days: Days = None, *, whole_days: bool = False) -> LazyArrowRows:
        """See LakeTable."""
        rows = self.spark(session, days)
        if whole_days:
            keys = [name for name in ("date", *LINE) if name in rows.columns]
            rows = rows.repartition("date").sortWithinPartitions(*keys)
        elif self.name in WHOLE_CUSTOMERS:
            rows = repartition(rows).sortWithinPartitions("customer_id")
        return LazyArrowRows.from_frame(rows)


@dataclass(frozen=True)
class StagedRows(Partition):
    """Rows that are not committed yet, and the folder that has them, if one was made for that."""

    rows_of_day: pa.Table | DataFrame
    folder: str | None = None


@dataclass(frozen=True)
class CatalogLake(Lake):
    """The tables of a schema."""

    root: CatalogSchema  # type: ignore[assignment]

    @property
    def session(self) -> SparkSession:
        """The Spark session of the process. Raises CatalogUnusable if it has no Delta."""
        session = SparkSession.builder.getOrCreate()
        extensions = session.conf.get("spark.sql.extensions", "") or ""
        if "DATABRICKS_RUNTIME_VERSION" not in os.environ and "delta" not in extensions.lower():
            raise CatalogUnusable(
                f"REC_LAKE={self.root} needs a Spark with Delta and Unity Catalog: run this on Databricks, or choose a "
                "folder or an object store"
            )
        return session

    def full_name(self, name: str) -> str:
        """Quoted name of a table."""
        return f"`{self.root.catalog}`.`{self.root.schema}`.`{name}`"

    def tables(self) -> list[str]:
        """See Lake."""
        return sorted(row.tableName for row in self._sql(f"SHOW TABLES IN `{self.root.catalog}`.`{self.root.schema}`"))

    def table(self, name: str) -> CatalogTable:
        """See Lake."""
        full = self.full_name(name)
        try:
            newest = self._sql(f"DESCRIBE HISTORY {full} LIMIT 1")[0].version
            detail = self._sql(f"DESCRIBE DETAIL {full}")[0]
        except AnalysisException:
            return CatalogTable(self, name)
        version = self.versions.get(name, newest)
        daily = list(detail.partitionColumns) == ["date"]
        about = [F.col("_metadata.file_path").alias("path"), F.col("_metadata.file_size").alias("size")]
        keys = ["path", "size", *(["date"] if daily else [])]
        try:
            frame = self.session.read.option("versionAsOf", version).table(full)
            counted = frame.select(*about, *keys[2:]).groupBy(*keys).count().collect()
        except Exception as error:  # of Spark's classes for a missing file, some are those of the JVM
            is_gone = isinstance(error, AnalysisException) or any(word in str(error) for word in MISSING_FILE)
            if name not in self.versions or not is_gone:
                raise
            raise MissingPartition(f"{name}: version {version} is no longer in {self.root}") from error
        files: dict[Day, list[File]] = defaultdict(list)
        for row in counted:
            files[row.date if daily else None].append(File(row.path, row["size"], row["count"]))
        empty = self._empty_days(name) if daily else [None]
        partitions = dict.fromkeys(empty, _NO_ROWS) | {
            day: Partition(tuple(sorted(each))) for day, each in files.items()
        }
        return CatalogTable(self, name, version, partitions)

    def stage(self, name: str, rows: Rows, day: Day = None) -> StagedRows:
        """See Lake. The rows stay in memory, or uncomputed, until they are committed."""
        if isinstance(rows, list):
            parts = [self.stage(name, part, day).rows_of_day for part in rows]
            frames = [self.session.createDataFrame(part) if isinstance(part, pa.Table) else part for part in parts]
            rows = reduce(DataFrame.unionByName, frames)
        if isinstance(rows, pd.DataFrame):
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        if not isinstance(rows, pa.Table):
            return StagedRows((), rows.to_spark() if isinstance(rows, LazyArrowRows) else rows)
        rows = rows.cast(stored_schema(name, rows.schema).remove_metadata())
        return StagedRows((File(uuid.uuid4().hex, rows.nbytes, rows.num_rows),), rows)

    def day_files(self, name: str, schema: pa.Schema, disk: Path) -> DayFiles:
        """See Lake. Tasks can't write a managed table, so that they write Parquet files, which Spark then reads."""
        return DayFiles(
            stored_schema(name, schema), str(disk / uuid.uuid4().hex), fsspec.filesystem("file", auto_mkdir=True)
        )

    def stage_files(self, name: str, files: DayFiles, day: dt.date, written: Sequence[File]) -> Partition:
        """See Lake."""
        paths = [f"{files.folder}/{file.path}" for file in written]
        if not paths:
            return self.stage(name, files.schema.empty_table(), day)
        rows = self.session.read.parquet(*paths)
        return StagedRows(tuple(written), rows.select(*(F.col(column) for column in files.schema.names)), files.folder)

    def commit(self, name: str, staged: Mapping[Day, Partition]) -> dict[Day, Partition]:
        """See Lake."""
        frames = {day: self._frame(name, part, day) for day, part in staged.items()}
        new, daily = reduce(DataFrame.unionByName, frames.values()).persist(), None not in staged
        before = self.table(name)
        if before.version is None:
            self._create_table(name, new, daily)
        there = [day for day in frames if day in before.partitions]
        if changed := frames.keys() - set(there) | self._differing(new, before, there):
            where = _is_one_of(changed) if daily else "true"
            writer = new.where(where).write.format("delta").mode("overwrite").option("mergeSchema", "true")
            writer.option("replaceWhere", where).saveAsTable(self.full_name(name))
        filled = {row.date for row in new.select("date").distinct().collect()} if daily else set()
        new.unpersist()
        if daily:
            self._set_empty_days(name, frames.keys() - filled, filled)
        for folder in {part.folder for part in staged.values() if isinstance(part, StagedRows) and part.folder}:
            shutil.rmtree(folder, ignore_errors=True)
        after = self.table(name).partitions
        return {day: after[day] for day in staged}

    def delete(self, name: str, days: Iterable[dt.date]) -> None:
        """See Lake."""
        if self.table(name).version is not None:
            self._sql(f"DELETE FROM {self.full_name(name)} WHERE {_is_one_of(days)}")
            self._set_empty_days(name, set(), set(days))

    def vacuum(
        self, name: str, keep: Iterable[int] = (), *, hours: int | None = None, full: bool = True, dry_run: bool = False
    ) -> list[str]:
        """See Lake. Delta's own command keeps all versions since a time, so it is that of the oldest in `keep`.

        With `hours`, it keeps no version for `keep`, because that would keep what must be deleted. It can't spare the
        files of writers, so without `full`, nothing is deleted.
        """
        if not full:
            return []
        made = {row.version: row.timestamp.timestamp() for row in self._sql(f"DESCRIBE HISTORY {self.full_name(name)}")}
        oldest = min((made[version] for version in keep if version in made), default=time.time())
        retain = max(WEEK_HOURS, int((time.time() - oldest) / 3600) + 1) if hours is None else hours
        with suppress(AnalysisException):  # a session that may not change it has the default, a week
            self.session.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
        command = f"VACUUM {self.full_name(name)} RETAIN {retain} HOURS"
        files = [row.path for row in self._sql(f"{command} DRY RUN")]
        if not dry_run:
            self._sql(command)
        return files

    def _sql(self, statement: str) -> list[Any]:
        return self.session.sql(statement).collect()

    def _frame(self, name: str, staged: Partition, day: Day) -> DataFrame:
        """Staged rows with the declared types and, for a daily table, with `date`."""
        assert isinstance(staged, StagedRows)
        rows = staged.rows_of_day
        frame = rows if isinstance(rows, DataFrame) else self.session.createDataFrame(rows)
        schema = stored_schema(name, LazyArrowRows.from_frame(frame).schema)
        columns = [F.col(f"`{column.name}`").cast(spark_type(column.type)).alias(column.name) for column in schema]
        return frame.select(*columns, *([F.lit(day).alias("date")] if day else []))

    def _create_table(self, name: str, frame: DataFrame, daily: bool) -> None:
        """Create a table with the columns of a frame and their descriptions."""
        fields = []
        for column in stored_schema(name, LazyArrowRows.from_frame(frame).schema):
            text = ((column.metadata or {}).get(b"comment") or b"").decode().replace("'", "\\'")
            fields.append(f"`{column.name}` {spark_type(column.type)}" + (f" COMMENT '{text}'" if text else ""))
        by = " PARTITIONED BY (date)" if daily else ""
        self._sql(f"CREATE TABLE IF NOT EXISTS {self.full_name(name)} ({', '.join(fields)}) USING delta{by}")

    def _differing(self, new: DataFrame, before: CatalogTable, days: Sequence[Day]) -> set[Day]:
        """The days whose rows are not the same as before, in any order."""
        if not days:
            return set()
        old = before.spark(self.session, None if None in days else [day for day in days if day is not None])
        if sorted(old.columns) != sorted(new.columns):
            return set(days)
        signed = new.withColumn("+", F.lit(1)).unionByName(old.withColumn("+", F.lit(-1)))
        counts = signed.groupBy(*new.columns).agg(F.sum("+").alias("+")).where("`+` != 0")
        if None in days:
            return set() if counts.isEmpty() else {None}
        return {row.date for row in counts.select("date").distinct().collect()} & set(days)

    def _empty_days(self, name: str) -> list[Day]:
        properties = self._sql(f"DESCRIBE DETAIL {self.full_name(name)}")[0].properties
        return [dt.date.fromisoformat(day) for day in json.loads(properties.get(EMPTY_DAYS, "[]"))]

    def _set_empty_days(self, name: str, empty: set[Day], others: set[Day]) -> None:
        before = set(self._empty_days(name))
        if before != (after := (before | empty) - others):
            days = json.dumps(sorted(str(day) for day in after))
            self._sql(f"ALTER TABLE {self.full_name(name)} SET TBLPROPERTIES ('{EMPTY_DAYS}' = '{days}')")


def _is_one_of(days: Iterable[Day]) -> str:
    dates = ", ".join(f"DATE'{day}'" for day in sorted(days, key=str))
    return f"date IN ({dates})"
