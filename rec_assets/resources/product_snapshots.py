"""Product snapshots of the lake, mapped into memory.

The arrays of a partition are written to a folder once, which this process and Spark's tasks map into their memory. So
the processes of a machine share one copy, and a cluster sends a path to its tasks, not the arrays.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import uuid
from pathlib import Path

from rec_assets.recsys.data.product_snapshot import ProductSnapshot, map_snapshot
from rec_assets.recsys.data.snapshot_arrays import SNAPSHOT_LAYOUT
from rec_assets.recsys.data.snapshot_table import from_table
from rec_assets.resources.lake import LakeTable


def load_product_snapshot(table: LakeTable, day: dt.date, disk: Path) -> ProductSnapshot:
    """The product snapshot of a day, mapped from a folder on `disk`, which Spark's tasks see too.

    Plans delete folders there that were not used for some hours.

    Raises:
        MissingPartition, DamagedPartition: as `LakeTable.read`.
    """
    table.require([day])
    content = f"{table.partitions[day].fingerprint} {day} {SNAPSHOT_LAYOUT}"
    folder = disk / f"{table.name}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
    try:
        os.utime(folder)  # a plan must not delete it now
        return map_snapshot(folder)
    except FileNotFoundError:  # not written yet, or partly deleted
        shutil.rmtree(folder, ignore_errors=True)
    written = disk / uuid.uuid4().hex
    try:
        from_table(table.read([day]), day).save(written)
        try:
            written.rename(folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(written, ignore_errors=True)
    return map_snapshot(folder)
