"""A small daily data source for the tests of readers: write its files, and read them as the assets do."""

import datetime as dt
from pathlib import Path

import pandas as pd
from upath import UPath

from rec_assets.recsys.data.cleaning import CleanedDay, CleaningSettings, clean_day
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.sources.reader import read_day
from rec_assets.sources.spec import DataSource, load_data_source

DAY = dt.date(2017, 1, 1)
COLUMNS = "customer_id: buyer, product_id: sku, time: at, order_id: receipt, quantity: n, unit_price: price"
HEADER = "at,buyer,sku,receipt,n,price"
LINE = "2017-01-01 10:00,ann,A1,r1,2,1.50"


def shop(
    folder: Path,
    *,
    columns: str = COLUMNS,
    path: str = "{date:%Y-%m-%d}.csv",
    purchases: str = "",
    rest: str = "",
) -> DataSource:
    """A data source whose purchase log has COLUMNS, with changes."""
    (folder / "shop.yaml").write_text(
        f"purchases: {{path: '{path}', columns: {{{columns}}}, {purchases}}}\n{rest}\n", encoding="utf-8"
    )
    return load_data_source(str(folder / "shop.yaml"), folder / "home")


def log(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def write(folder: Path, content: str | bytes, name: str = "2017-01-01.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(source: DataSource, day: dt.date = DAY) -> pd.DataFrame:
    table = read_day(source, day)
    assert table.schema.equals(RAW_SCHEMA)
    return table.to_pandas()


def clean(source: DataSource, raw: pd.DataFrame, day: dt.date = DAY) -> CleanedDay:
    cleaned = clean_day(raw, day, CleaningSettings(source.time_zone, source.has_price))
    assert len(raw) == len(cleaned.cleaned) + len(cleaned.rejected)
    return cleaned


def times(source: DataSource, *written: str) -> list[str]:
    """The times that the data source reads, in UTC."""
    write(source.folder, log(*(f"{at},ann,A1,r{n},1,1" for n, at in enumerate(written))))
    result = read(source)["event_time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    return [at if isinstance(at, str) else "unreadable" for at in result]


def in_memory(folder: Path, content: str | bytes, name: str) -> UPath:
    """Land a file in an object store, in a folder of the test."""
    path = UPath(f"memory:/{folder}/store/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


GOOD = log(*[f"2017-01-01 10:{n:02},ann,A{n},r1,1,1.5" for n in range(60)])
