"""A lake in Unity Catalog behaves as one in a folder. Spark with Delta is a double: see delta_double.py."""

import datetime as dt
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from rec_assets.assets.line_cleaning import clean_days
from rec_assets.assets.purchase_files import read_days
from rec_assets.automation.land_and_forget import land_and_forget
from rec_assets.recsys.data.cleaning import CLEANED_SCHEMA, clean_day
from rec_assets.recsys.data.cleaning_rules import CleaningSettings
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.retrieval.similar import SIMILAR_COLUMNS
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.lake import MissingPartition, open_lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.resources.unity_catalog import CatalogLake, CatalogUnusable
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.settings import Settings
from rec_assets.sources.reader import read_day
from rec_assets_tests.databricks.delta_double import DeltaDouble
from rec_assets_tests.serving import shop
from rec_assets_tests.sources import reading

pytestmark = pytest.mark.slow

DAY = dt.date(2017, 12, 3)
NEXT = DAY + dt.timedelta(days=1)


@pytest.fixture
def double(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeltaDouble:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "double")
    return DeltaDouble(tmp_path, monkeypatch)


@pytest.fixture
def lake(double: DeltaDouble) -> CatalogLake:
    found = open_lake(Settings(lake="uc://main.shop").lake)
    assert isinstance(found, CatalogLake) and str(found.root) == "uc://main.shop"
    return found


def test_days_are_written_replaced_and_read(lake: CatalogLake, spark: SparkSession) -> None:
    staged = {day: lake.stage("sales", pd.DataFrame({"n": [1, 2], "v": [[0.5], None]}), day) for day in (DAY, NEXT)}
    written = lake.commit("sales", staged)
    lake.write("sales", pd.DataFrame({"n": [9], "v": [[1.0]]}), NEXT)
    table = lake.table("sales")
    assert lake.tables() == ["sales"] and table.days == [DAY, NEXT]
    assert table.partitions[DAY] == written[DAY], "the other day stays as it is"
    assert table.read([DAY, NEXT]).sort_by("n").to_pylist() == [
        {"n": 1, "v": [0.5], "date": DAY}, {"n": 2, "v": None, "date": DAY}, {"n": 9, "v": [1.0], "date": NEXT},
    ]  # fmt: skip
    assert table.pandas([DAY], columns=["n"], where=ds.field("n") > 1).to_dict("list") == {"n": [2]}
    assert (table.rows([DAY, NEXT]), table.head(NEXT, rows=5).to_pydict()) == (3, {"n": [9], "v": [[1.0]]})
    assert table.lazy_rows(spark, [DAY]).to_spark().count() == 2
    (name, *_) = table.read([DAY]).column_names
    assert [value for batch in table.batches([DAY], [name]) for value in batch[name]] == [*table.read([DAY])[name]]
    with pytest.raises(MissingPartition, match=r"sales: day 2000-01-01 is not in the lake \(uc://main.shop\)"):
        table.read([dt.date(2000, 1, 1)])


@pytest.mark.parametrize("complements", [1, 0])
def test_a_partition_has_parts_of_spark_and_of_pandas_of_which_one_may_be_empty(
    lake: CatalogLake, spark: SparkSession, complements: int
) -> None:
    types = "product_id string, kind string, rank int, similar_product_id string, score double, reason string"
    substitutes = spark.createDataFrame([("a", "substitute", 1, "b", 0.5, "")], types)
    found = pd.DataFrame([("a", "complement", 1, "c", 0.25, "")], columns=SIMILAR_COLUMNS).head(complements)
    lake.write("similar_products", [LazyArrowRows.from_frame(substitutes), found], DAY)
    kinds = lake.table("similar_products").pandas([DAY])["kind"]
    assert sorted(kinds) == ["complement", "substitute"][1 - complements :]


def test_the_same_rows_are_no_commit(lake: CatalogLake) -> None:
    rows = pd.DataFrame({"n": [1, 1, 2]})
    first, version = lake.write("sales", rows, DAY), lake.table("sales").version
    assert lake.write("sales", rows.iloc[::-1], DAY) == first
    assert lake.table("sales").version == version
    assert lake.write("sales", pd.DataFrame({"n": [1, 2, 2]}), DAY).fingerprint != first.fingerprint


def test_a_day_without_rows_exists(lake: CatalogLake) -> None:
    nothing = pd.DataFrame({"n": pd.Series(dtype="int64")})
    assert lake.write("sales", nothing, DAY).rows == 0
    version = lake.table("sales").version
    lake.write("sales", nothing, DAY)
    assert lake.table("sales").version == version
    assert lake.table("sales").pandas([DAY]).empty and lake.table("sales").days == [DAY]
    assert lake.write("sales", pd.DataFrame({"n": [1]}), DAY).rows == 1
    assert lake.write("sales", nothing, DAY).rows == 0
    lake.delete("sales", [DAY])
    assert lake.table("sales").days == []
    lake.write("products", pd.DataFrame({"product_id": pd.Series(dtype=str)}))
    assert lake.table("products").read().num_rows == 0


def test_a_table_without_days_and_the_results_of_spark(lake: CatalogLake, spark: SparkSession) -> None:
    for count in (5, 3):
        lake.write("products", spark.range(count).selectExpr("cast(id as string) as product_id"))
    table = lake.table("products")
    assert sorted(table.pandas()["product_id"]) == ["0", "1", "2"]
    assert lake.write("sales", spark.range(4).toDF("n"), DAY).rows == 4


def test_days_that_tasks_read_and_clean(lake: CatalogLake, spark: SparkSession, tmp_path: Path) -> None:
    source, disk = reading.shop(tmp_path), tmp_path / "disk"
    days = [dt.date(2017, 1, 1), dt.date(2017, 1, 2)]
    rows = [f"2017-01-01 10:{number:02},ann,A{number},r{number},{number - 1},1" for number in range(9)]
    reading.write(tmp_path, reading.log(*rows))
    reading.write(tmp_path, reading.HEADER + "\n", "2017-01-02.csv")
    files = lake.day_files("raw_purchase_logs", RAW_SCHEMA, disk)
    read = read_days(spark, source, days, files, ForgottenFile())
    staged = {day: lake.stage_files("raw_purchase_logs", files, day, read.written[day]) for day in days}
    lake.commit("raw_purchase_logs", staged)
    table = lake.table("raw_purchase_logs")
    assert table.days == days and table.rows(days) == 9
    assert not [*disk.iterdir()]

    rejected_schema = RAW_SCHEMA.append(pa.field("reasons", pa.string()))
    schemas = {"cleaned_interactions": CLEANED_SCHEMA, "rejected_purchases": rejected_schema}
    places = {name: lake.day_files(name, schema, disk) for name, schema in schemas.items()}
    settings = CleaningSettings(source.time_zone, source.has_price)
    by_table = clean_days(table.lazy_rows(spark, days, whole_days=True), settings, places)
    for name, by_day in by_table.items():
        lake.commit(name, {day: lake.stage_files(name, places[name], day, by_day[day]) for day in days})
    expected = clean_day(read_day(source, days[0]).to_pandas(), days[0], settings)
    cleaned, rejected = (lake.table(name).pandas(days).drop(columns="date") for name in schemas)
    assert cleaned["line_id"].to_list() == expected.cleaned["line_id"].to_list()
    assert rejected["reasons"].to_list() == expected.rejected["reasons"].to_list() == ["invalid_quantity"] * 2


def test_earlier_versions_can_be_read(lake: CatalogLake, double: DeltaDouble) -> None:
    for number in (1, 2):
        lake.write("sales", pd.DataFrame({"n": [number]}), DAY)
    assert lake.at({"sales": 1}).table("sales").pandas([DAY])["n"].tolist() == [1]
    with pytest.raises(MissingPartition, match=r"sales: version 99 is no longer in uc://main\.shop"):
        lake.at({"sales": 99}).table("sales")
    assert lake.vacuum("sales") == []
    assert double.statements[-1] == "VACUUM `main`.`shop`.`sales` RETAIN 168 HOURS"
    double.hours_older[1] = 200
    lake.vacuum("sales", [1])
    assert double.statements[-1] == "VACUUM `main`.`shop`.`sales` RETAIN 201 HOURS"
    statements = len(double.statements)
    assert lake.vacuum("sales", hours=0, full=False) == [] and len(double.statements) == statements
    lake.vacuum("sales", [1], hours=0)
    assert double.statements[-1] == "VACUUM `main`.`shop`.`sales` RETAIN 0 HOURS"


def test_no_version_holds_a_forgotten_customer(lake: CatalogLake, double: DeltaDouble, tmp_path: Path) -> None:
    for day in (DAY, NEXT):
        lake.write("raw_purchase_logs", pd.DataFrame({"customer_id": ["ann", "bob"], "line": ["a", "b"]}), day)
    trained = pd.DataFrame({"kind": ["customer", "product"], "id": ["ann", "p00"]})
    lake.write("als_model", trained, DAY)
    table = lake.table("als_model")
    tags = {"table_versions": table.version, "model_fingerprints": table.partitions[DAY].fingerprint}
    release = Release(
        version=1, as_of=DAY, als_as_of=DAY, graph_as_of=DAY, ranker_as_of=DAY, content="", decision="promoted",
        rolled_back=False, run_id="", tags={name: json.dumps({"als_model": value}) for name, value in tags.items()},
    )  # fmt: skip
    settings, set_tags = Settings(home=tmp_path / "home", lake="uc://main.shop"), dict[str, str]()
    shop.publish(settings.serving, shop.index())
    online = OnlineState(settings.online_url)
    online.create()
    online.forget("ann", dt.datetime.now(dt.timezone.utc))
    online.close()
    logged: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Releases, "versions", lambda _: [release])
        patch.setattr(Releases, "set_tags", lambda _, version, tags: set_tags.update(tags))
        patch.setattr(Releases, "download_index", lambda _, release, folder: shop.index().save(folder))
        land_and_forget(settings, "UTC", logged.append)
    assert "raw_purchase_logs: 2 rows of 2 days removed; 2 files of versions before 3 deleted" in logged, logged
    for file in double.folder.rglob("*.parquet"):
        assert b"ann" not in b"".join(str(row).encode() for row in pq.read_table(file, partitioning=None).to_pylist())
    released = lake.at(json.loads(set_tags["table_versions"])).table("als_model")
    assert released.pandas([DAY])["id"].to_list() == ["p00"]
    assert released.partitions[DAY].fingerprint == json.loads(set_tags["model_fingerprints"])["als_model"]
    with pytest.raises(MissingPartition, match=r"als_model: version 1 is no longer in uc://main\.shop"):
        lake.at({"als_model": 1}).table("als_model")


def test_columns_have_their_types_and_descriptions(lake: CatalogLake, double: DeltaDouble) -> None:
    lake.write("products", pd.DataFrame({"product_id": ["a"], "brand": [None]}))
    schema = json.loads(double.open("`main`.`shop`.`products`").schema().to_json())
    assert [(field["name"], field["type"], field["metadata"]) for field in schema["fields"]] == [
        ("product_id", "string", {"comment": "Id of the product."}),
        ("brand", "string", {"comment": "Brand of the product."}),
    ]  # fmt: skip


def test_without_delta_there_is_one_line(spark: SparkSession) -> None:
    with pytest.raises(CatalogUnusable, match=r"REC_LAKE=uc://main\.shop needs a Spark with Delta .* on Databricks"):
        open_lake(Settings(lake="uc://main.shop").lake).table("sales")
