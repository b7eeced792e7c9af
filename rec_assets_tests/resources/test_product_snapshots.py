"""Product snapshots of the lake: written to the disk once, and never half."""

import datetime as dt
import os
from pathlib import Path

import numpy as np
import pytest

from rec_assets.recsys.data.product_snapshot import map_snapshot
from rec_assets.recsys.data.snapshot_table import to_table
from rec_assets.resources import product_snapshots
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.resources.product_snapshots import load_product_snapshot
from rec_assets_tests.recsys.snapshots import small_snapshot

DAY = dt.date(2024, 6, 30)


def write(lake: Lake, price: float) -> None:
    lake.write("product_snapshot", to_table(small_snapshot(["a", "b"], paid=price)), DAY)


def load(lake: Lake, disk: Path) -> float:
    snapshot = load_product_snapshot(lake.table("product_snapshot"), DAY, disk)
    assert snapshot.as_of == DAY
    return float(snapshot.price[0])


def test_the_arrays_of_a_day_are_written_once_and_again_when_it_changes(tmp_path: Path) -> None:
    lake, disk = Lake(tmp_path / "lake"), tmp_path / "disk"
    write(lake, 2.0)
    assert load(lake, disk) == 2.0
    (folder,) = disk.iterdir()
    written = (folder / "price.npy").stat().st_mtime_ns
    os.utime(folder, (1, 1))
    assert load(lake, disk) == 2.0
    assert (folder / "price.npy").stat().st_mtime_ns == written
    assert folder.stat().st_mtime > 1, "it is in use, so a plan must not delete it"
    write(lake, 3.0)
    assert load(lake, disk) == 3.0 and len(list(disk.iterdir())) == 2
    assert load(lake.at({"product_snapshot": 1}), disk) == 2.0


def test_a_process_that_is_slower_than_another_uses_what_that_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, disk = Lake(tmp_path / "lake"), tmp_path / "disk"
    write(lake, 2.0)
    convert = product_snapshots.from_table

    def slow(*args: object) -> object:
        monkeypatch.setattr(product_snapshots, "from_table", convert)
        load(lake, disk)
        return convert(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(product_snapshots, "from_table", slow)
    assert load(lake, disk) == 2.0 and len(list(disk.iterdir())) == 1


def test_a_partly_deleted_folder_is_written_again(tmp_path: Path) -> None:
    lake, disk = Lake(tmp_path / "lake"), tmp_path / "disk"
    write(lake, 2.0)
    load(lake, disk)
    (folder,) = disk.iterdir()
    (folder / "products.json").unlink()
    map_snapshot.cache_clear()
    assert load(lake, disk) == 2.0 and (folder / "products.json").exists()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, disk = Lake(tmp_path / "lake"), tmp_path / "disk"
    write(lake, 2.0)

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(np, "save", fail)
        with pytest.raises(OSError, match="no space"):
            load(lake, disk)
    assert list(disk.iterdir()) == []
    assert load(lake, disk) == 2.0


def test_a_day_without_a_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPartition, match="product_snapshot: day 2024-06-30 is not in the lake"):
        load_product_snapshot(Lake(tmp_path).table("product_snapshot"), DAY, tmp_path)
