"""Partitions are replaced atomically, also when readers and killed writers are concurrent."""

import datetime as dt
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from upath import UPath

from rec_assets.resources.lake import DamagedPartition, Lake, MissingPartition
from rec_assets.resources.manifest import MANIFEST
from rec_assets.resources.storage import STAGING, STAGING_HOURS, Disk, _crc, _locked, sweep_staging

DAY = dt.date(2017, 12, 3)


@pytest.fixture
def lake(lake_root: Path | UPath) -> Lake:
    return Lake(lake_root)


def test_a_written_day_is_read_with_its_date(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"product_id": ["00123", "é😀"], "n": [1, 2]}), DAY)
    found = lake.pandas("sales", [DAY])
    assert found["product_id"].tolist() == ["00123", "é😀"]
    assert found["date"].tolist() == [DAY, DAY]


def test_an_unpartitioned_table_has_no_day(lake: Lake) -> None:
    lake.write("products", pd.DataFrame({"product_id": ["a"]}))
    assert lake.pandas("products").columns.tolist() == ["product_id"]


def test_a_missing_day_is_named(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    with pytest.raises(MissingPartition, match=r"sales: day 2017-12-04 and 1 more days.*materialize sales first"):
        lake.read("sales", [DAY, dt.date(2017, 12, 4), dt.date(2017, 12, 5)])


def test_replacing_leaves_only_the_new_files(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1, 2, 3]}), DAY)
    lake.write("sales", pd.DataFrame({"n": [9]}), DAY)
    folder = lake.root / "sales" / f"date={DAY}"
    assert lake.pandas("sales", [DAY])["n"].tolist() == [9]
    assert sorted(path.name for path in folder.iterdir()) == sorted([MANIFEST, *lake.manifest("sales", DAY).files])


def test_writing_the_same_content_changes_nothing(lake: Lake) -> None:
    frame = pd.DataFrame({"n": [1, 2]})
    first, changed = lake.write("sales", frame, DAY), lake.changed_at("sales", DAY)
    time.sleep(0.02)
    assert lake.write("sales", frame, DAY) == first
    assert lake.changed_at("sales", DAY) == changed


def test_the_fingerprint_depends_on_the_content(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    before = lake.fingerprint("sales", [DAY])
    lake.write("sales", pd.DataFrame({"n": [2]}), DAY)
    assert lake.fingerprint("sales", [DAY]) != before
    assert lake.fingerprint("sales", [DAY, DAY - dt.timedelta(days=1)]) != lake.fingerprint("sales", [DAY])


def test_a_partition_with_a_deleted_file_is_written_again(lake: Lake) -> None:
    manifest = lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    (lake.root / "sales" / f"date={DAY}" / manifest.files[0]).unlink()
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    assert lake.pandas("sales", [DAY])["n"].tolist() == [1]


def test_files_outside_the_manifest_are_not_read(lake: Lake) -> None:
    manifest = lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    folder = lake.root / "sales" / f"date={DAY}"
    (folder / "stray-0.parquet").write_bytes((folder / manifest.files[0]).read_bytes())
    assert lake.pandas("sales", [DAY])["n"].tolist() == [1]


def _write_forever(root: Path | UPath) -> None:
    lake, n = Lake(root), 0
    while True:
        n += 1
        lake.write("sales", pa.table({"n": [n] * 1000, "half": [n] * 1000}), DAY)


@pytest.mark.integration
def test_a_reader_never_sees_a_partial_partition_while_writers_are_killed(lake: Lake) -> None:
    lake.write("sales", pa.table({"n": [0] * 1000, "half": [0] * 1000}), DAY)
    context = multiprocessing.get_context("spawn")
    reads = 0
    for pause in (1.2, 1.35, 1.5):
        writer = context.Process(target=_write_forever, args=(lake.root,), daemon=True)
        writer.start()
        until = time.monotonic() + pause
        while time.monotonic() < until:
            table = lake.read("sales", [DAY])
            assert table.num_rows == 1000
            assert table["n"].unique() == table["half"].unique()
            assert len(table["n"].unique()) == 1
            reads += 1
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        table = lake.read("sales", [DAY])
        assert len(table["n"].unique()) == 1
        manifest = json.loads((lake.root / "sales" / f"date={DAY}" / MANIFEST).read_text())
        assert manifest["rows"] == 1000
    assert reads > 10


def test_head_returns_the_first_rows(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": range(10)}), dt.date(2024, 1, 1))
    lake.write("nothing", pd.DataFrame({"n": pd.Series(dtype=int)}))
    assert lake.head("sales", dt.date(2024, 1, 1), rows=3).to_pydict() == {"n": [0, 1, 2]}
    assert lake.head("nothing", rows=3).to_pydict() == {"n": []}
    with pytest.raises(MissingPartition):
        lake.head("sales", dt.date(2024, 1, 2), rows=3)


def test_old_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    sweep_staging(tmp_path)  # nothing was written yet
    for name, hours in (("left", STAGING_HOURS + 1), ("at_work", STAGING_HOURS - 1)):
        folder = tmp_path / STAGING / name
        folder.mkdir(parents=True)
        (folder / "part.parquet").write_bytes(b"half")
        touched = time.time() - hours * 3600
        os.utime(folder, (touched, touched))
    sweep_staging(tmp_path)
    assert [path.name for path in (tmp_path / STAGING).iterdir()] == ["at_work"]


def _file(lake: Lake) -> Path | UPath:
    """The only file of the day."""
    manifest = lake.manifest("sales", DAY)
    assert manifest is not None
    path: Path | UPath = lake.root / "sales" / f"date={DAY}" / manifest.files[0]
    return path


def _delete(lake: Lake) -> None:
    _file(lake).unlink()


def _truncate(lake: Lake) -> None:
    path = _file(lake)
    path.write_bytes(path.read_bytes()[:-100])


def _halve_the_manifest(lake: Lake) -> None:
    path = lake.root / "sales" / f"date={DAY}" / MANIFEST
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_delete, r"\.parquet is missing"),
        (_truncate, r"\.parquet: \d+ bytes, not \d+"),
        (_halve_the_manifest, "_manifest.json can't be read"),
    ],
)
def test_a_damaged_day_is_named_and_repaired_by_writing_it_again(
    lake: Lake, harm: Callable[[Lake], None], message: str
) -> None:
    frame, other = pd.DataFrame({"n": [1, 2]}), DAY + dt.timedelta(days=1)
    for day in (DAY, other):
        lake.write("sales", frame, day)
    assert lake.damage("sales") == {}
    harm(lake)
    assert list(lake.damage("sales")) == [DAY]
    assert re.search(message, lake.damage("sales")[DAY])
    assert not lake.is_intact("sales", DAY)
    assert lake.is_intact("sales", other)
    lake.write("sales", frame, DAY)
    assert lake.damage("sales") == {}
    assert lake.pandas("sales", [DAY])["n"].tolist() == [1, 2]


@pytest.mark.parametrize("harm", [_delete, _halve_the_manifest])
def test_reading_a_damaged_day_names_it_and_what_to_do(lake: Lake, harm: Callable[[Lake], None]) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    harm(lake)
    message = rf"sales.*{DAY}.*Run `rec-assets bootstrap`"
    with pytest.raises(DamagedPartition, match=message):
        lake.read("sales", [DAY])


def test_spark_does_not_read_a_file_with_a_wrong_checksum(tmp_path: Path) -> None:
    lake, no_session = Lake(tmp_path), cast("SparkSession", None)
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    path = _file(lake)
    path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2"))
    for read in (lake.spark, lake.lazy_rows):
        with pytest.raises(DamagedPartition, match=f"sales of {DAY} is damaged: {path} has a wrong checksum"):
            read(no_session, "sales", [DAY])


def test_a_day_that_is_being_replaced_does_not_count_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    path, found, sizes = _file(lake), [], lake.storage.sizes("sales")
    manifest = path.with_name(MANIFEST)
    reader = threading.Thread(target=lambda: found.append(lake.pandas("sales", [DAY])["n"].tolist()))
    with _locked(tmp_path):  # a writer has replaced the file but not the manifest
        pq.write_table(pa.table({"n": [2]}), path)
        reader.start()
        time.sleep(0.2)
        assert not found
        about = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**about, "checksums": [_crc(path)], "bytes": path.stat().st_size}))
    reader.join()
    assert found == [[2]]
    lake.write("sales", pd.DataFrame({"n": [3]}), DAY)
    looks, look = iter([sizes]), Disk.sizes  # the first listing has the old files
    monkeypatch.setattr(Disk, "sizes", lambda self, table: next(looks, None) or look(self, table))
    assert lake.damage("sales") == {}


def test_restored_content_keeps_the_time_of_the_last_change(lake: Lake) -> None:
    frame = pd.DataFrame({"n": [1]})
    lake.write("sales", frame, DAY)
    changed = lake.changed_at("sales", DAY)
    time.sleep(0.02)
    _delete(lake)
    lake.write("sales", frame, DAY)
    assert lake.changed_at("sales", DAY) == changed


def test_reading_a_file_with_a_flipped_bit_fails_with_its_name(tmp_path: Path) -> None:
    lake, chance = Lake(tmp_path), np.random.default_rng(1)
    frame = pd.DataFrame({"id": [f"p{n}" for n in range(50)], "price": chance.normal(size=50)})
    lake.write("sales", frame, DAY)
    path, refused = _file(lake), 0
    whole = path.read_bytes()
    for _ in range(300):
        bad = bytearray(whole)
        bad[chance.integers(len(bad))] ^= 1 << chance.integers(8)
        path.write_bytes(bad)
        try:
            found = lake.pandas("sales", [DAY], where=ds.field("price") > 0)
        except DamagedPartition as error:
            refused += path.name in str(error) and str(DAY) in str(error)
        else:
            pd.testing.assert_frame_equal(found.drop(columns="date"), frame[frame["price"] > 0].reset_index(drop=True))
    assert refused == 300
    # The reader marks the file for the next plan, which only compares sizes.
    assert re.search(r"wrong checksum", lake.damage("sales")[DAY])
    lake.write("sales", frame, DAY)
    assert lake.damage("sales") == {}
    assert path.read_bytes() == whole


def test_a_partition_without_checksums_is_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    place = tmp_path / "sales" / f"date={DAY}" / MANIFEST
    place.write_text(json.dumps({k: v for k, v in json.loads(place.read_text()).items() if k != "checksums"}))
    assert lake.pandas("sales", [DAY])["n"].tolist() == [1]
    assert lake.damage("sales") == {}
