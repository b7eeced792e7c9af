"""A day that is cleaned in parts has the same lines as one that is cleaned at once."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from rec_assets.recsys.data.cleaning import CleaningSettings, clean_day
from rec_assets.recsys.data.large_days import Spool, clean_large_day
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA

DAY = dt.date(2017, 1, 1)
UTC = CleaningSettings("UTC", has_price=True)


def random_day(seed: int, lines: int = 400) -> pd.DataFrame:
    """Raw lines with repetitions, returns, lines that were returned, bulk orders and mistakes."""
    rng = np.random.default_rng(seed)
    content = rng.integers(0, lines * 3 // 4, lines)
    is_return = rng.random(lines) < 0.15
    frame = pd.DataFrame(
        {
            "source_file": np.where(np.arange(lines) < lines // 2, "a.csv", "b.csv"),
            "source_row": np.arange(1, lines + 1),
            "order_id": [f"r{number % 90}" for number in content],
            "customer_id": [f"c{number % 12}" if number % 41 else "" for number in content],
            "product_id": [f"p{number % 7}" for number in content],
            "event_time": pd.Timestamp("2017-01-01", tz="UTC") + pd.to_timedelta(content * 7 % 1500, "min"),
            "quantity": np.where(content % 97 == 0, 5000.0, 1.0 + content % 4),
            "unit_price": np.where(content % 53 == 0, 0.0, 2.0),
            "rating": np.nan,
            "is_return": is_return,
            "was_returned": ~is_return & (rng.random(lines) < 0.1),
            "wrong_size": rng.random(lines) < 0.3,
            "excluded_by": "",
            "line": [f"line {number}" for number in content],
        }
    ).reindex(columns=RAW_SCHEMA.names)
    return pa.Table.from_pandas(frame, RAW_SCHEMA, preserve_index=False).to_pandas()


def in_parts(raw: pd.DataFrame, size: int, settings: CleaningSettings = UTC) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = pa.Table.from_pandas(raw, RAW_SCHEMA, preserve_index=False)
    parts = [table.slice(first, size) for first in range(0, len(table), size)]
    results = list(clean_large_day(parts, DAY, settings))
    return (
        pd.concat([result.cleaned for result in results]).sort_values("line_id", ignore_index=True),
        pd.concat([result.rejected for result in results]).sort_values("source_row", ignore_index=True),
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [7, 150])
def test_a_day_in_parts_is_cleaned_as_one_at_once(seed, size):
    raw = random_day(seed)
    whole = clean_day(raw, DAY, UTC)
    assert {"duplicate_line", "no_customer", "invalid_price", "outside_day"} <= set(whole.rejected_by_rule())
    assert (whole.cleaned["weight"] == 0).any(), "the day has bulk orders"
    assert (whole.cleaned["net_quantity"] < whole.cleaned["quantity"]).any(), "returns of the day's purchases"
    cleaned, rejected = in_parts(raw, size)
    pd.testing.assert_frame_equal(cleaned, whole.cleaned.sort_values("line_id", ignore_index=True))
    pd.testing.assert_frame_equal(rejected, whole.rejected)


def test_the_limit_of_bulk_orders_is_that_of_the_whole_day():
    raw = random_day(0).assign(line=[f"line {number}" for number in range(400)], quantity=1.0)
    raw.loc[395:, "quantity"] = 100.0
    cleaned, _ = in_parts(raw, 4)
    assert set(cleaned.loc[cleaned["quantity"] == 100, "weight"]) == {0.0}, "the last part alone has no other quantity"


def test_tables_of_a_spool_can_be_read_several_times():
    tables = [pa.table({"a": [number, None], "b": [str(number), "x"]}) for number in range(3)]
    assert list(Spool()) == []
    for count in (1, 3):
        spool = Spool(tables[:count])
        for _ in range(2):
            assert list(spool) == tables[:count]


def test_a_spool_of_tables_without_rows_has_their_columns():
    empty, table = pa.table({"a": pa.array([], pa.int64())}), pa.table({"a": [1]})
    assert list(Spool([empty, empty, empty])) == [empty]
    assert pa.concat_tables(Spool([empty, table, empty, table])).to_pydict() == {"a": [1, 1]}
