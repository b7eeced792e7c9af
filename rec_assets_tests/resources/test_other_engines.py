"""Other engines read the lake's tables: `deltalake` itself, Polars and DuckDB, with no code of this package."""

import datetime as dt
from importlib.resources import files
from pathlib import Path

import deltalake
import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest

from rec_assets.resources.lake import Lake

DAYS = [dt.date(2017, 12, 3), dt.date(2017, 12, 31)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of `hybrid_scores` with as many lists as the demo has, after one day was made again and one deleted."""
    lake, chance = Lake(tmp_path_factory.mktemp("lake")), np.random.default_rng(7)
    customers, ranks = 2469, 20
    count = customers * ranks
    for day in (*DAYS, DAYS[0], dt.date(2017, 12, 24)):
        scores = pd.DataFrame(
            {
                "customer_id": np.repeat([f"{number:05d}" for number in range(customers)], ranks),
                "product_id": chance.integers(0, 60_000, count).astype(str),
                "list": "all",
                "rank": np.tile(np.arange(1, ranks + 1), customers),
                "score": chance.random(count, dtype="float32"),
                "reason": np.where(chance.random(count) < 0.5, "you buy this every 14 days", None),
                "als_as_of": day,
                "ranker_as_of": day,
                "rules_version": "",
            }
        )
        lake.write("hybrid_scores", scores, day)
    lake.delete("hybrid_scores", [dt.date(2017, 12, 24)])
    return lake.path("hybrid_scores")


@pytest.fixture(scope="module")
def expected(table: str) -> pd.DataFrame:
    lake = Lake(Path(table).parent)
    rows = lake.table("hybrid_scores").read(DAYS)
    assert rows.num_rows == 2 * 2469 * 20
    return _sorted(rows.to_pandas(date_as_object=False))


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["date", "customer_id", "rank"]
    dates = {name: pd.to_datetime(rows[name]) for name in ("date", "als_as_of", "ranker_as_of")}
    rows = rows.assign(**dates).astype(dict.fromkeys(dates, "datetime64[us]"))
    return rows.sort_values(keys).reset_index(drop=True)[sorted(rows.columns)]


def test_deltalake_reads_equal_rows(table: str, expected: pd.DataFrame) -> None:
    query = deltalake.QueryBuilder().register("lists", deltalake.DeltaTable(table))
    found = pa.table(query.execute("SELECT * FROM lists").read_all()).to_pandas(date_as_object=False)
    pd.testing.assert_frame_equal(_sorted(found), expected)


def test_polars_reads_equal_rows(table: str, expected: pd.DataFrame) -> None:
    found = _sorted(polars.scan_delta(table).collect().to_pandas())
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    one_list = polars.scan_delta(table).filter(polars.col("date") == DAYS[1], polars.col("customer_id") == "00042")
    assert one_list.collect().height == 20


def test_duckdb_reads_equal_rows(table: str, expected: pd.DataFrame) -> None:
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    extension = next(Path(str(files("duckdb_extension_delta"))).rglob("delta.duckdb_extension"))
    connection.execute(f"LOAD '{extension}'")
    found = connection.execute("SELECT * FROM delta_scan(?)", [table]).df()
    pd.testing.assert_frame_equal(_sorted(found), expected, check_dtype=False)
