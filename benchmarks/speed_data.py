"""The shops that `speed` times: the demo as daily files without its last day, and that with ten times the households.

The households that are added are drawn from the real ones, with all their purchases of the year on the days of these,
under ids of their own: so the seasons, the baskets and the products' shares stay.
"""

from __future__ import annotations

import datetime as dt
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import yaml
from tqdm import tqdm

from rec_assets.datasets.complete_journey import land
from rec_assets.recsys.ranking.hybrid import ALL
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings
from rec_assets.sources.spec import load_source

LAST = dt.date(2017, 12, 31)
BEFORE_LAST = LAST - dt.timedelta(days=1)
A_MONTH_AGO = LAST - dt.timedelta(days=30)
TIMES = 10

_PURCHASES = Path("landing/complete_journey/purchases")


def land_demo(home: Path) -> Path:
    """Land all days but the last, and describe the source as a shop with daily files would; returns that file."""
    home.mkdir(parents=True)
    land(load_source("complete_journey", home))
    (home / "later").mkdir()
    shutil.move(home / _PURCHASES / f"{LAST}.csv", home / "later")
    return _describe(home)


def land_last_day(home: Path) -> None:
    """The day that was held back."""
    shutil.move(home / "later" / f"{LAST}.csv", home / _PURCHASES)
    (home / _PURCHASES / f"{LAST}.csv").touch()


def correct_a_day(home: Path) -> None:
    """One more piece in one line."""
    path = home / _PURCHASES / f"{A_MONTH_AGO}.csv"
    lines = pd.read_csv(path, dtype=str)
    quantity = lines["quantity"].astype(int)
    quantity[0] += 1
    lines["quantity"] = quantity.astype(str)
    lines.to_csv(path, index=False)


def land_ten_times(home: Path) -> Path:
    """The demo with nine more households for each, but for the last day."""
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


def _describe(home: Path) -> Path:
    built_in = resources.files("rec_assets.datasets").joinpath("complete_journey.yaml")
    described = yaml.safe_load(built_in.read_text(encoding="utf-8"))
    for name in ("dataset", "last_day"):
        del described[name]
    path = home / "shop.yaml"
    path.write_text(yaml.safe_dump(described), encoding="utf-8")
    return path


def count_lines(home: Path) -> int:
    """Purchase lines that landed."""
    return sum(path.read_bytes().count(b"\n") - 1 for path in (home / _PURCHASES).glob("*.csv"))


def count_units(home: Path) -> dict[str, int]:
    """Of a shop with one as-of day or more in its lake: how many lines, customers and products."""
    lake = Lake(home / "lake")
    customers = lake.pandas("hybrid_scores", lake.days("hybrid_scores")[-1:], columns=["customer_id"])
    return {
        "line": count_lines(home),
        "customer": customers["customer_id"].nunique(),
        "product": lake.rows("products"),
    }


def hybrid_ndcg(home: Path) -> tuple[float, float]:
    """NDCG@10 of all and of novel purchases, as the newest report has them."""
    lake = Lake(home / "lake")
    table = lake.pandas("evaluation_report", lake.days("evaluation_report")[-1:])
    ours = table[(table["model"] == "hybrid") & (table["metric"] == "ndcg") & (table["k"] == 10)]
    by_slice = ours.set_index("slice")["value"]
    return float(by_slice[ALL]), float(by_slice["novel"])


def one_day_runs(day: dt.date) -> list[tuple[str, dt.date | None]]:
    """The runs of a plan that make each asset of one as-of day once: job and day."""
    before = day - dt.timedelta(days=Settings().horizon_days)
    return [("catalog", None), ("ingest", None), ("refresh_products", None), ("learn", before), ("train", day),
            ("score", day)]  # fmt: skip
