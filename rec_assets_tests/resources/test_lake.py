"""A partition is replaced whole: whoever reads, and whatever is killed when, sees the old one or the new one."""

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
from rec_assets.resources.storage import MANIFEST, STAGING, STAGING_HOURS, Disk, _crc, _locked, sweep_staging

DAY = dt.date(2017, 12, 3)


@pytest.fixture
def lake(lake_root: Path | UPath) -> Lake:
    return Lake(lake_root)


def test_reads_back_what_was_written_with_its_day(lake: Lake) -> None:
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


def test_the_fingerprint_tells_contents_apart(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    before = lake.fingerprint("sales", [DAY])
    lake.write("sales", pd.DataFrame({"n": [2]}), DAY)
    assert lake.fingerprint("sales", [DAY]) != before
    assert lake.fingerprint("sales", [DAY, DAY - dt.timedelta(days=1)]) != lake.fingerprint("sales", [DAY])


def test_a_partition_whose_file_was_deleted_by_hand_is_written_again(lake: Lake) -> None:
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


def test_a_reader_never_sees_half_a_partition_while_writers_are_killed(lake: Lake) -> None:
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


def test_the_head_is_the_first_rows(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"n": range(10)}), dt.date(2024, 1, 1))
    lake.write("nothing", pd.DataFrame({"n": pd.Series(dtype=int)}))
    assert lake.head("sales", dt.date(2024, 1, 1), rows=3).to_pydict() == {"n": [0, 1, 2]}
    assert lake.head("nothing", rows=3).to_pydict() == {"n": []}
    with pytest.raises(MissingPartition):
        lake.head("sales", dt.date(2024, 1, 2), rows=3)


def test_what_killed_writers_left_is_swept_up_when_nobody_has_touched_it_for_hours(tmp_path: Path) -> None:
    sweep_staging(tmp_path)  # nothing was ever written there
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
    ("harm", "said"),
    [
        (_delete, r"\.parquet is missing"),
        (_truncate, r"\.parquet: \d+ bytes, not \d+"),
        (_halve_the_manifest, "_manifest.json can't be read"),
    ],
)
def test_a_damaged_day_is_named_and_whole_once_it_is_written_again(
    lake: Lake, harm: Callable[[Lake], None], said: str
) -> None:
    frame, other = pd.DataFrame({"n": [1, 2]}), DAY + dt.timedelta(days=1)
    for day in (DAY, other):
        lake.write("sales", frame, day)
    assert lake.damage("sales") == {}
    harm(lake)
    assert list(lake.damage("sales")) == [DAY]
    assert re.search(said, lake.damage("sales")[DAY])
    assert not lake.is_whole("sales", DAY)
    assert lake.is_whole("sales", other)
    lake.write("sales", frame, DAY)
    assert lake.damage("sales") == {}
    assert lake.pandas("sales", [DAY])["n"].tolist() == [1, 2]


@pytest.mark.parametrize("harm", [_delete, _halve_the_manifest])
def test_reading_a_damaged_day_says_which_and_what_to_do(lake: Lake, harm: Callable[[Lake], None]) -> None:
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    harm(lake)
    said = rf"sales.*{DAY}.*Run `rec-assets bootstrap`"
    with pytest.raises(DamagedPartition, match=said):
        lake.read("sales", [DAY])


def test_spark_is_given_no_file_whose_checksum_is_wrong(tmp_path: Path) -> None:
    lake, no_session = Lake(tmp_path), cast("SparkSession", None)
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    path = _file(lake)
    path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2"))
    for read in (lake.spark, lake.task_rows):
        with pytest.raises(DamagedPartition, match=f"sales of {DAY} is damaged: {path} has a wrong checksum"):
            read(no_session, "sales", [DAY])


def test_a_day_that_is_just_being_replaced_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    path, found, sizes = _file(lake), [], lake.storage.sizes("sales")
    manifest = path.with_name(MANIFEST)
    reader = threading.Thread(target=lambda: found.append(lake.pandas("sales", [DAY])["n"].tolist()))
    with _locked(tmp_path):  # a writer's file of the same name is there already, and its manifest not yet
        pq.write_table(pa.table({"n": [2]}), path)
        reader.start()
        time.sleep(0.2)
        assert not found
        about = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**about, "checksums": [_crc(path)], "bytes": path.stat().st_size}))
    reader.join()
    assert found == [[2]]
    lake.write("sales", pd.DataFrame({"n": [3]}), DAY)
    looks, look = iter([sizes]), Disk.sizes  # the first look lists the files of before
    monkeypatch.setattr(Disk, "sizes", lambda self, table: next(looks, None) or look(self, table))
    assert lake.damage("sales") == {}


def test_what_comes_back_as_it_was_leaves_what_is_made_from_it_up_to_date(lake: Lake) -> None:
    frame = pd.DataFrame({"n": [1]})
    lake.write("sales", frame, DAY)
    changed = lake.changed_at("sales", DAY)
    time.sleep(0.02)
    _delete(lake)
    lake.write("sales", frame, DAY)
    assert lake.changed_at("sales", DAY) == changed


def test_a_read_of_a_file_with_a_flipped_bit_is_right_or_names_it(tmp_path: Path) -> None:
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
    # The reader tells the next plan, which looks at sizes alone.
    assert re.search(r"wrong checksum", lake.damage("sales")[DAY])
    lake.write("sales", frame, DAY)
    assert lake.damage("sales") == {}
    assert path.read_bytes() == whole


def test_a_partition_written_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write("sales", pd.DataFrame({"n": [1]}), DAY)
    place = tmp_path / "sales" / f"date={DAY}" / MANIFEST
    place.write_text(json.dumps({k: v for k, v in json.loads(place.read_text()).items() if k != "checksums"}))
    assert lake.pandas("sales", [DAY])["n"].tolist() == [1]
    assert lake.damage("sales") == {}
