"""The lake: one folder per table with one folder per day; a partition is replaced as a whole.

    lake/<asset>/date=2017-12-03/<version>-0.parquet + _manifest.json      (lake/<asset>/ if unpartitioned)

The manifest names the files of the partition. A writer writes files under names that contain their content's hash,
replaces the manifest in one step, and deletes the old files. A reader sees the old partition or the new one, even if a
writer is killed. Writing the same content again changes nothing, not even the time of the change, so downstream
partitions stay up to date. `storage.py` implements these steps for a disk and for an object store.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from rec_assets.errors import UserError
from rec_assets.recsys.spark.arrow_rows import ARROW
from rec_assets.resources.manifest import MANIFEST, Manifest
from rec_assets.resources.storage import DAMAGED, Storage, open_storage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from upath import UPath

    from rec_assets.recsys.spark.arrow_rows import LazyArrowRows


class MissingPartition(UserError, LookupError):
    """A table or a day of it is not in the lake; the message names it and what to materialize."""


class DamagedPartition(UserError, RuntimeError):
    """Files of a partition are missing or have changed; the message names the file and what to do."""


@dataclass(frozen=True)
class Lake:
    """Tables under `root`, a folder or an `s3://` path."""

    root: Path | UPath

    @functools.cached_property
    def storage(self) -> Storage:
        """The storage of its partitions."""
        return open_storage(self.root)

    # ---- state ----

    def days(self, table: str) -> list[dt.date]:
        """Days of a table in the lake, sorted."""
        found = (name for name in self.storage.partitions(table) if name.startswith("date="))
        return sorted(dt.date.fromisoformat(name[5:]) for name in found)

    def manifest(self, table: str, day: dt.date | None = None) -> Manifest | None:
        """The manifest of a partition, or None if it does not exist."""
        return self._manifests(table, [day])[0]

    def rows(self, table: str, days: Iterable[dt.date | None] = (None,)) -> int:
        """Number of rows of several partitions; missing days count as 0."""
        return sum(manifest.rows for manifest in self._manifests(table, days) if manifest)

    def changed_at(self, table: str, day: dt.date | None = None) -> float | None:
        """Time at which a partition's content last changed (seconds since the epoch); None if it does not exist."""
        return self.storage.changed_at(_folder(table, day))

    def fingerprint(self, table: str, days: Iterable[dt.date | None] = (None,)) -> str:
        """One SHA-256 over the contents of several partitions. A missing day changes it too."""
        digest, days = hashlib.sha256(), list(days)
        for day, manifest in zip(days, self._manifests(table, days), strict=True):
            digest.update(f"{table} {day} {manifest.fingerprint if manifest else '-'}\n".encode())
        return digest.hexdigest()

    def is_intact(self, table: str, day: dt.date | None = None) -> bool:
        """Whether a partition exists and is not damaged."""
        return self.manifest(table, day) is not None and day not in self.damage(table)

    def damage(self, table: str) -> dict[dt.date | None, str]:
        """Damaged partitions of a table: day → reason, with the name of the file.

        Compares file sizes with the manifests, and uses the marks of readers that found a wrong checksum.
        """
        found = self._damage(table)
        again = self._damage(table) if found else {}  # a concurrent write explains a difference only once
        return {day: why for day, why in again.items() if found.get(day) == why}

    def _damage(self, table: str) -> dict[dt.date | None, str]:
        base, sizes = self.storage.path(table), self.storage.sizes(table)
        places = [path.removeprefix(base).strip("/").rpartition("/")[0] for path in sizes if path.endswith(MANIFEST)]
        days = [dt.date.fromisoformat(place.removeprefix("date=")) if place else None for place in places]
        found = {}
        for day, manifest in zip(days, self._manifests(table, days), strict=True):
            if manifest is None:
                found[day] = f"{self.storage.path(_folder(table, day), MANIFEST)} can't be read"
                continue
            files = [self.storage.path(_folder(table, day), name) for name in manifest.files]
            if absent := [file for file in files if file not in sizes]:
                found[day] = f"{absent[0]} is missing"
            elif sum(sizes[file] for file in files) != manifest.bytes:
                found[day] = f"{', '.join(files)}: {sum(sizes[file] for file in files)} bytes, not {manifest.bytes}"
            elif wrong := [file for file in files if file + DAMAGED in sizes]:
                found[day] = f"{wrong[0]} has a wrong checksum"
        return found

    # ---- reading ----

    def read(
        self, table: str, days: Sequence[dt.date] | None = None, *, columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:  # fmt: skip
        """Rows of some days of a table (with a `date` column), or of an unpartitioned table.

        Raises:
            MissingPartition: the table or one of the days does not exist.
            DamagedPartition: a file is missing or has a wrong checksum.
        """

        def read(files: list[str]) -> pa.Table:
            dataset = ds.dataset(
                files, format="parquet", schema=self._schema(files, days), filesystem=self.storage.filesystem,
                partitioning=ds.partitioning(pa.schema([("date", pa.date32())]), flavor="hive"),
                partition_base_dir=self.storage.path(table),
            )  # fmt: skip
            return dataset.to_table(columns=list(columns) if columns else None, filter=where)

        return self._with_files(table, days, read)

    def head(self, table: str, day: dt.date | None = None, *, rows: int) -> pa.Table:
        """The first rows of a partition, without a `date` column; does not read the rest. Raises as `read`."""

        def read(files: list[str]) -> pa.Table:
            filesystem = self.storage.filesystem
            readers = (pq.ParquetFile(file, filesystem=filesystem) for file in files)
            first = next((batch for each in readers for batch in each.iter_batches(rows) if len(batch)), None)
            if first is None:
                return pq.read_table(files[0], filesystem=filesystem, partitioning=None)
            return pa.Table.from_batches([first])

        return self._with_files(table, [day] if day else None, read)

    def _with_files(
        self, table: str, days: Sequence[dt.date] | None, read: Callable[[list[str]], pa.Table]
    ) -> pa.Table:
        previous = None
        while True:
            files = self._files(table, days)
            try:
                return read(files)
            except FileNotFoundError as error:
                if files == previous:  # otherwise a partition was replaced before the read: try again
                    raise DamagedPartition(f"{table}: a file is missing: {error}. {_REMEDY}") from error
                previous = files

    def pandas(self, table: str, days: Sequence[dt.date] | None = None, **options: Any) -> pd.DataFrame:
        """`read` as a pandas frame."""
        return self.read(table, days, **options).to_pandas()

    def spark(self, session: SparkSession, table: str, days: Sequence[dt.date] | None = None) -> DataFrame:
        """`read` as a Spark frame. Raises as `read`."""
        return self.storage.spark(session, self.storage.path(table), *self._files_and_ddl(table, days))

    def lazy_rows(self, session: SparkSession, table: str, days: Sequence[dt.date] | None = None) -> LazyArrowRows:
        """The same rows, read by Python in Spark's tasks, file by file. Raises as `read`."""
        return self.storage.lazy_rows(session, self.storage.path(table), *self._files_and_ddl(table, days))

    # ---- writing ----

    def write(
        self, table: str, data: pa.Table | pd.DataFrame, day: dt.date | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> Manifest:  # fmt: skip
        """Replace a partition. `sources` are the landed files that it was read from, with their SHA-256."""
        data = data if isinstance(data, pa.Table) else pa.Table.from_pandas(data, preserve_index=False)
        return self.storage.write(_folder(table, day), data, sources or {})

    def write_spark(self, table: str, frame: DataFrame | LazyArrowRows, day: dt.date | None = None) -> Manifest:
        """Replace a partition by the result of a Spark job; Spark's tasks write the files."""
        return self.storage.write_spark(_folder(table, day), frame, {})

    def delete(self, table: str, day: dt.date) -> Manifest | None:
        """Delete a day and return its manifest; None if it does not exist."""
        return self.storage.delete(_folder(table, day))

    # ---- internals ----

    def _manifests(self, table: str, days: Iterable[dt.date | None]) -> list[Manifest | None]:
        return list(self.storage.manifests([_folder(table, day) for day in days]))

    def _files(self, table: str, days: Sequence[dt.date] | None) -> list[str]:
        missing: list[dt.date | None] = []
        files: list[str] = []
        wanted: Sequence[dt.date | None] = [None] if days is None else days
        for day, manifest in zip(wanted, self._manifests(table, wanted), strict=True):
            intact = self._intact_files(table, day, manifest)
            if intact is None:
                missing.append(day)
            else:
                files += intact
        if missing or not files:
            which = f"day {missing[0]}" if missing and missing[0] else "the table"
            more = f" and {len(missing) - 1} more days" if len(missing) > 1 else ""
            raise MissingPartition(
                f"{table}: {which}{more} is not in the lake ({self.root}): materialize {table} first"
            )
        return files

    def _intact_files(self, table: str, day: dt.date | None, manifest: Manifest | None) -> list[str] | None:
        """Paths of a partition's files, with verified checksums; None if the partition does not exist."""
        folder = _folder(table, day)
        while manifest is None or self._find_damage(folder, manifest)[1]:
            with self.storage.without_writers():  # no writer is halfway now
                changed_at = self.changed_at(table, day)
                if changed_at is None:
                    return None
                manifest = self.manifest(table, day)
                if manifest is None:
                    if self.changed_at(table, day) == changed_at:
                        raise self._damaged_error(table, day, f"{self.storage.path(folder, MANIFEST)} can't be read")
                    continue
                name, why = self._find_damage(folder, manifest)
                # An object store has no lock: the manifest may have been replaced or deleted.
                if why and self.manifest(table, day) == manifest:
                    if name:
                        self.storage.mark_damaged(folder, name)
                    raise self._damaged_error(table, day, why)
        return [self.storage.path(folder, name) for name in manifest.files]

    def _find_damage(self, folder: str, manifest: Manifest) -> tuple[str, str]:
        """The file with a wrong checksum, and what is wrong with the partition; "" for each if there is none."""
        try:
            name = self.storage.damaged_file(folder, manifest)
        except FileNotFoundError as error:
            return "", f"{error.filename} is missing"
        return name, f"{self.storage.path(folder, name)} has a wrong checksum" if name else ""

    def _damaged_error(self, table: str, day: dt.date | None, why: str) -> DamagedPartition:
        return DamagedPartition(f"{table}{f' of {day}' if day else ''} is damaged: {why}. {_REMEDY}")

    def _files_and_ddl(self, table: str, days: Sequence[dt.date] | None) -> tuple[list[str], str]:
        """The files and the DDL of their columns, so that Spark need not open files to infer it."""
        files = self._files(table, days)
        return files, ", ".join(f"`{field.name}` {_ddl(field.type)}" for field in self._schema(files, days))

    def _schema(self, files: list[str], days: Sequence[dt.date] | None) -> pa.Schema:
        """The schema of the first file, with `date` for a partitioned table."""
        schema = pq.read_schema(files[0], filesystem=self.storage.filesystem)
        return schema if days is None else schema.append(pa.field("date", pa.date32()))


_REMEDY = "Run `rec-assets bootstrap`, which recomputes it, or materialize it in the UI"


def _folder(table: str, day: dt.date | None) -> str:
    return f"{table}/date={day}" if day else table


def _ddl(type_: pa.DataType) -> str:
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"array<{_ddl(type_.value_type)}>"
    if pa.types.is_timestamp(type_):
        return "timestamp"
    ddl_names = {str(arrow): spark for spark, arrow in ARROW.items()} | {"large_string": "string"}
    return ddl_names[str(type_)]
