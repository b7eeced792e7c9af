"""The shops that `speed` measures: the demo as daily files without its last day, and with ten times the households.

Additional households are sampled from the real ones, with all their purchases of the year and new ids, so seasons,
baskets and the products' shares do not change.
"""

from __future__ import annotations

import datetime as dt
import shutil
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import yaml
from tqdm import tqdm

from rec_assets.datasets.complete_journey import land
from rec_assets.recsys.evaluation.evaluate import ALL_PURCHASES, NOVEL_PURCHASES
from rec_assets.resources.lake import Lake
from rec_assets.sources.spec import load_data_source

LAST = dt.date(2017, 12, 31)
BEFORE_LAST = LAST - dt.timedelta(days=1)
A_MONTH_AGO = LAST - dt.timedelta(days=30)
TIMES = 10

_PURCHASES = Path("landing/complete_journey/purchases")


def land_demo(home: Path) -> Path:
    """Land all days except the last, and write the YAML file of a data source with daily files; returns this file."""
    home.mkdir(parents=True)
    land(load_data_source("complete_journey", home))
    (home / "later").mkdir()
    shutil.move(home / _PURCHASES / f"{LAST}.csv", home / "later")
    return _describe(home)


def land_last_day(home: Path) -> None:
    """Land the last day."""
    shutil.move(home / "later" / f"{LAST}.csv", home / _PURCHASES)
    (home / _PURCHASES / f"{LAST}.csv").touch()


def correct_a_day(home: Path) -> None:
    """Add 1 to the quantity of one line."""
    path = home / _PURCHASES / f"{A_MONTH_AGO}.csv"
    lines = pd.read_csv(path, dtype=str)
    quantity = lines["quantity"].astype(int)
    quantity[0] += 1
    lines["quantity"] = quantity.astype(str)
    lines.to_csv(path, index=False)


def land_ten_times(home: Path) -> Path:
    """Land the demo with nine more households for each, except the last day."""
    source = land_demo(home)
    files = sorted((home / _PURCHASES).glob("*.csv"))
    real = np.unique(np.concatenate([pd.read_csv(file, usecols=["household_id"])["household_id"] for file in files]))
    drawn = np.random.default_rng(1).choice(real, size=(TIMES - 1) * len(real))
    more = pd.DataFrame({"household_id": drawn.astype(str), "copy": np.arange(len(drawn)).astype(str)})
    for file in tqdm(files, desc="landing ten times", unit=" days", mininterval=1):
        lines = pd.read_csv(file, dtype=str)
        added = lines.merge(more, on="household_id")
        added["household_id"] = added["household_id"] + "-" + added["copy"]
        added["basket_id"] = added["basket_id"] + "-" + added["copy"]
        every = pd.concat([lines, added.drop(columns="copy")], ignore_index=True)
        pa_csv.write_csv(pa.Table.from_pandas(every, preserve_index=False), file)
    return source


def land_large_day(home: Path, files: int, lines: int, kind: Literal["csv", "jsonl"]) -> Path:
    """Land one day of synthetic purchases, and write the YAML file of its data source; returns this file.

    Args:
        home: REC_HOME.
        files: Number of files of the day.
        lines: Lines of each file.
        kind: Format of the files.
    """
    landing, rng = home / "landing", np.random.default_rng(1)
    landing.mkdir(parents=True)
    for file in tqdm(range(files), desc="landing a large day", unit=" files", mininterval=1):
        with (landing / f"{LAST}-{file:03}.{kind}").open("w") as written:
            for first in range(0, lines, 100_000):
                size = min(100_000, lines - first)
                minutes = rng.integers(0, 24 * 60, size)
                table = pd.DataFrame(
                    {
                        "at": [f"{LAST} {minute // 60:02}:{minute % 60:02}:00" for minute in minutes],
                        "receipt": [f"r{file}-{first + number // 4}" for number in range(size)],
                        "customer": rng.integers(0, 2_000_000, size).astype(str),
                        "sku": rng.zipf(1.3, size) % 200_000,
                        "quantity": rng.integers(1, 5, size) * np.where(rng.random(size) < 0.03, -1, 1),
                        "price": rng.integers(99, 9999, size) / 100,
                    }
                )
                if kind == "csv":
                    table.to_csv(written, index=False, header=first == 0)
                else:
                    table.to_json(written, orient="records", lines=True)
    source = home / "large.yaml"
    columns = "customer_id: customer, product_id: sku, time: at, order_id: receipt, quantity: quantity"
    path = f"{landing}/{{date:%Y-%m-%d}}*.{kind}"
    source.write_text(
        f"first_day: {LAST}\nreturns: {{negative_quantity: true}}\n"
        f"purchases: {{path: '{path}', format: {kind}, columns: {{{columns}, unit_price: price}}}}\n"
    )
    return source


def _describe(home: Path) -> Path:
    built_in = resources.files("rec_assets.datasets").joinpath("complete_journey.yaml")
    described = yaml.safe_load(built_in.read_text(encoding="utf-8"))
    for name in ("dataset", "last_day"):
        del described[name]
    path = home / "shop.yaml"
    path.write_text(yaml.safe_dump(described), encoding="utf-8")
    return path


def count_lines(home: Path) -> int:
    """Number of landed purchase lines."""
    return sum(path.read_bytes().count(b"\n") - 1 for path in (home / _PURCHASES).glob("*.csv"))


def count_units(home: Path) -> dict[str, int]:
    """Numbers of lines, customers and products of a shop with at least one as-of day in its lake."""
    lake = Lake(home / "lake")
    customers = lake.table("hybrid_scores").pandas(lake.table("hybrid_scores").days[-1:], columns=["customer_id"])
    return {
        "line": count_lines(home),
        "customer": customers["customer_id"].nunique(),
        "product": lake.table("products").rows(),
    }


def hybrid_ndcg(home: Path) -> tuple[float, float]:
    """NDCG@10 for all and for novel purchases in the newest report."""
    lake = Lake(home / "lake")
    table = lake.table("evaluation_report").pandas(lake.table("evaluation_report").days[-1:])
    ours = table[(table["model"] == "hybrid") & (table["metric"] == "ndcg") & (table["k"] == 10)]
    by_slice = ours.set_index("slice")["value"]
    return float(by_slice[ALL_PURCHASES]), float(by_slice[NOVEL_PURCHASES])
