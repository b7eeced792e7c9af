"""The lake: one Delta table per asset, `lake/<asset>`, partitioned by `date` if the asset is daily.

A day is replaced as a whole: its files are written first, then one commit to the table's log names them. Many days can
be one commit. Files are named by the hash of their content, so the log tells the fingerprint of each partition, and a
partition that gets the same content again needs no commit. Any engine that reads Delta can read the tables.

`deltalake` writes the log, without a JVM. Of the packages for Dagster, neither `dagster-deltalake` nor `dagster-delta`
passes Spark frames, or commits files that Spark's tasks wrote.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction
from pyspark.sql import DataFrame, SparkSession
from upath import UPath

from rec_assets.errors import UserError
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources import spark_files
from rec_assets.resources.day_files import DayFiles
from rec_assets.resources.spark_files import File
from rec_assets.resources.table_columns import stored_schema
from rec_assets.settings import CatalogSchema

Rows: TypeAlias = "pa.Table | pd.DataFrame | DataFrame | LazyArrowRows | list[Rows]"
"""Rows to write: in the memory of this process, or results of Spark; or several of these."""

Day: TypeAlias = dt.date | None
"""The day of a partition; None for the only partition of a table without days."""

Days: TypeAlias = Sequence[dt.date] | None
"""Days to read; None for a table without days."""

NO_RETRY = CommitProperties(max_commit_retries=0)
"""If delta-rs itself tried again, a table or a day that two processes create at once would be there twice."""


class MissingPartition(UserError, LookupError):
    """A table, a version or a day of it is not in the lake; the message names it and what to do."""


class DamagedPartition(UserError, RuntimeError):
    """Files of a partition are missing or have changed; the message names the file and what to do."""


@dataclass(frozen=True)
class Partition:
    """Content of a partition: its files, in order."""

    files: tuple[File, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.bytes for file in self.files)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the digests of the files; equal for equal content."""
        return hashlib.sha256(" ".join(file.digest for file in self.files).encode()).hexdigest()


@dataclass(frozen=True)
class LakeTable:
    """A table at one version of its log; without a version if it does not exist.

    What is read through it belongs together, whatever others write meanwhile.
    """

    lake: Lake
    name: str
    version: int | None = None
    partitions: Mapping[Day, Partition] = field(default_factory=dict)

    @property
    def days(self) -> list[dt.date]:
        """Its days, sorted."""
        return sorted(day for day in self.partitions if day is not None)

    def rows(self, days: Iterable[Day] = (None,)) -> int:
        """Number of rows of several partitions; missing days count as 0."""
        return sum(self.partitions[day].rows for day in days if day in self.partitions)

    def fingerprint(self, days: Iterable[Day] = (None,)) -> str:
        """One SHA-256 over the contents of several partitions. A missing day changes it too."""
        found = ((day, self.partitions.get(day)) for day in days)
        lines = (f"{self.name} {day} {part.fingerprint if part else '-'}\n" for day, part in found)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def damage(self, days: Iterable[Day] | None = None) -> dict[Day, str]:
        """Damaged partitions (of all days, or of some): day → the file that is missing or has another size."""
        found, wanted = dict[Day, str](), list(self.partitions if days is None else days)
        sizes = self.lake.sizes(f"{self.name}/date={wanted[0]}" if len(wanted) == 1 and wanted[0] else self.name)
        for day in wanted:
            for file in self.partitions[day].files:
                size = sizes.get(path := self.lake.path(self.name, file.path))
                if size != file.bytes:
                    why = "is missing" if size is None else f"has {size} bytes, not {file.bytes}"
                    found[day] = f"{path} {why}"
        return found

    def is_intact(self, day: Day = None) -> bool:
        """Whether a partition exists and is not damaged."""
        return day in self.partitions and not self.damage([day])

    def read(self, days: Days = None, columns: list[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
        """Rows of some days, with a column `date`; or of a table without days.

        Raises:
            MissingPartition: the table or one of the days does not exist.
            DamagedPartition: a file is missing, or its content has changed.
        """
        return self._read(days, lambda *files: spark_files.dataset(*files).to_table(columns, filter=where))

    def batches(self, days: Days, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """`read` in batches, for tables that do not fit into memory.

        Raises as `read`, and FileNotFoundError if a file is deleted while batches are read.
        """
        few: dict[str, Any] = {"batch_readahead": 1, "fragment_readahead": 1}
        found: Iterator[pa.RecordBatch] = self._read(
            days, lambda *files: spark_files.dataset(*files).to_batches(columns, **few)
        )
        return found

    def pandas(self, days: Days = None, **options: Any) -> pd.DataFrame:
        """`read` as a pandas frame."""
        return self.read(days, **options).to_pandas()

    def head(self, day: Day = None, *, rows: int) -> pa.Table:
        """The first rows of a partition, without a column `date`. Raises as `read`."""

        def read(files: list[str], _: pa.Schema, __: str, filesystem: Any) -> pa.Table:
            # A dataset's own `head` reads much more than it returns.
            opened = (pq.ParquetFile(file, filesystem=filesystem) for file in files)
            batches = (batch for file in opened for batch in file.iter_batches(rows) if len(batch))
            return pa.Table.from_batches(itertools.islice(batches, 1), pq.read_schema(files[0], filesystem=filesystem))

        return self._read([day] if day else None, read)

    def spark(self, session: SparkSession, days: Days = None) -> DataFrame:
        """`read` as a Spark frame. Raises as `read`."""
        return self._read(days, functools.partial(spark_files.read, session))

    def lazy_rows(self, session: SparkSession, days: Days = None, *, whole_days: bool = False) -> LazyArrowRows:
        """The same rows, read by Python in Spark's tasks, file by file or day by day. Raises as `read`."""
        return self._read(days, functools.partial(spark_files.read_lazily, session, whole_days=whole_days))

    def part_reader(self, day: Day) -> Callable[[int], pa.Table] | None:
        """A function for Spark's tasks: the rows that a task of this number wrote. None if tasks can't read files.

        Raises as `read`.
        """
        paths = {file.number: self.lake.path(self.name, file.path) for file in self.partitions[day].files}

        def reader(_: list[str], schema: pa.Schema, *place: Any) -> Callable[[int], pa.Table]:
            def read(number: int) -> pa.Table:
                return spark_files.dataset([paths[number]] if number in paths else [], schema, *place).to_table()

            return read

        found: Callable[[int], pa.Table] = self._read([day] if day else None, reader)
        return found

    def require(self, days: Sequence[Day]) -> None:
        """Raise MissingPartition if one of the days does not exist, or there is none."""
        missing = [day for day in days if day not in self.partitions]
        if missing or not days:
            which = f"day {missing[0]}" if missing and missing[0] else "the table"
            more = f" and {len(missing) - 1} more days" if len(missing) > 1 else ""
            raise MissingPartition(
                f"{self.name}: {which}{more} is not in the lake ({self.lake.root}): materialize {self.name} first"
            )

    def _read(self, days: Days, read: Callable[..., Any]) -> Any:
        """Check the files of some days, and apply a function to the arguments of `spark_files.dataset`."""
        wanted: Sequence[Day] = [None] if days is None else days
        self.require(wanted)
        day, files = wanted[0], list[str]()
        try:
            for day in wanted:
                for file in self.partitions[day].files:
                    files.append(path := self.lake.path(self.name, file.path))
                    # A store verifies what it sends.
                    if isinstance(self.lake.root, Path) and not file.is_content_of(path):
                        with suppress(OSError):  # the lake is read-only for this process
                            os.replace(path, f"{path}.damaged")  # so that the next plan finds it missing
                        raise FileNotFoundError(path)
            # An earlier version may have written other columns for older days: missing ones are null.
            schema = pq.read_schema(files[-1], filesystem=self.lake.filesystem)
            schema = schema if days is None else schema.append(spark_files.DATE)
            return read(files, schema, self.lake.path(self.name), self.lake.filesystem)
        except FileNotFoundError as error:
            newest = self.lake.table(self.name)
            if any(newest.partitions.get(day) != self.partitions[day] for day in wanted):
                return newest._read(days, read)  # others have replaced it, and deleted its files
            raise DamagedPartition(
                f"{self.name}{f' of {day}' if day else ''} is damaged: {error.filename or error} is missing or has "
                "changed. Run `rec-assets bootstrap`, which recomputes it, or materialize it in the UI"
            ) from error


@dataclass(frozen=True)
class Lake:
    """Tables in a folder or under a path in an object store; those in `versions` are read at these versions."""

    root: Path | UPath
    versions: Mapping[str, int] = field(default_factory=dict)

    @property
    def filesystem(self) -> Any:
        """File system of the paths, for Arrow and fsspec."""
        return fsspec.filesystem("file", auto_mkdir=True) if isinstance(self.root, Path) else self.root.fs

    @property
    def storage_options(self) -> dict[str, str]:
        """Options and credentials of an object store, from the environment."""
        stores = ("AWS_", "GOOGLE_", "AZURE_")
        options = {name: value for name, value in os.environ.items() if name.startswith(stores)}
        if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
        return {} if isinstance(self.root, Path) else options

    def at(self, versions: Mapping[str, int]) -> Lake:
        """The lake with tables at earlier versions."""
        return replace(self, versions=versions)

    def tables(self) -> list[str]:
        """Names of all tables, sorted."""
        return sorted(log.parent.name for log in self.root.glob("*/_delta_log"))

    def table(self, name: str) -> LakeTable:
        """A table at its newest version, or at that in `versions`. Raises MissingPartition if the latter is gone."""
        delta = self._open(name)
        return LakeTable(self, name) if delta is None else self._as_table(name, delta)

    def write(self, name: str, rows: Rows, day: Day = None) -> Partition:
        """Replace a partition. Results of Spark are computed now, and its tasks write the files."""
        return self.commit(name, {day: self.stage(name, rows, day)})[day]

    def stage(self, name: str, rows: Rows, day: Day = None) -> Partition:
        """Write the files of a partition, which `commit` makes visible."""
        if isinstance(rows, list):
            return Partition(tuple(sorted(file for part in rows for file in self.stage(name, part, day).files)))
        folder = f"date={day}/" if day else ""
        place = self.path(name, folder), self.filesystem
        if isinstance(rows, pd.DataFrame):
            rows = pa.Table.from_pandas(rows, preserve_index=False)
        if isinstance(rows, pa.Table):
            files = [spark_files.store([rows], stored_schema(name, rows.schema), 0, *place)]
        else:
            lazy = rows if isinstance(rows, LazyArrowRows) else LazyArrowRows.from_frame(rows)
            files = spark_files.write(lazy, stored_schema(name, lazy.schema), *place)
        return Partition(tuple(file._replace(path=folder + file.path) for file in files))

    def day_files(self, name: str, schema: pa.Schema, disk: Path) -> DayFiles:
        """Where tasks write days of a table. `disk` is a folder that they see, for lakes without files."""
        return DayFiles(stored_schema(name, schema), self.path(name), self.filesystem)

    def stage_files(self, name: str, files: DayFiles, day: dt.date, written: Sequence[File]) -> Partition:
        """The files of a day that tasks wrote, which `commit` makes visible."""
        return Partition(tuple(written)) if written else self.stage(name, files.schema.empty_table(), day)

    def commit(self, name: str, staged: Mapping[Day, Partition]) -> dict[Day, Partition]:
        """Replace partitions by staged ones, in one commit. Those whose content is the same stay as they are."""
        first = next(file for part in staged.values() for file in part.files)
        schema = stored_schema(name, pq.read_schema(self.path(name, first.path), filesystem=self.filesystem))
        while True:
            delta = self._open(name) or self._create(name, schema, None not in staged)
            table = self._as_table(name, delta)
            there = {day: table.partitions[day] for day in staged if day in table.partitions}
            same = {day: part for day, part in there.items() if part.fingerprint == staged[day].fingerprint}
            kept = {day: same[day] for day in same.keys() - (table.damage(same) if same else {})}
            changed = {day: part for day, part in staged.items() if day not in kept}
            if not changed or self._replace(delta, changed, schema):
                copies = {file for day, part in kept.items() for file in {*staged[day].files} - {*part.files}}
                for file in copies:
                    self.filesystem.rm(self.path(name, file.path))
                return changed | kept

    def delete(self, name: str, days: Iterable[dt.date]) -> None:
        """Delete days in one commit. Their files stay until they are vacuumed."""
        gone: dict[Day, Partition] = {day: Partition(()) for day in days}
        while (delta := self._open(name)) and not self._replace(delta, gone, pa.schema([])):
            pass

    def vacuum(
        self, name: str, keep: Iterable[int] = (), *, hours: int | None = None, full: bool = True, dry_run: bool = False
    ) -> list[str]:
        """Delete the files that neither the newest version nor those in `keep` need, and return their paths.

        Files that were in use during the last `hours` (default: a week) stay, because a reader may still need them.
        Without `full`, files that are in no version stay too, because a writer may still commit them.
        """
        there, kept, delta = self.sizes(name), list[int](), self._open(name)
        if delta is None:
            return []
        for version in keep:
            with suppress(MissingPartition):
                self.at({name: version})._open(name)
                kept.append(version)
        files = delta.vacuum(hours, dry_run, enforce_retention_duration=False, full=full, keep_versions=kept)
        if not dry_run:
            delta.update_incremental()
            delta.create_checkpoint()
        return [path for path in (self.path(name, file) for file in files) if path in there]

    def path(self, *names: str) -> str:
        """A path for Arrow and fsspec: without the scheme."""
        path = self.root.joinpath(*names)
        return path.as_posix() if isinstance(path, Path) else path.path

    def sizes(self, folder: str) -> dict[str, int]:
        """Path → bytes of every file in a folder and in its folders."""
        return {path: about["size"] for path, about in self.filesystem.find(self.path(folder), detail=True).items()}

    def _open(self, name: str) -> DeltaTable | None:
        version = self.versions.get(name)
        try:
            return DeltaTable(str(self.root / name), version, self.storage_options)
        except TableNotFoundError:
            if any(path.endswith("_manifest.json") for path in self.sizes(name)):
                raise UserError(
                    f"{self.root} is a lake from before Delta tables: move it away, and run `rec-assets bootstrap`"
                ) from None
            return None
        except DeltaError as error:
            if version is None:
                raise
            raise MissingPartition(f"{name}: version {version} is no longer in the lake ({self.root})") from error

    def _create(self, name: str, schema: pa.Schema, daily: bool) -> DeltaTable:
        columns = Schema.from_arrow(schema.append(spark_files.DATE) if daily else schema)
        with suppress(DeltaError):  # another process creates it at the same time
            DeltaTable.create(
                str(self.root / name), columns, "ignore", ["date"] if daily else None,
                # So long a release can read the versions that it was made from.
                configuration={"delta.logRetentionDuration": "interval 400 days"}, storage_options=self.storage_options,
                commit_properties=NO_RETRY,
            )  # fmt: skip
        return DeltaTable(str(self.root / name), storage_options=self.storage_options)

    def _as_table(self, name: str, delta: DeltaTable) -> LakeTable:
        files: dict[Day, list[File]] = defaultdict(list)
        for row in pa.table(delta.get_add_actions(flatten=True)).to_pylist():
            files[row.get("partition.date")].append(File(row["path"], row["size_bytes"], row["num_records"] or 0))
        partitions = {day: Partition(tuple(sorted(each))) for day, each in files.items()}
        return LakeTable(self, name, delta.version(), partitions)

    def _replace(self, delta: DeltaTable, partitions: Mapping[Day, Partition], schema: pa.Schema) -> bool:
        """Commit new content of partitions. False if another process has committed since `delta` was opened."""
        actions, now = list[AddAction | RemoveAction](), int(time.time() * 1000)
        for day, file in ((day, file) for day, part in partitions.items() for file in part.files):
            values, rows = {"date": str(day)} if day else {}, json.dumps({"numRecords": file.rows})
            actions.append(AddAction(file.path, file.bytes, values, now, True, rows))
        filters = None if None in partitions else [("date", "in", [str(day) for day in partitions])]
        # Columns that only older files have stay in the table.
        older = [column for column in pa.schema(delta.schema().to_arrow()) if column.name not in schema.names]
        try:
            delta.create_write_transaction(
                actions, "overwrite", Schema.from_arrow(pa.schema([*schema, *older])),
                None if None in partitions else ["date"], filters,
                commit_properties=NO_RETRY,
            )  # fmt: skip
        except CommitFailedError:
            opened = delta.version()
            delta.update_incremental()
            if delta.version() == opened:  # nobody else has committed, so trying again would not help
                raise
            return False
        return True


def open_lake(location: Path | UPath | CatalogSchema) -> Lake:
    """The lake at a location."""
    if isinstance(location, CatalogSchema):
        from rec_assets.resources.unity_catalog import CatalogLake

        return CatalogLake(location)
    return Lake(location)
