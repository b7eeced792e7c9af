"""Files that Spark's tasks write and read, on a disk and in an object store."""

import datetime as dt
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyspark.sql import SparkSession
from upath import UPath

from rec_assets.recsys.spark.arrow_rows import LazyArrowRows, collect
from rec_assets.recsys.spark.customers import map_customers
from rec_assets.resources import spark_files
from rec_assets.resources.lake import Lake

DAY = dt.date(2017, 12, 3)
TYPES = "customer_id string, n int, share float, day date"


@pytest.fixture(scope="module")
def spark(spark: SparkSession) -> SparkSession:
    spark.conf.set("spark.sql.shuffle.partitions", "3")
    return spark


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def in_bucket(spark: SparkSession, bucket: UPath) -> Lake:
    # An earlier test may have started Java without the bucket's variables.
    spark.sparkContext.environment.update({name: os.environ[name] for name in os.environ if name.startswith("AWS_")})
    return Lake(bucket / uuid.uuid4().hex)


def sales(spark: SparkSession, customers: int = 500) -> LazyArrowRows:
    """Ten rows per customer; `share` is unknown in the first."""

    def rows(lines: pd.DataFrame) -> pd.DataFrame:
        found = lines.loc[lines.index.repeat(10)].assign(n=np.tile(range(10), len(lines)), day=DAY, extra="left out")
        return found.assign(share=np.where(found["n"] == 0, np.nan, found["n"] / 7))

    lines = spark.range(customers).selectExpr("concat('c', id) as customer_id")
    return map_customers(lines, rows, TYPES)


def sorted_rows(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=lambda row: (row["customer_id"], row["n"]))


def test_python_and_spark_write_the_same_table(spark: SparkSession, lake: Lake) -> None:
    by_python = lake.write("by_python", sales(spark), DAY)
    by_spark = lake.write("by_spark", sales(spark).to_spark(), DAY)
    assert by_python.rows == by_spark.rows == 5000
    found, expected = lake.table("by_python").read([DAY]), lake.table("by_spark").read([DAY])
    assert found.schema.remove_metadata() == expected.schema.remove_metadata()
    assert sorted_rows(found) == sorted_rows(expected)
    assert found["share"].null_count == 500  # pandas' NaN is null, as in Spark
    again = lake.table("by_python").lazy_rows(spark, [DAY]).to_spark()
    assert sorted(again.collect()) == sorted(lake.table("by_python").spark(spark, [DAY]).collect())


def test_the_rows_of_a_customer_stay_together_without_a_shuffle(spark: SparkSession, lake: Lake) -> None:
    lake.write("sales", sales(spark), DAY)

    def counted(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.groupby("customer_id", as_index=False).agg(n=("n", "count"))

    counts = map_customers(lake.table("sales").lazy_rows(spark, [DAY]), counted, "customer_id string, n int").to_spark()
    assert "Exchange" not in counts._jdf.queryExecution().executedPlan().toString()
    assert {row.n for row in counts.collect()} == {10}
    assert counts.count() == 500


def test_tasks_read_only_the_selected_columns(spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.write("sales", sales(spark), DAY)
    rows = lake.table("sales").lazy_rows(spark, [DAY]).select("share", "n")
    asked, dataset = list[list[str]](), spark_files.dataset

    class Recorded:
        def __init__(self, *arguments: Any) -> None:
            self.dataset = dataset(*arguments)

        def to_batches(self, columns: list[str], **options: Any) -> Iterator[pa.RecordBatch]:
            asked.append(columns)
            yield from self.dataset.to_batches(columns, **options)

    monkeypatch.setattr(spark_files, "dataset", Recorded)
    tables = [*rows.select("n").function(iter([pa.table({"number": [0, 1, 2]})]))]
    assert asked == [["n"]] * 3
    assert pa.concat_tables(tables).schema.names == rows.select("n").schema.names == ["n"]
    assert sum(map(len, tables)) == rows.to_spark().count() == 5000
    assert rows.to_spark().columns == ["share", "n"]


def test_a_file_depends_only_on_its_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The split of the rows does not matter; otherwise downstream partitions would look stale."""
    monkeypatch.setattr(spark_files, "GROUP_ROWS", 50_000)
    rows = pa.table({"n": pa.array(range(103_000)), "text": [f"{n % 70_000:0>20}" for n in range(103_000)]})
    digests = set()
    for cut in (999, 10_000, 64_000, 103_000):
        pieces = [rows.slice(first, cut) for first in range(0, len(rows), cut)]
        file = spark_files.store(pieces, rows.schema, 0, str(tmp_path), LocalFileSystem())
        assert file.rows == 103_000 and file.is_content_of(str(tmp_path / file.path))
        written = pq.ParquetFile(tmp_path / file.path)
        assert [written.metadata.row_group(i).num_rows for i in range(3)] == [50_000, 50_000, 3_000]
        assert written.read() == rows
        digests.add(file.digest)
    assert len(digests) == 1


def test_writing_the_same_rows_changes_nothing(spark: SparkSession, lake: Lake) -> None:
    first, version = lake.write("sales", sales(spark), DAY), lake.table("sales").version
    assert lake.write("sales", sales(spark), DAY) == first
    assert lake.table("sales").version == version
    assert len(list((lake.root / "sales" / f"date={DAY}").iterdir())) == len(first.files)


def test_no_rows_make_an_empty_table(spark: SparkSession, lake: Lake) -> None:
    lake.write("sales", sales(spark, customers=0), DAY)
    assert lake.table("sales").spark(spark, [DAY]).schema.fieldNames() == ["customer_id", "n", "share", "day", "date"]
    assert lake.table("sales").pandas([DAY]).empty


def test_a_failed_task_keeps_the_partition(spark: SparkSession, lake: Lake) -> None:
    kept = lake.write("sales", sales(spark), DAY)

    def broken(rows: pd.DataFrame) -> pd.DataFrame:
        raise ValueError("no such product")

    with pytest.raises(Exception, match="no such product"):
        lake.write("sales", map_customers(sales(spark), broken, TYPES), DAY)
    assert lake.table("sales").partitions[DAY] == kept
    assert lake.table("sales").rows([DAY]) == len(lake.table("sales").read([DAY])) == 5000


def test_rows_collected_through_files_equal_those_collected_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    rows = spark.sql("select id, cast(if(id % 7 = 0, null, id / 3) as float) as share, id % 2 = 0 as even"
                     " from range(0, 20000, 1, 3)").orderBy("share", "id")  # fmt: skip
    pd.testing.assert_frame_equal(collect(rows, tmp_path), rows.toPandas())
    assert collect(rows.where("id < 0"), tmp_path).columns.tolist() == ["id", "share", "even"]
    assert not list(tmp_path.iterdir())


# ---- in an object store ----


@pytest.mark.slow
def test_spark_writes_and_reads_back_every_type(spark: SparkSession, in_bucket: Lake, lake: Lake) -> None:
    rows = spark.sql(
        "select id, cast(id as int) as small, concat('é', id) as text, id / 7 as share, cast(id as float) as half,"
        " date'2017-12-03' as day, timestamp'2017-12-03 10:11:12.345678' as at, id % 2 = 0 as even,"
        " array(cast(id as float), 0.5f) as vector, cast('x' as binary) as bytes, cast(null as string) as nothing"
        " from range(0, 1000, 1, 3)"
    )
    written = in_bucket.write("sales", rows, DAY)
    assert (written.rows, len(written.files)) == (1000, 3)
    assert written.fingerprint == lake.write("sales", rows, DAY).fingerprint
    table, on_disk = in_bucket.table("sales"), lake.table("sales")
    assert table.read([DAY]).equals(on_disk.read([DAY]))
    back, expected = table.spark(spark, [DAY]), on_disk.spark(spark, [DAY])
    assert back.schema == expected.schema == rows.selectExpr("*", "date'2017-12-03' as date").schema.toNullable()
    assert sorted(back.collect()) == sorted(expected.collect())
    assert in_bucket.write("sales", rows, DAY) == written


@pytest.mark.slow
def test_spark_reads_many_days_and_an_unpartitioned_table(spark: SparkSession, in_bucket: Lake) -> None:
    days = [DAY - dt.timedelta(days=age) for age in range(30)]
    staged = {day: in_bucket.stage("sales", pd.DataFrame({"n": [age] * 10}), day) for age, day in enumerate(days)}
    in_bucket.commit("sales", staged)
    in_bucket.write("products", pd.DataFrame({"product_id": ["a", "b"]}))
    found = in_bucket.table("sales").spark(spark, days).groupBy("date").sum("n").toPandas()
    assert dict(zip(found["date"], found["sum(n)"], strict=True)) == {day: age * 10 for age, day in enumerate(days)}
    assert sorted(row.product_id for row in in_bucket.table("products").spark(spark).collect()) == ["a", "b"]
