"""How a partition is kept: on a disk, or in an S3-compatible object store. What differs between the two stands here.

Both follow one protocol. Files come first, under names of their own; then the manifest that names them is replaced in
one step; then the old files go. Which step is safe by what, if others write the same partition:

- On a disk, files are written into a staging folder and moved; a lock lets one writer at a time swap.
- In an object store nothing can be moved or locked. Files are uploaded under names that no other write uses, and the
  manifest is put on the condition that it is still the one that was looked at (If-Match, If-None-Match). Only who
  replaced a manifest deletes the files that it named, so nobody deletes what another one's manifest names.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from pyspark.sql import DataFrame, SparkSession
    from upath import UPath

    from rec_assets.recsys.spark.arrow_rows import LazyArrowRows

MANIFEST = "_manifest.json"
STAGING = ".staging"
STAGING_HOURS = 6
DELETED = ".deleted"
DAMAGED = ".damaged"
"""Ending of the empty file beside one whose checksum a reader found wrong."""
CHANGED_AT = "changed-at"

_FOOTER_END = 8
"""Bytes of a Parquet file after its footer: the footer's size, and `PAR1`."""
_AT_ONCE = 2**20
"""Bytes of a file that are hashed at a time."""


@dataclass(frozen=True)
class Manifest:
    """What a partition is.

    Attributes:
        files: File names, in order.
        rows: Rows in all of them.
        bytes: Their size.
        fingerprint: SHA-256 over the files' pages and schemas; equal for equal content.
        sources: Of what landed: each file it was read from, and the SHA-256 of that.
        checksums: CRC-32 of each file, whole; none in manifests of earlier versions. Equal content may have others, as
            Java's footers differ.
    """

    files: list[str]
    rows: int
    bytes: int
    fingerprint: str
    sources: dict[str, str] = field(default_factory=dict)
    checksums: list[int] = field(default_factory=list, compare=False)

    @classmethod
    def parse(cls, text: str) -> Manifest | None:
        """A manifest from its file; None where the file is damaged."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    @property
    def text(self) -> str:
        """What stands in its file."""
        return json.dumps(asdict(self), indent=1)


class Part(NamedTuple):
    """A Parquet file that was written and is not part of anything yet.

    Attributes:
        name: Its name in the partition.
        digest: `content_hash` of it.
        rows, bytes: Its size.
        checksum: CRC-32 of all its bytes.
    """

    name: str
    digest: str
    rows: int
    bytes: int
    checksum: int


Describe = Callable[[Sequence[Part]], Manifest]
"""Makes the manifest of a partition that has these parts."""


class Disk:
    """Partitions as folders under `root`."""

    filesystem = None  # what Arrow takes for the local one

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, *names: str) -> str:
        """Where something lies, as Arrow wants it."""
        return self.root.joinpath(*names).as_posix()

    def partitions(self, table: str) -> list[str]:
        """Names of a table's folders that are partitions."""
        folder = self.root / table
        return [path.parent.name for path in folder.glob("*/" + MANIFEST)] if folder.is_dir() else []

    def sizes(self, table: str) -> dict[str, int]:
        """Bytes of every file of a table, by its path."""
        found = {}
        for path in (self.root / table).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # replaced meanwhile
                found[path.as_posix()] = path.stat().st_size
        return found

    def damaged_file(self, folder: str, manifest: Manifest) -> str:
        """The first file of a partition whose checksum is wrong, "" where none's is.

        Raises:
            FileNotFoundError: a file isn't there (any more).
        """
        checked = zip(manifest.files, manifest.checksums, strict=False)
        return next((name for name, checksum in checked if _crc(self.root / folder / name) != checksum), "")

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nobody swaps files meanwhile, unless this is a lake that we may only read."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(_locked(self.root))
            yield

    def mark(self, folder: str, name: str) -> None:
        """Leave word for the next plan that a file is damaged."""
        with contextlib.suppress(OSError):  # a lake that we may only read
            (self.root / folder / (name + DAMAGED)).touch()

    def manifests(self, folders: Sequence[str]) -> Iterator[Manifest | None]:
        """The manifest of each folder; None where it is no partition, or its manifest is damaged."""
        for folder in folders:
            try:
                yield Manifest.parse((self.root / folder / MANIFEST).read_text(errors="replace"))
            except FileNotFoundError:
                yield None

    def changed_at(self, folder: str) -> float | None:
        """When a partition's content last changed (seconds since the epoch); None where it isn't there."""
        try:
            return (self.root / folder / MANIFEST).stat().st_mtime
        except FileNotFoundError:
            return None

    def spark(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> DataFrame:
        """The files in Spark; `base` is what their hive partitions begin after, `schema` is DDL."""
        return session.read.option("basePath", base).schema(schema).parquet(*map(_literally, files))

    def task_rows(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> LazyArrowRows:
        """The same as rows that Python reads in Spark's tasks."""
        from rec_assets.resources.spark_files import read_parquet

        sizes = {file: os.path.getsize(file) for file in files}
        return read_parquet(session, sizes, base, schema, self.filesystem)

    def write(self, folder: str, data: pa.Table, describe: Describe) -> Manifest:
        """Replace a partition by a table."""
        with staging_folder(self.root) as staging:
            _write_parquet(data, staging / "new.parquet")
            return self._replace(folder, staging, [_stage(staging, staging / "new.parquet", 0)], describe)

    def write_spark(self, folder: str, frame: DataFrame | LazyArrowRows, describe: Describe) -> Manifest:
        """Replace a partition by what Spark computes; its tasks write the files."""
        from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
        from rec_assets.resources.spark_files import write_parquet

        with staging_folder(self.root) as staging:
            if isinstance(frame, LazyArrowRows):
                parts = write_parquet(frame, functools.partial(_stage, staging), within=staging)
            else:
                frame.write.option("compression", "zstd").parquet((staging / "out").as_posix())
                written = sorted((staging / "out").glob("part-*.parquet"))
                parts = [_stage(staging, path, number) for number, path in enumerate(written)]
            return self._replace(folder, staging, parts, describe)

    def _replace(self, folder: str, staging: Path, parts: Sequence[Part], describe: Describe) -> Manifest:
        manifest = describe(parts)
        place = self.root / folder
        place.mkdir(parents=True, exist_ok=True)
        with _locked(self.root):
            old = next(self.manifests([folder]))
            if old is None or old != manifest or not self._is_whole(folder, old):
                for name in manifest.files:
                    os.replace(staging / name, place / name)
                (staging / MANIFEST).write_text(manifest.text)
                if old == manifest:  # damaged files come back as they were: nothing made from them is stale
                    shutil.copystat(place / MANIFEST, staging / MANIFEST)
                os.replace(staging / MANIFEST, place / MANIFEST)
            for stray in (*place.glob("*.parquet"), *place.glob("*" + DAMAGED)):
                if stray.name not in manifest.files:
                    stray.unlink(missing_ok=True)
        return manifest

    def _is_whole(self, folder: str, manifest: Manifest) -> bool:
        try:
            size = sum((self.root / folder / name).stat().st_size for name in manifest.files)
            return size == manifest.bytes and not self.damaged_file(folder, manifest)
        except FileNotFoundError:
            return False

    def delete(self, folder: str) -> Manifest | None:
        """Take a partition away; returns what it was, None where it wasn't there.

        The whole folder moves out of the table in one step, and only then go the files: a reader sees the partition or
        none, a writer of the same one fails rather than leave half of it, and what a kill leaves behind is out of
        everybody's sight until `sweep_deleted`.
        """
        manifest = next(self.manifests([folder]))
        if manifest is None:
            return None
        bin_ = self.root / DELETED / uuid.uuid4().hex
        bin_.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self.root / folder, bin_)
        except FileNotFoundError:  # another one was quicker
            return None
        shutil.rmtree(bin_, ignore_errors=True)
        return manifest

    def sweep_deleted(self) -> None:
        """Remove what killed deleters left; safe at any time."""
        shutil.rmtree(self.root / DELETED, ignore_errors=True)


def _literally(path: str) -> str:
    """A path that Spark, which takes it for a glob, reads as it stands."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)


class ObjectStore:
    """Partitions as objects whose keys begin with `root`, an `s3://` path."""

    def __init__(self, root: UPath) -> None:
        self.root, self.filesystem = root, root.fs

    def path(self, *names: str) -> str:
        """Where something lies, as Arrow and fsspec want it: without the scheme."""
        return self.root.joinpath(*names).path

    def partitions(self, table: str) -> list[str]:
        """Names of a table's folders that are partitions."""
        base = self.path(table) + "/"
        found = (path.removeprefix(base).split("/") for path in self.filesystem.find(base))
        return [parts[0] for parts in found if parts[1:] == [MANIFEST]]

    def sizes(self, table: str) -> dict[str, int]:
        """Bytes of every file of a table, by its path."""
        found = self.filesystem.find(self.path(table) + "/", detail=True)
        return {path: about["size"] for path, about in found.items()}

    def damaged_file(self, folder: str, manifest: Manifest) -> str:
        """Always "": a store checks what it keeps by itself."""
        return ""

    def at_rest(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to wait for, as no file is replaced by another of its name."""
        return contextlib.nullcontext()

    def mark(self, folder: str, name: str) -> None:
        """Nothing to do, as no file is found damaged."""

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
        """When a partition's content last changed (seconds since the epoch); None where it isn't there.

        By its writer's clock: the store's own times are whole seconds, too coarse to tell what was made from what.
        """
        head = self._head(folder)
        if head is None:
            return None
        return float(head["Metadata"].get(CHANGED_AT, head["LastModified"].timestamp()))

    def spark(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> DataFrame:
        """The files in Spark; `base` is what their hive partitions begin after, `schema` is DDL."""
        from rec_assets.resources.spark_files import hadoop_opens

        if hadoop_opens(session, "s3a"):
            return session.read.option("basePath", f"s3a://{base}").schema(schema).parquet(
                *(f"s3a://{file}" for file in files)
            )  # fmt: skip
        return self.task_rows(session, base, files, schema).to_spark()

    def task_rows(self, session: SparkSession, base: str, files: Sequence[str], schema: str) -> LazyArrowRows:
        """The same as rows that Python reads in Spark's tasks."""
        from rec_assets.resources.spark_files import read_parquet

        sizes = {path: about["size"] for path, about in self.filesystem.find(base, detail=True).items()}
        return read_parquet(session, {file: sizes.get(file, 0) for file in files}, base, schema, self.filesystem)

    def write(self, folder: str, data: pa.Table, describe: Describe) -> Manifest:
        """Replace a partition by a table."""
        with tempfile.TemporaryDirectory() as local:
            path = Path(local) / "new.parquet"
            _write_parquet(data, path)
            return self._replace(folder, [_upload(self.filesystem, self.path(folder), _token(), path, 0)], describe)

    def write_spark(self, folder: str, frame: DataFrame | LazyArrowRows, describe: Describe) -> Manifest:
        """Replace a partition by what Spark computes; its tasks upload the files."""
        from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
        from rec_assets.resources.spark_files import write_parquet

        rows = frame if isinstance(frame, LazyArrowRows) else LazyArrowRows.of(frame)
        put = functools.partial(_upload, self.filesystem, self.path(folder), _token())
        return self._replace(folder, write_parquet(rows, put), describe)

    def _replace(self, folder: str, parts: Sequence[Part], describe: Describe) -> Manifest:
        manifest = describe(parts)
        while True:
            head, old = self._head(folder), next(self.manifests([folder]))
            if old is not None and replace(old, files=manifest.files) == manifest and self._is_whole(folder, old):
                if old.files != manifest.files:  # else we put it, and the answer to that was lost
                    self._remove(folder, manifest.files)
                return old
            condition = {"IfMatch": head["ETag"]} if head else {"IfNoneMatch": "*"}
            metadata = {CHANGED_AT: repr(time.time())}
            if head and old is not None and replace(old, files=manifest.files) == manifest:
                metadata = head["Metadata"]  # damaged files come back as they were: nothing made from them is stale
            try:
                self.filesystem.pipe_file(
                    self.path(folder, MANIFEST), manifest.text.encode(), Metadata=metadata, **condition
                )
            except OSError:
                if self._etag(folder) == (head["ETag"] if head else None):
                    raise
                continue  # another one replaced it, or took it away: look again
            if old is not None:
                self._remove(folder, set(old.files) - set(manifest.files))
            return manifest

    def _is_whole(self, folder: str, manifest: Manifest) -> bool:
        sizes = self.sizes(folder)
        return sum(sizes.get(self.path(folder, name), 0) for name in manifest.files) == manifest.bytes

    def delete(self, folder: str) -> Manifest | None:
        """Take a partition away; returns what it was, None where it wasn't there.

        The manifest goes first, in one step, and only then the files: a reader sees the partition or none, and what a
        kill leaves behind is named by nothing until `sweep_deleted`.
        """
        manifest = next(self.manifests([folder]))
        if manifest is None:
            return None
        self._remove(folder, [MANIFEST])
        self._remove(folder, manifest.files)
        return manifest

    def sweep_deleted(self) -> None:
        """Remove what killed writers and deleters left: files that no manifest has named for hours."""
        found = self.filesystem.find(self.path(), detail=True)
        folders = {path.rpartition("/")[0] for path in found}
        named = set()
        for folder, manifest in zip(folders, self.manifests([self._name(each) for each in folders]), strict=True):
            named |= {f"{folder}/{name}" for name in manifest.files} if manifest else set()
        before = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=STAGING_HOURS)
        strays = [
            path for path, about in found.items()
            if path.endswith(".parquet") and path not in named and about["LastModified"] < before
        ]  # fmt: skip
        if strays:
            self.filesystem.rm(strays)

    def _name(self, folder: str) -> str:
        return folder.removeprefix(self.path()).strip("/")

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
    """The storage of a lake: a path's, or an `s3://` one's."""
    return Disk(root) if isinstance(root, Path) else ObjectStore(root)


def _stage(staging: Path, path: Path, number: int) -> Part:
    """Give a file in the staging folder the name that it will have."""
    part = _part(path, str(number))
    os.replace(path, staging / part.name)
    return part


def _upload(filesystem: AbstractFileSystem, folder: str, token: str, path: Path, number: int) -> Part:
    """Upload a file under a name that no other write uses: `token` is the write's, `number` the file's in that."""
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
        while piece := file.read(_AT_ONCE):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def content_hash(path: Path) -> str:
    """SHA-256 of a Parquet file's pages and schema.

    Not of its footer: there Java lists each column's encodings in an order that is another one in every process, so
    that a partition remade from the same inputs would look changed, and all that depends on it stale.
    """
    metadata, digest = pq.read_metadata(path), hashlib.sha256()
    left = path.stat().st_size - metadata.serialized_size - _FOOTER_END
    with path.open("rb") as file:
        while left > 0:
            piece = file.read(min(left, _AT_ONCE))
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
    """Remove what killed writers, and Spark, left in a disk's staging folder: what nobody has touched for hours."""
    for left in (disk / STAGING).glob("*"):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - left.stat().st_mtime > STAGING_HOURS * 3600:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """A folder on the lake's own disk for what isn't visible yet; gone afterward."""
    path = root / STAGING / uuid.uuid4().hex
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One writer at a time swaps files: of two that write one partition, the files of the later manifest must stay."""
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
