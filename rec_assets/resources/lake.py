"""The lake: one folder a table, one folder a day in it, replaced whole or not at all; and its Dagster IO manager.

    lake/<asset>/date=2017-12-03/<version>-0.parquet + _manifest.json      (lake/<asset>/ where unpartitioned)

The manifest names the files that are the partition. Files are written first under names that hold their content's
hash, then the manifest is replaced in one step, then the old files go: a reader that follows the manifest sees the
old partition or the new one, whatever is killed when. Writing the same content again changes nothing, not even the
manifest's time, so that what depends on it stays up to date.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MANIFEST = "_manifest.json"
STAGING_HOURS = 6
DELETED = ".deleted"


class MissingPartition(LookupError):
    """A table, or a day of it, isn't in the lake; the message says which and what to materialise."""


@dataclass(frozen=True)
class Manifest:
    """What a partition is.

    Attributes:
        files: File names, in order.
        rows: Rows in all of them.
        bytes: Their size.
        fingerprint: SHA-256 over the files' pages and schemas; equal for equal content.
        sources: Of what landed: each file it was read from, and the SHA-256 of that.
    """

    files: list[str]
    rows: int
    bytes: int
    fingerprint: str
    sources: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lake:
    """Tables under `root`."""

    root: Path

    # ---- what is there ----

    def days(self, table: str) -> list[dt.date]:
        """Days of a table that are there, sorted."""
        folder = self.root / table
        found = folder.glob("date=*/" + MANIFEST) if folder.is_dir() else ()
        return sorted(dt.date.fromisoformat(path.parent.name[5:]) for path in found)

    def manifest(self, table: str, day: dt.date | None = None) -> Manifest | None:
        """The manifest of a partition, or None where it isn't there."""
        try:
            return Manifest(**json.loads((self._folder(table, day) / MANIFEST).read_text()))
        except FileNotFoundError:
            return None

    def rows(self, table: str, days: Iterable[dt.date | None] = (None,)) -> int:
        """Rows of several partitions; days that aren't there have none."""
        return sum(manifest.rows for day in days if (manifest := self.manifest(table, day)))

    def changed_at(self, table: str, day: dt.date | None = None) -> float | None:
        """When the partition's content last changed (seconds since the epoch); None where it isn't there."""
        try:
            return (self._folder(table, day) / MANIFEST).stat().st_mtime
        except FileNotFoundError:
            return None

    def fingerprint(self, table: str, days: Iterable[dt.date | None] = (None,)) -> str:
        """One SHA-256 over the contents of several partitions; days that aren't there count as such."""
        digest = hashlib.sha256()
        for day in days:
            manifest = self.manifest(table, day)
            digest.update(f"{table} {day} {manifest.fingerprint if manifest else '-'}\n".encode())
        return digest.hexdigest()

    # ---- reading ----

    def read(
        self,
        table: str,
        days: Sequence[dt.date] | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:
        """Rows of a table: of the days given (with a `date` column), or of an unpartitioned table.

        Raises:
            MissingPartition: the table or one of the days isn't there.
        """  # fmt: skip
        return self._look(table, days, lambda: self._read(table, days, columns, where))

    def head(self, table: str, day: dt.date | None = None, *, rows: int) -> pa.Table:
        """The first rows of a partition, without a `date` column, and without reading all of it. Raises as `read`."""
        return self._look(table, [day] if day else None, lambda: self._head(table, day, rows))

    def _look(self, table: str, days: Sequence[dt.date] | None, look: Callable[[], pa.Table]) -> pa.Table:
        seen = None
        while True:
            now = self.fingerprint(table, days or [None])
            try:
                return look()
            except FileNotFoundError:
                if now == seen:  # else a partition was replaced between looking and reading: look again
                    raise
                seen = now

    def _read(
        self,
        table: str,
        days: Sequence[dt.date] | None,
        columns: Sequence[str] | None,
        where: ds.Expression | None,
    ) -> pa.Table:
        files, schema = self._files(table, days)
        dataset = ds.dataset(
            [file.as_posix() for file in files],
            format="parquet",
            schema=schema,
            partitioning=ds.partitioning(pa.schema([("date", pa.date32())]), flavor="hive"),
            partition_base_dir=(self.root / table).as_posix(),
        )
        return dataset.to_table(columns=list(columns) if columns else None, filter=where)

    def _head(self, table: str, day: dt.date | None, rows: int) -> pa.Table:
        files, _ = self._files(table, [day] if day else None)
        batches = (batch for file in files for batch in pq.ParquetFile(file).iter_batches(rows))
        first = next((batch for batch in batches if len(batch)), None)
        return pa.Table.from_batches([first]) if first is not None else pq.read_table(files[0])

    def pandas(self, table: str, days: Sequence[dt.date] | None = None, **options: Any) -> pd.DataFrame:
        """`read` as a pandas frame."""
        return self.read(table, days, **options).to_pandas()

    def spark(self, session: SparkSession, table: str, days: Sequence[dt.date] | None = None) -> DataFrame:
        """A table in Spark: of the days given (with a `date` column), or an unpartitioned one.

        Raises:
            MissingPartition: the table or one of the days isn't there.
        """
        files, _ = self._files(table, days)
        schema = _spark_schema(files[0], with_date=days is not None)
        reader = session.read.option("basePath", (self.root / table).as_posix())
        return reader.schema(schema).parquet(*(file.as_posix() for file in files))

    # ---- writing ----

    def write(
        self,
        table: str,
        data: pa.Table | pd.DataFrame,
        day: dt.date | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Replace a partition; `sources` says which landed files it was read from."""
        data = data if isinstance(data, pa.Table) else pa.Table.from_pandas(data, preserve_index=False)
        with _Staging(self.root) as staging:
            pq.write_table(data.replace_schema_metadata(None), staging / "0.parquet", compression="zstd")
            return self._commit(table, day, [staging / "0.parquet"], sources or {})

    def write_spark(self, table: str, frame: DataFrame, day: dt.date | None = None) -> Manifest:
        """Replace a partition by what Spark computes; Spark's tasks write the files."""
        with _Staging(self.root) as staging:
            frame.write.option("compression", "zstd").parquet((staging / "out").as_posix())
            return self._commit(table, day, sorted((staging / "out").glob("part-*.parquet")))

    def delete(self, table: str, day: dt.date) -> Manifest | None:
        """Take a day away; returns what it was, None where it wasn't there.

        The whole folder moves out of the table in one step, and only then go the files: a reader sees the day or
        `MissingPartition`, a writer of the same day fails rather than leave half of one, and what a kill leaves
        behind is out of everybody's sight until `sweep_deleted`.
        """
        manifest = self.manifest(table, day)
        if manifest is None:
            return None
        bin_ = self.root / DELETED / uuid.uuid4().hex
        bin_.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self._folder(table, day), bin_)
        except FileNotFoundError:  # another one was quicker
            return None
        shutil.rmtree(bin_, ignore_errors=True)
        return manifest

    # ---- inside ----

    def _folder(self, table: str, day: dt.date | None) -> Path:
        return self.root / table / f"date={day}" if day else self.root / table

    def _files(self, table: str, days: Sequence[dt.date] | None) -> tuple[list[Path], pa.Schema]:
        missing, files = [], []
        for day in [None] if days is None else days:
            manifest = self.manifest(table, day)
            if manifest is None:
                missing.append(day)
            else:
                files += [self._folder(table, day) / name for name in manifest.files]
        if missing or not files:
            which = f"day {missing[0]}" if missing and missing[0] else "the table"
            more = f" and {len(missing) - 1} more days" if len(missing) > 1 else ""
            raise MissingPartition(
                f"{table}: {which}{more} is not in the lake ({self.root}): materialise {table} first"
            )
        schema = pq.read_schema(files[0])
        return files, schema.append(pa.field("date", pa.date32())) if days is not None else schema

    def _commit(
        self, table: str, day: dt.date | None, staged: list[Path], sources: Mapping[str, str] = MappingProxyType({})
    ) -> Manifest:
        hashes = [_content_hash(path) for path in staged]
        fingerprint = hashlib.sha256("".join(hashes).encode()).hexdigest()
        manifest = Manifest(
            files=[f"{digest[:12]}-{i}.parquet" for i, digest in enumerate(hashes)],
            rows=sum(pq.read_metadata(path).num_rows for path in staged),
            bytes=sum(path.stat().st_size for path in staged),
            fingerprint=fingerprint,
            sources=dict(sources),
        )
        folder = self._folder(table, day)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.root):
            if self.manifest(table, day) != manifest or not all((folder / name).is_file() for name in manifest.files):
                for path, name in zip(staged, manifest.files, strict=True):
                    os.replace(path, folder / name)
                staged_manifest = staged[0].with_name("manifest")
                staged_manifest.write_text(json.dumps(asdict(manifest), indent=1))
                os.replace(staged_manifest, folder / MANIFEST)
            for stray in folder.glob("*.parquet"):
                if stray.name not in manifest.files:
                    stray.unlink(missing_ok=True)
        return manifest


class _Staging:
    """A folder on the lake's own disk for what isn't visible yet; gone afterwards."""

    def __init__(self, root: Path) -> None:
        self.path = root / ".staging" / uuid.uuid4().hex

    def __enter__(self) -> Path:
        self.path.mkdir(parents=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def sweep_staging(root: Path) -> None:
    """Remove what killed writers left in the staging folder: what nobody has touched for hours."""
    for left in (root / ".staging").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - left.stat().st_mtime > STAGING_HOURS * 3600:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One writer at a time swaps files: of two that write one partition, the files of the later manifest must stay."""
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep_deleted(root: Path) -> None:
    """Remove what killed deleters left on the disk; safe at any time."""
    shutil.rmtree(root / DELETED, ignore_errors=True)


def _content_hash(path: Path) -> str:
    """SHA-256 of a Parquet file's pages and schema.

    Not of its footer: there Java lists each column's encodings in an order that is another one in every process, so
    that a partition remade from the same inputs would look changed, and all that depends on it stale.
    """
    data, metadata = path.read_bytes(), pq.read_metadata(path)
    footer = int.from_bytes(data[-8:-4], "little") + 8
    digest = hashlib.sha256(memoryview(data)[:-footer])
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    digest.update(f"{metadata.schema.to_arrow_schema().remove_metadata()} {groups}".encode())
    return digest.hexdigest()


def _spark_schema(file: Path, *, with_date: bool) -> str:
    """The file's schema as Spark DDL: Spark then needn't open files to infer it."""
    schema = pq.read_schema(file)
    fields = [f"`{field.name}` {_ddl(field.type)}" for field in schema]
    return ", ".join([*fields, "`date` date"] if with_date else fields)


def _ddl(type_: pa.DataType) -> str:
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"array<{_ddl(type_.value_type)}>"
    if pa.types.is_timestamp(type_):
        return "timestamp"
    names = {"string": "string", "large_string": "string", "double": "double", "float": "float", "int64": "bigint",
             "int32": "int", "int16": "smallint", "int8": "tinyint", "bool": "boolean", "date32[day]": "date",
             "binary": "binary"}  # fmt: skip
    return names[str(type_)]
