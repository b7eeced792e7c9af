"""The lake in an object store: conditional writes, and Spark tasks that read and write with Arrow."""

import datetime as dt
import json
import multiprocessing
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession
from upath import UPath

from rec_assets.recsys.ranking.in_spark import map_customers
from rec_assets.resources.lake import Lake
from rec_assets.resources.manifest import MANIFEST
from rec_assets.resources.spark_files import hadoop_opens
from rec_assets.resources.storage import ObjectStore
from rec_assets.settings import Settings

DAY = dt.date(2017, 12, 3)


@pytest.fixture
def lake(bucket: UPath) -> Lake:
    return Lake(bucket / uuid.uuid4().hex)


def objects(lake: Lake) -> set[str]:
    """Names of all objects of the day."""
    return {path.rpartition("/")[2] for path in lake.root.fs.find(f"{lake.root.path}/sales/date={DAY}")}


# ---- concurrent writers ----


@pytest.mark.parametrize("before", [None, 0])
def test_the_later_of_two_writers_wins_with_all_its_files(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, before: int | None
) -> None:
    """The other writer puts its manifest between this writer's read and write of the manifest."""
    if before is not None:
        lake.write("sales", pd.DataFrame({"n": [before]}), DAY)
    other, looked, manifests = Lake(lake.root), [], ObjectStore.manifests

    def look(self: ObjectStore, folders: Sequence[str]) -> Iterator[object]:
        found = list(manifests(self, folders))
        if self is lake.storage and not looked:
            looked.append(folders)
            other.write("sales", pd.DataFrame({"n": [1]}), DAY)
        return iter(found)

    monkeypatch.setattr(ObjectStore, "manifests", look)
    lake.write("sales", pd.DataFrame({"n": [2]}), DAY)
    assert looked
    assert lake.pandas("sales", [DAY])["n"].tolist() == [2]
    assert objects(lake) == {MANIFEST, *lake.manifest("sales", DAY).files}


def _write(root: UPath, number: int) -> None:
    lake = Lake(root)
    for round_ in range(15):
        lake.write("sales", pa.table({"n": [number * 100 + round_] * 1000}), DAY)


@pytest.mark.slow
def test_many_concurrent_writers_leave_one_whole_partition(lake: Lake) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(lake.root, number)) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    found = lake.pandas("sales", [DAY])["n"]
    assert len(found) == 1000 and found.nunique() == 1
    assert objects(lake) == {MANIFEST, *lake.manifest("sales", DAY).files}


def test_only_uploads_of_killed_writers_are_removed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    lake.write("products", pd.DataFrame({"n": [1]}))
    before = objects(lake)
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "_replace", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            lake.write("sales", pd.DataFrame({"n": [2]}), DAY)
    assert len(objects(lake)) == len(before) + 1
    lake.storage.sweep_deleted()
    assert len(objects(lake)) == len(before) + 1, "its writer may still be at work"
    monkeypatch.setattr("rec_assets.resources.storage.STAGING_HOURS", -1)
    lake.storage.sweep_deleted()
    assert objects(lake) == before
    assert lake.pandas("products")["n"].tolist() == [1]


def test_the_time_of_a_change_is_more_precise_than_seconds(lake: Lake) -> None:
    first = dt.datetime.now(dt.timezone.utc).timestamp()
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    between = dt.datetime.now(dt.timezone.utc).timestamp()
    assert first < lake.changed_at("sales", DAY) < between
    assert lake.changed_at("sales", DAY - dt.timedelta(days=1)) is None


# ---- Spark ----


@pytest.fixture(scope="module")
def spark(spark: SparkSession, bucket: UPath) -> SparkSession:
    # An earlier test may have started Java without the bucket's variables.
    spark.sparkContext.environment.update({name: os.environ[name] for name in os.environ if name.startswith("AWS_")})
    return spark


@pytest.mark.slow
def test_spark_writes_and_reads_back_every_type(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    rows = spark.sql(
        "select id, cast(id as int) as small, concat('é', id) as text, id / 7 as share, cast(id as float) as half,"
        " date'2017-12-03' as day, timestamp'2017-12-03 10:11:12.345678' as at, id % 2 = 0 as even,"
        " array(cast(id as float), 0.5f) as vector, cast('x' as binary) as bytes, cast(null as string) as nothing"
        " from range(0, 1000, 1, 3)"
    )
    on_disk = Lake(tmp_path / "lake")
    assert on_disk.write_spark("sales", rows, DAY).rows == lake.write_spark("sales", rows, DAY).rows == 1000
    assert len(lake.manifest("sales", DAY).files) == 3
    found, expected = lake.read("sales", [DAY]), on_disk.read("sales", [DAY])
    assert {field.name: field.type for field in found.schema} == {field.name: field.type for field in expected.schema}
    assert found.to_pylist() == expected.to_pylist()
    back = lake.spark(spark, "sales", [DAY])
    assert back.schema == on_disk.spark(spark, "sales", [DAY]).schema
    assert sorted(back.collect()) == sorted(on_disk.spark(spark, "sales", [DAY]).collect())
    assert not hadoop_opens(spark, "s3a")  # otherwise this tests another code path


@pytest.mark.slow
def test_spark_does_not_change_a_partition_with_the_same_content(spark: SparkSession, lake: Lake) -> None:
    rows = spark.sql("select id from range(0, 100, 1, 2)")
    first, changed = lake.write_spark("sales", rows, DAY), lake.changed_at("sales", DAY)
    assert lake.write_spark("sales", rows, DAY) == first
    assert lake.changed_at("sales", DAY) == changed
    assert objects(lake) == {MANIFEST, *first.files}


@pytest.mark.slow
def test_spark_writes_a_partition_without_rows(spark: SparkSession, lake: Lake) -> None:
    lake.write_spark("sales", spark.sql("select id, array('a') as names from range(10) where id > 10"), DAY)
    assert lake.spark(spark, "sales", [DAY]).schema.fieldNames() == ["id", "names", "date"]
    assert lake.pandas("sales", [DAY]).empty


@pytest.mark.slow
def test_lazy_rows_are_written_and_read_by_customer(spark: SparkSession, lake: Lake) -> None:
    lines = spark.range(1000).selectExpr("concat('c', id % 90) as customer_id", "cast(id as int) as n")
    lake.write_spark("sales", map_customers(lines, lambda rows: rows, "customer_id string, n int"), DAY)

    def counted(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.groupby("customer_id", as_index=False).agg(n=("n", "sum"))

    sums = map_customers(lake.lazy_rows(spark, "sales", [DAY]), counted, "customer_id string, n int").to_spark()
    found = {row.customer_id: row.n for row in sums.collect()}
    assert sums.count() == 90
    assert found == {f"c{first}": sum(range(first, 1000, 90)) for first in range(90)}


@pytest.mark.slow
def test_spark_reads_many_days_and_an_unpartitioned_table(spark: SparkSession, lake: Lake) -> None:
    days = [DAY - dt.timedelta(days=age) for age in range(30)]
    for age, day in enumerate(days):
        lake.write("sales", pd.DataFrame({"n": [age] * 10}), day)
    lake.write("products", pd.DataFrame({"product_id": ["a", "b"]}))
    found = lake.spark(spark, "sales", days).groupBy("date").sum("n").toPandas()
    assert dict(zip(found["date"], found["sum(n)"], strict=True)) == {day: age * 10 for age, day in enumerate(days)}
    assert sorted(row.product_id for row in lake.spark(spark, "products").collect()) == ["a", "b"]


@pytest.mark.slow
def test_spark_reads_directly_if_hadoop_has_a_connector(spark: SparkSession, lake: Lake, tmp_path: Path) -> None:
    """Imitates s3a, whose jars are not installed, by a view file system that mounts a folder with the objects."""
    lake.write("sales", pd.DataFrame({"n": range(10)}), DAY)
    lake.root.fs.get(f"{lake.root.path}/", f"{tmp_path}/{lake.root.path.partition('/')[2]}/", recursive=True)
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    hadoop.set("fs.s3a.impl", "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme")
    hadoop.set("fs.viewfs.overload.scheme.target.file.impl", "org.apache.hadoop.fs.LocalFileSystem")
    bucket, _, prefix = lake.root.path.partition("/")
    hadoop.set(f"fs.viewfs.mounttable.{bucket}.link./{prefix}", (tmp_path / prefix).as_uri())
    try:
        assert hadoop_opens(spark, "s3a")
        frame = lake.spark(spark, "sales", [DAY])
        assert [file.startswith("s3a://") for file in frame.inputFiles()] == [True]
        assert sorted(row.n for row in frame.collect()) == list(range(10))
        assert {row.date for row in frame.collect()} == {DAY}
    finally:
        hadoop.unset("fs.s3a.impl")


# ---- the setting ----


@pytest.mark.parametrize("place", ["s3://", "gs://bucket/lake", "hdfs://host/lake"])
def test_an_unsupported_location_is_rejected(place: str) -> None:
    with pytest.raises(ValidationError, match="must be a folder, or s3://bucket/prefix"):
        Settings(lake=place)


def test_the_lake_is_in_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(home=tmp_path).lake == tmp_path / "lake"
    monkeypatch.setenv("REC_LAKE", "s3://bucket/shop/")
    assert str(Settings(home=tmp_path).lake) == "s3://bucket/shop"


def test_the_manifest_is_the_same_as_on_a_disk(lake: Lake, tmp_path: Path) -> None:
    frame, sources = pd.DataFrame({"n": [1]}), {"sales.csv": "0f"}
    lake.write("sales", frame, DAY, sources)
    Lake(tmp_path).write("sales", frame, DAY, sources)
    found, expected = (
        json.loads((root / "sales" / f"date={DAY}" / MANIFEST).read_text()) for root in (lake.root, tmp_path)
    )
    assert found.pop("files") != expected.pop("files")
    assert found == expected
