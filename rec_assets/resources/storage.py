"""Storage of partitions: on a disk, or in an S3-compatible object store.

Both follow the protocol in `lake.py`. Concurrent writers of a partition are safe for these reasons:

- On a disk, a writer stages files in a folder, then takes a lock to move them and replace the manifest.
- An object store has no moves and no locks. Each writer uploads files under unique names and puts the manifest with a
  condition (If-Match, If-None-Match): the manifest must still be the one that the writer read. Only the writer that
  replaced a manifest deletes the files of the old one, so it never deletes files of another writer's manifest.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import functools
import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.manifest import MANIFEST, Manifest, Part
from rec_assets.resources.spark_files import hadoop_opens, read_parquet, write_parquet

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from pyspark.sql import DataFrame, SparkSession
    from upath import UPath

STAGING = ".staging"
STAGING_HOURS = 6
DELETED = ".deleted"
DAMAGED = ".damaged"
"""Suffix of the empty marker file next to a file with a wrong checksum."""
CHANGED_AT = "changed-at"

_TRAILER_BYTES = 8
"""Bytes after a Parquet file's footer: the footer's size, and `PAR1`."""
_CHUNK_BYTES = 2**20
"""Bytes of a file that are hashed at a time."""


class Disk:
    """Partitions as folders under `root`."""

    filesystem = None  # the local one for Arrow

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, *names: str) -> str:
        """The path for Arrow."""
        return self.root.joinpath(*names).as_posix()

    def partitions(self, table: str) -> list[str]:
        """Folder names of a table's partitions."""
        folder = self.root / table
        return [path.parent.name for path in folder.glob("*/" + MANIFEST)] if folder.is_dir() else []

    def sizes(self, table: str) -> dict[str, int]:
        """Path → bytes of every file of a table."""
        found = {}
        for path in (self.root / table).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # replaced at the same time
                found[path.as_posix()] = path.stat().st_size
        return found

    def damaged_file(self, folder: str, manifest: Manifest) -> str:
        """The first file of a partition with a wrong checksum, or "".

        Raises:
            FileNotFoundError: a file is missing or was deleted.
        """
        checked = zip(manifest.files, manifest.checksums, strict=False)
        return next((name for name, checksum in checked if _crc(self.root / folder / name) != checksum), "")

    @contextlib.contextmanager
    def without_writers(self) -> Iterator[None]:
        """Exclude writers inside the block, unless the lake is read-only for this process."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(_locked(self.root))
            yield

    def mark_damaged(self, folder: str, name: str) -> None:
        """Mark a file as damaged for the next plan."""
        with contextlib.suppress(OSError):  # the lake is read-only for this process
            (self.root / folder / (name + DAMAGED)).touch()

    def manifests(self, folders: Sequence[str]) -> Iterator[Manifest | None]:
        """The manifest of each folder; None if the folder is no partition or its manifest is damaged."""
        for folder in folders:
            try:
                yield Manifest.parse((self.root / folder / MANIFEST).read_text(errors="replace"))
            except FileNotFoundError:
                yield None

    def changed_at(self, folder: str) -> float | None:
        """Time at which a partition's content last changed (seconds since the epoch); None if it does not exist."""
        try:
            return (self.root / folder / MANIFEST).stat().st_mtime
        except FileNotFoundError:
            return None

    def spark(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> DataFrame:
        """The files as a Spark frame. Hive partitions follow after `base`; `schema` is DDL."""
        return session.read.option("basePath", base).schema(schema).parquet(*map(_literally, files))

    def lazy_rows(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> LazyArrowRows:
        """The files as rows that Python reads in Spark's tasks."""
        sizes = {file: os.path.getsize(file) for file in files}
        return read_parquet(session, sizes, base, schema, self.filesystem)

    def write(self, folder: str, data: pa.Table, sources: Mapping[str, str]) -> Manifest:
        """Replace a partition by a table."""
        with staging_folder(self.root) as staging:
            _write_parquet(data, staging / "new.parquet")
            return self._replace(folder, staging, [_stage(staging, staging / "new.parquet", 0)], sources)

    def write_spark(self, folder: str, frame: DataFrame | LazyArrowRows, sources: Mapping[str, str]) -> Manifest:
        """Replace a partition by the result of a Spark job; its tasks write the files."""
        with staging_folder(self.root) as staging:
            if isinstance(frame, LazyArrowRows):
                parts = write_parquet(frame, functools.partial(_stage, staging), within=staging)
            else:
                frame.write.option("compression", "zstd").parquet((staging / "out").as_posix())
                written = sorted((staging / "out").glob("part-*.parquet"))
                parts = [_stage(staging, path, number) for number, path in enumerate(written)]
            return self._replace(folder, staging, parts, sources)

    def _replace(self, folder: str, staging: Path, parts: Sequence[Part], sources: Mapping[str, str]) -> Manifest:
        manifest = Manifest.from_parts(parts, sources)
        place = self.root / folder
        place.mkdir(parents=True, exist_ok=True)
        with _locked(self.root):
            old = next(self.manifests([folder]))
            if old is None or old != manifest or not self._is_intact(folder, old):
                for name in manifest.files:
                    os.replace(staging / name, place / name)
                (staging / MANIFEST).write_text(manifest.text)
                if old == manifest:  # restored content: downstream partitions stay fresh
                    shutil.copystat(place / MANIFEST, staging / MANIFEST)
                os.replace(staging / MANIFEST, place / MANIFEST)
            for stray in (*place.glob("*.parquet"), *place.glob("*" + DAMAGED)):
                if stray.name not in manifest.files:
                    stray.unlink(missing_ok=True)
        return manifest

    def _is_intact(self, folder: str, manifest: Manifest) -> bool:
        try:
            size = sum((self.root / folder / name).stat().st_size for name in manifest.files)
            return size == manifest.bytes and not self.damaged_file(folder, manifest)
        except FileNotFoundError:
            return False

    def delete(self, folder: str) -> Manifest | None:
        """Delete a partition and return its manifest; None if it does not exist.

        The folder moves out of the table in one step before its files are deleted. A reader sees the whole partition or
        none, and a concurrent writer of it fails. `sweep_deleted` removes what a killed process left.
        """
        manifest = next(self.manifests([folder]))
        if manifest is None:
            return None
        trash = self.root / DELETED / uuid.uuid4().hex
        trash.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self.root / folder, trash)
        except FileNotFoundError:  # another process deleted it
            return None
        shutil.rmtree(trash, ignore_errors=True)
        return manifest

    def sweep_deleted(self) -> None:
        """Remove what killed deletions left; safe at any time."""
        shutil.rmtree(self.root / DELETED, ignore_errors=True)


def _literally(path: str) -> str:
    """The path with glob characters escaped, as Spark interprets paths as globs."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)


class ObjectStore:
    """Partitions as objects whose keys begin with `root`, an `s3://` path."""

    def __init__(self, root: UPath) -> None:
        self.root, self.filesystem = root, root.fs

    def path(self, *names: str) -> str:
        """The path for Arrow and fsspec: without the scheme."""
        return self.root.joinpath(*names).path

    def partitions(self, table: str) -> list[str]:
        """Folder names of a table's partitions."""
        base = self.path(table) + "/"
        found = (path.removeprefix(base).split("/") for path in self.filesystem.find(base))
        return [parts[0] for parts in found if parts[1:] == [MANIFEST]]

    def sizes(self, table: str) -> dict[str, int]:
        """Path → bytes of every file of a table."""
        found = self.filesystem.find(self.path(table) + "/", detail=True)
        return {path: about["size"] for path, about in found.items()}

    def damaged_file(self, folder: str, manifest: Manifest) -> str:
        """Always "": the store verifies its objects."""
        return ""

    def without_writers(self) -> contextlib.AbstractContextManager[None]:
        """No lock is needed: file names are unique."""
        return contextlib.nullcontext()

    def mark_damaged(self, folder: str, name: str) -> None:
        """Does nothing: `damaged_file` finds none."""

    def manifests(self, folders: Sequence[str]) -> Iterator[Manifest | None]:
        """The manifest of each folder, asked for at once; None where it is no partition, or its manifest is damaged."""
        paths = [self.path(folder, MANIFEST) for folder in folders]
        # Not `cat`, which leaves a missing path out of its answer when it is the only one.
        answers = self.filesystem.cat_ranges(paths, [None] * len(paths), [None] * len(paths), on_error="return")
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
            yield None if isinstance(answer, Exception) else Manifest.parse(answer.decode(errors="replace"))

    def changed_at(self, folder: str) -> float | None:
        """Time at which a partition's content last changed (seconds since the epoch); None if it does not exist.

        The time is from the writer's clock: the store's own times are whole seconds, too coarse to order runs.
        """
        head = self._head(folder)
        if head is None:
            return None
        return float(head["Metadata"].get(CHANGED_AT, head["LastModified"].timestamp()))

    def spark(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> DataFrame:
        """The files as a Spark frame. Hive partitions follow after `base`; `schema` is DDL."""
        if hadoop_opens(session, "s3a"):
            return session.read.option("basePath", f"s3a://{base}").schema(schema).parquet(
                *(f"s3a://{file}" for file in files)
            )  # fmt: skip
        return self.lazy_rows(session, base, files, schema).to_spark()

    def lazy_rows(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> LazyArrowRows:
        """The files as rows that Python reads in Spark's tasks."""
        sizes = {path: about["size"] for path, about in self.filesystem.find(base, detail=True).items()}
        return read_parquet(session, {file: sizes.get(file, 0) for file in files}, base, schema, self.filesystem)

    def write(self, folder: str, data: pa.Table, sources: Mapping[str, str]) -> Manifest:
        """Replace a partition by a table."""
        with tempfile.TemporaryDirectory() as local:
            path = Path(local) / "new.parquet"
            _write_parquet(data, path)
            return self._replace(folder, [_upload(self.filesystem, self.path(folder), _token(), path, 0)], sources)

    def write_spark(self, folder: str, frame: DataFrame | LazyArrowRows, sources: Mapping[str, str]) -> Manifest:
        """Replace a partition by the result of a Spark job; its tasks upload the files."""
        rows = frame if isinstance(frame, LazyArrowRows) else LazyArrowRows.from_frame(frame)
        put = functools.partial(_upload, self.filesystem, self.path(folder), _token())
        return self._replace(folder, write_parquet(rows, put), sources)

    def _replace(self, folder: str, parts: Sequence[Part], sources: Mapping[str, str]) -> Manifest:
        manifest = Manifest.from_parts(parts, sources)
        while True:
            head, old = self._head(folder), next(self.manifests([folder]))
            if old is not None and replace(old, files=manifest.files) == manifest and self._is_intact(folder, old):
                if old.files != manifest.files:  # else this process put it, and the response was lost
                    self._remove(folder, manifest.files)
                return old
            condition = {"IfMatch": head["ETag"]} if head else {"IfNoneMatch": "*"}
            metadata = {CHANGED_AT: repr(time.time())}
            if head and old is not None and replace(old, files=manifest.files) == manifest:
                metadata = head["Metadata"]  # restored content: downstream partitions stay fresh
            try:
                self.filesystem.pipe_file(
                    self.path(folder, MANIFEST), manifest.text.encode(), Metadata=metadata, **condition
                )
            except OSError:
                if self._etag(folder) == (head["ETag"] if head else None):
                    raise
                continue  # another process replaced or deleted it: read it again
            if old is not None:
                self._remove(folder, set(old.files) - set(manifest.files))
            return manifest

    def _is_intact(self, folder: str, manifest: Manifest) -> bool:
        sizes = self.sizes(folder)
        return sum(sizes.get(self.path(folder, name), 0) for name in manifest.files) == manifest.bytes

    def delete(self, folder: str) -> Manifest | None:
        """Delete a partition and return its manifest; None if it does not exist.

        The manifest is deleted first, then the files: a reader sees the whole partition or none. `sweep_deleted`
        removes the files that a killed process left.
        """
        manifest = next(self.manifests([folder]))
        if manifest is None:
            return None
        self._remove(folder, [MANIFEST])
        self._remove(folder, manifest.files)
        return manifest

    def sweep_deleted(self) -> None:
        """Remove what killed processes left: old files that no manifest names."""
        found = self.filesystem.find(self.path(), detail=True)
        folders = {path.rpartition("/")[0] for path in found}
        names = [folder.removeprefix(self.path()).strip("/") for folder in folders]
        named = set()
        for folder, manifest in zip(folders, self.manifests(names), strict=True):
            named |= {f"{folder}/{name}" for name in manifest.files} if manifest else set()
        before = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=STAGING_HOURS)
        strays = [
            path for path, about in found.items()
            if path.endswith(".parquet") and path not in named and about["LastModified"] < before
        ]  # fmt: skip
        if strays:
            self.filesystem.rm(strays)

    def _head(self, folder: str) -> dict[str, Any] | None:
        bucket, _, key = self.path(folder, MANIFEST).partition("/")
        try:
            found: dict[str, Any] = self.filesystem.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return found

    def _etag(self, folder: str) -> str | None:
        head = self._head(folder)
        return None if head is None else str(head["ETag"])

    def _remove(self, folder: str, names: Sequence[str] | set[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self.filesystem.rm_file(self.path(folder, name))


Storage = Disk | ObjectStore


def open_storage(root: Path | UPath) -> Storage:
    """The storage of a lake at a local path or an `s3://` path."""
    return Disk(root) if isinstance(root, Path) else ObjectStore(root)


def _stage(staging: Path, path: Path, number: int) -> Part:
    """Rename a file in the staging folder to its final name."""
    part = _part(path, str(number))
    os.replace(path, staging / part.name)
    return part


def _upload(filesystem: AbstractFileSystem, folder: str, token: str, path: Path, number: int) -> Part:
    """Upload a file under a unique name: `token` identifies the write, `number` the file in it."""
    part = _part(path, f"{token}-{number}")
    filesystem.put_file(str(path), f"{folder}/{part.name}")
    return part


def _part(path: Path, suffix: str) -> Part:
    digest = content_hash(path)
    rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
    return Part(f"{digest[:12]}-{suffix}.parquet", digest, rows, size, _crc(path))


def _crc(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def content_hash(path: Path) -> str:
    """SHA-256 of a Parquet file's pages and schema.

    The footer is excluded: Java lists each column's encodings in a different order in every process, so recomputing a
    partition from the same inputs would look like a change.
    """
    metadata, digest = pq.read_metadata(path), hashlib.sha256()
    left = path.stat().st_size - metadata.serialized_size - _TRAILER_BYTES
    with path.open("rb") as file:
        while left > 0:
            piece = file.read(min(left, _CHUNK_BYTES))
            digest.update(piece)
            left -= len(piece)
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    digest.update(f"{metadata.schema.to_arrow_schema().remove_metadata()} {groups}".encode())
    return digest.hexdigest()


def _write_parquet(data: pa.Table, path: Path) -> None:
    pq.write_table(data.replace_schema_metadata(None), path, compression="zstd")


def _token() -> str:
    return uuid.uuid4().hex[:12]


def sweep_staging(disk: Path) -> None:
    """Remove old files that killed writers and Spark left in a disk's staging folder."""
    for left in (disk / STAGING).glob("*"):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - left.stat().st_mtime > STAGING_HOURS * 3600:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """A temporary folder on the lake's disk for files that are not visible yet."""
    path = root / STAGING / uuid.uuid4().hex
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one writer at a time replace files, so that a partition's files match its manifest."""
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
