"""The lake's tables: partitions are replaced as a whole, also when readers, other writers and kills interfere."""

import datetime as dt
import itertools
import multiprocessing
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from pydantic import ValidationError
from pyspark.sql import SparkSession
from upath import UPath

from rec_assets.errors import UserError
from rec_assets.resources.lake import DamagedPartition, Lake, MissingPartition
from rec_assets.settings import Settings, parse_lake

DAY = dt.date(2017, 12, 3)
NEXT = DAY + dt.timedelta(days=1)
DISK_AND_SLOW_BUCKET = pytest.mark.parametrize(
    "lake_root", ["disk", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def lake(lake_root: Path | UPath) -> Lake:
    return Lake(lake_root)


def files(lake: Lake, day: dt.date = DAY) -> list[Path | UPath]:
    """The files of a day of `sales`."""
    return [lake.root / "sales" / file.path for file in lake.table("sales").partitions[day].files]


# ---- reading and writing ----


def test_a_written_day_is_read_with_its_date(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"product_id": ["00123", "é😀"], "n": [1, 2]}), DAY)
    found = lake.table("sales").pandas([DAY])
    assert found["product_id"].tolist() == ["00123", "é😀"]
    assert found["date"].tolist() == [DAY, DAY]


def test_rows_of_several_sources_are_one_day(lake: Lake) -> None:
    parts = [pd.DataFrame({"product_id": ["a"]}), pa.table({"product_id": ["b", "c"]})]
    written = lake.write("sales", [*parts], DAY)
    assert (len(written.files), written.rows) == (2, 3)
    assert sorted(lake.table("sales").pandas([DAY])["product_id"]) == ["a", "b", "c"]
    assert lake.write("sales", [*parts], DAY) == written


def test_an_unpartitioned_table_has_no_day(lake: Lake) -> None:
    lake.write("products", pd.DataFrame({"product_id": ["a"]}))
    lake.write("products", pd.DataFrame({"product_id": ["b"]}))
    assert lake.table("products").pandas().to_dict("list") == {"product_id": ["b"]}


def test_a_missing_day_is_named(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    with pytest.raises(MissingPartition, match=r"sales: day 2017-12-04 and 1 more days.*materialize sales first"):
        lake.table("sales").read([DAY, NEXT, dt.date(2017, 12, 5)])
    with pytest.raises(MissingPartition, match="products: the table is not in the lake"):
        lake.table("products").read()


def test_head_returns_the_first_rows(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": range(10)}), DAY)
    lake.write("nothing", pd.DataFrame({"n": pd.Series(dtype=int)}))
    assert lake.table("sales").head(DAY, rows=3).to_pydict() == {"n": [0, 1, 2]}
    assert lake.table("nothing").head(rows=3).to_pydict() == {"n": []}
    with pytest.raises(MissingPartition):
        lake.table("sales").head(NEXT, rows=3)


def test_many_days_are_one_commit(lake: Lake) -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(30)]
    lake.commit("sales", {day: lake.stage("sales", pd.DataFrame({"n": [1]}), day) for day in days})
    before = lake.table("sales")
    changed = {day: lake.stage("sales", pd.DataFrame({"n": [1 + (day == DAY)]}), day) for day in days}
    written = lake.commit("sales", changed)
    after = lake.table("sales")
    assert (before.days, after.version) == (days, (before.version or 0) + 1)
    assert written == after.partitions
    assert {day for day in days if before.partitions[day] != after.partitions[day]} == {DAY}


def test_the_same_content_is_no_commit_and_leaves_no_file(lake: Lake) -> None:
    frame = pd.DataFrame({"n": [1, 2]})
    first, version, there = lake.write("sales", frame, DAY), lake.table("sales").version, lake.sizes("sales")
    assert lake.write("sales", frame, DAY) == first
    assert lake.table("sales").version == version
    assert lake.sizes("sales").keys() == there.keys()
    lake.commit("sales", {DAY: first})  # the files of the partition itself
    assert lake.table("sales").pandas([DAY])["n"].tolist() == [1, 2]


def test_the_fingerprint_depends_on_the_content(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    before = lake.table("sales").fingerprint([DAY])
    lake.write("sales", pd.DataFrame({"n": [2]}), DAY)
    table = lake.table("sales")
    assert table.fingerprint([DAY]) != before
    assert table.fingerprint([DAY, NEXT]) != table.fingerprint([DAY])
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    assert lake.table("sales").fingerprint([DAY]) == before


def test_other_columns_than_before_do_not_affect_earlier_days(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1], "old": ["a"]}), DAY)
    lake.write("sales", pd.DataFrame({"n": [2], "price": [9.5]}), NEXT)
    table = lake.table("sales")
    assert [table.pandas([day]).columns.tolist() for day in (DAY, NEXT)] == [
        ["n", "old", "date"],
        ["n", "price", "date"],
    ]
    both = table.pandas([DAY, NEXT])
    assert both.columns.tolist() == ["n", "price", "date"] and both["price"].isna().tolist() == [True, False]
    for_others = polars.scan_delta(str(lake.root / "sales"), storage_options=lake.storage_options).sort("n").collect()
    assert for_others.select("n", "old", "price").rows() == [(1, "a", None), (2, None, 9.5)]


def test_columns_have_their_declared_types_and_descriptions(lake: Lake) -> None:
    lake.write("products", pd.DataFrame({"product_id": ["a"], "brand": [None], "own": [1]}))
    table = DeltaTable(str(lake.root / "products"), storage_options=lake.storage_options)
    columns = {column.name: (str(column.type), column.metadata) for column in table.schema().fields}
    assert columns["product_id"] == ('PrimitiveType("string")', {"comment": "Id of the product."})
    assert columns["brand"][0] == 'PrimitiveType("string")'
    assert columns["own"] == ('PrimitiveType("long")', {})


# ---- versions ----


def test_earlier_versions_can_be_read_until_they_are_vacuumed(lake: Lake) -> None:
    versions = []
    for number in range(4):
        lake.write("sales", pd.DataFrame({"n": [number]}), DAY)
        versions.append(lake.table("sales").version or 0)
    assert [lake.at({"sales": v}).table("sales").pandas([DAY])["n"].item() for v in versions] == [0, 1, 2, 3]
    assert lake.vacuum("sales") == []  # a reader may still need them
    assert len(lake.vacuum("sales", hours=0, keep=[versions[1]])) == 2
    assert [lake.at({"sales": v}).table("sales").pandas([DAY])["n"].item() for v in versions[1::2]] == [1, 3]
    with pytest.raises(DamagedPartition, match=f"sales of {DAY} is damaged.*is missing"):
        lake.at({"sales": versions[0]}).table("sales").read([DAY])
    with pytest.raises(MissingPartition, match="sales: version 99 is no longer in the lake"):
        lake.at({"sales": 99}).table("sales")


def test_deleted_days_are_gone_in_one_commit(lake: Lake) -> None:
    for day in (DAY, NEXT):
        lake.write("sales", pd.DataFrame({"n": [1]}), day)
    version = lake.table("sales").version or 0
    lake.delete("sales", [DAY, dt.date(2000, 1, 1)])
    assert (lake.table("sales").days, lake.table("sales").version) == ([NEXT], version + 1)
    with pytest.raises(MissingPartition, match="materialize sales first"):
        lake.table("sales").read([DAY])
    lake.delete("nothing", [DAY])
    lake.write("sales", pd.DataFrame({"n": [7]}), DAY)
    assert lake.table("sales").pandas([DAY])["n"].tolist() == [7]


# ---- damage ----


def _delete(path: Path | UPath) -> None:
    path.unlink()


def _truncate(path: Path | UPath) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("harm", "message"), [(_delete, "is missing"), (_truncate, r"has \d+ bytes, not \d+")])
def test_a_damaged_day_is_named_and_repaired_by_writing_it_again(
    lake: Lake, harm: Callable[[Path | UPath], None], message: str
) -> None:
    frame = pd.DataFrame({"n": [1, 2]})
    for day in (DAY, NEXT):
        lake.write("sales", frame, day)
    assert lake.table("sales").damage() == {}
    (path,) = files(lake)
    harm(path)
    table = lake.table("sales")
    assert list(table.damage()) == [DAY]
    assert re.search(f"{path.name} {message}", table.damage()[DAY])
    assert not table.is_intact(DAY) and table.is_intact(NEXT)
    if harm is _delete:
        with pytest.raises(DamagedPartition, match=rf"sales of {DAY}.*{path.name}.*Run `rec-assets bootstrap`"):
            table.read([DAY])
    lake.write("sales", frame, DAY)
    assert lake.table("sales").damage() == {}
    assert lake.table("sales").fingerprint([DAY]) == table.fingerprint([DAY])
    assert lake.table("sales").pandas([DAY])["n"].tolist() == [1, 2]


def test_spark_does_not_read_a_file_with_a_wrong_checksum(tmp_path: Path) -> None:
    lake, no_session = Lake(tmp_path), cast("SparkSession", None)
    for read in ("spark", "lazy_rows"):
        lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
        (path,) = files(lake)
        path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2"))
        with pytest.raises(DamagedPartition, match=f"sales of {DAY} is damaged: {path} is missing or has changed"):
            getattr(lake.table("sales"), read)(no_session, [DAY])


def test_a_flipped_bit_is_found_and_the_file_set_aside_for_the_next_plan(tmp_path: Path) -> None:
    lake, chance = Lake(tmp_path), np.random.default_rng(1)
    frame = pd.DataFrame({"id": [f"p{n}" for n in range(50)], "price": chance.normal(size=50)})
    lake.write("sales", frame, DAY)
    ((path,), table), found = (files(lake), lake.table("sales")), 0
    whole = path.read_bytes()
    for _ in range(300):
        bad = bytearray(whole)
        bad[chance.integers(len(bad))] ^= 1 << chance.integers(8)
        path.write_bytes(bad)
        with pytest.raises(DamagedPartition, match=rf"{DAY} is damaged: {path} is missing or has changed"):
            table.pandas([DAY], where=ds.field("price") > 0)
        found += list(table.damage()) == [DAY]
    assert found == 300
    lake.write("sales", frame, DAY)
    assert lake.table("sales").damage() == {}


# ---- at the same time ----


def _write_forever(root: Path | UPath) -> None:
    lake = Lake(root)
    for number in itertools.count():
        lake.write("sales", pa.table({"n": [number] * 1000, "half": [number] * 1000}), DAY)


@pytest.mark.integration
@DISK_AND_SLOW_BUCKET
def test_a_reader_never_sees_a_partial_partition_while_writers_are_killed(lake: Lake) -> None:
    lake.write("sales", pa.table({"n": [0] * 1000, "half": [0] * 1000}), DAY)
    context, reads = multiprocessing.get_context("spawn"), 0

    def read() -> None:
        table = lake.table("sales").read([DAY])
        assert table.num_rows == 1000
        assert table["n"].unique() == table["half"].unique()
        assert len(table["n"].unique()) == 1

    for pause in (1.2, 1.35, 1.5):
        writer = context.Process(target=_write_forever, args=(lake.root,), daemon=True)
        writer.start()
        until = time.monotonic() + pause
        while time.monotonic() < until:
            read()
            reads += 1
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        read()
    assert reads > 10


ROUNDS = 12


def _replace_days(root: Path | UPath, number: int, together) -> None:  # type: ignore[no-untyped-def]
    """Write one's own day, and a day that all others write at the same moment, each round."""
    lake, own = Lake(root), DAY + dt.timedelta(days=number)
    for round_ in range(ROUNDS):
        rows = pa.table({"n": [100 * number + round_] * 1000})
        shared = DAY - dt.timedelta(days=round_)
        staged = {day: lake.stage("sales", rows, day) for day in (own, shared)}
        together.wait(60)
        lake.commit("sales", staged)


@pytest.mark.integration
@DISK_AND_SLOW_BUCKET
def test_four_writers_of_one_table_lose_nothing(lake: Lake) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(4)
    writers = [context.Process(target=_replace_days, args=(lake.root, number, together)) for number in (1, 2, 3, 4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    table = lake.table("sales")
    assert (table.version or 0) == 4 * ROUNDS
    for number in (1, 2, 3, 4):
        assert table.pandas([DAY + dt.timedelta(days=number)])["n"].unique().tolist() == [100 * number + ROUNDS - 1]
    for round_ in range(ROUNDS):  # created by all four at once
        found = table.pandas([DAY - dt.timedelta(days=round_)])["n"]
        assert len(found) == 1000 and found.nunique() == 1 and found[0] % 100 == round_


def _write_and_delete(root: Path | UPath, stop) -> None:  # type: ignore[no-untyped-def]
    lake = Lake(root)
    for number in itertools.count():
        lake.write("sales", pd.DataFrame({"n": [number] * 1000}), DAY)
        lake.delete("sales", [DAY])
        if number % 5 == 0:
            lake.vacuum("sales", hours=0)
        if stop.is_set():
            return


@pytest.mark.integration
@DISK_AND_SLOW_BUCKET
def test_readers_see_a_whole_day_or_none_during_deletions_and_vacuums(lake: Lake) -> None:
    context = multiprocessing.get_context("spawn")
    stop, seen, until = context.Event(), Counter[str](), time.monotonic() + 60
    process = context.Process(target=_write_and_delete, args=(lake.root, stop))
    process.start()
    try:
        while (seen.total() < 300 or len(seen) < 2) and time.monotonic() < until:
            try:
                rows = lake.table("sales").pandas([DAY])["n"]
                seen["whole" if len(rows) == 1000 and rows.nunique() == 1 else "half"] += 1
            except MissingPartition:
                seen["missing"] += 1
    finally:
        stop.set()
        process.join(30)
    assert seen.keys() == {"whole", "missing"}


def test_a_commit_that_fails_without_another_writer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)

    def fail(*_: object, **__: object) -> None:
        raise CommitFailedError("not allowed")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    with pytest.raises(CommitFailedError, match="not allowed"):  # instead of trying for ever
        lake.write("sales", pd.DataFrame({"n": [2]}), DAY)


def test_files_of_a_killed_writer_are_vacuumed_later(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    kept = set(files(lake))
    lake.stage("sales", pd.DataFrame({"n": [2]}), DAY)
    (lake.root / "sales" / f"date={DAY}" / "0123abcd.tmp").write_bytes(b"half a file")
    assert lake.vacuum("sales") == []  # its writer may still be at work
    lake.vacuum("sales", hours=0)
    assert set((lake.root / "sales" / f"date={DAY}").iterdir()) == kept
    assert lake.table("sales").pandas([DAY])["n"].tolist() == [1]


# ---- the place ----


def test_the_lake_is_in_home_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(home=tmp_path).lake == tmp_path / "lake"
    monkeypatch.setenv("REC_LAKE", "s3://bucket/shop/")
    assert str(Settings(home=tmp_path).lake) == "s3://bucket/shop"


@pytest.mark.parametrize(
    ("place", "variable", "value"),
    [
        ("gs://bucket/lake", "GOOGLE_APPLICATION_CREDENTIALS", "/key.json"),
        ("az://container/lake", "AZURE_STORAGE_ACCOUNT_NAME", "shop"),
        ("s3://bucket/lake", "AWS_ACCESS_KEY_ID", "id"),
    ],
)
def test_a_store_gets_its_uri_and_the_options_of_the_environment(
    place: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no Google or Azure here: this is what delta-rs is given."""
    given = []

    def open_table(*arguments: object) -> None:
        given.extend(arguments)
        raise TableNotFoundError

    monkeypatch.setattr("rec_assets.resources.lake.DeltaTable", open_table)
    monkeypatch.setattr(Lake, "sizes", lambda *_: {})
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "shop")  # adlfs needs it to begin with
    monkeypatch.setattr("gcsfs.core.GCSFileSystem.connect", lambda *_, **__: None, raising=False)
    lake = Lake(parse_lake(place))
    assert lake.table("sales").version is None
    uri, version, options = given
    assert (uri, version, options[variable]) == (f"{place}/sales", None, value)


def test_plain_http_is_allowed_if_the_endpoint_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(parse_lake("s3://bucket/lake"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://objects.shop.example")
    assert "AWS_ALLOW_HTTP" not in lake.storage_options
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    assert lake.storage_options["AWS_ALLOW_HTTP"] == "true"


def test_a_lake_of_the_former_format_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "sales" / f"date={DAY}"
    folder.mkdir(parents=True)
    (folder / "_manifest.json").write_text("{}")
    with pytest.raises(
        UserError, match=f"^{tmp_path} is a lake from before Delta tables: move it away, and run `rec-assets bootstrap`"
    ):
        Lake(tmp_path).table("sales")


@pytest.mark.parametrize("place", ["s3://", "hdfs://host/lake"])
def test_an_unsupported_location_is_rejected(place: str) -> None:
    with pytest.raises(ValidationError, match="must be a folder, s3://bucket/prefix"):
        Settings(lake=place)
