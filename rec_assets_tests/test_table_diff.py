"""`rec-assets diff` shows the rows that differ between two versions of a partition."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from rec_assets.cli import cli
from rec_assets.reports.table_diff import MAX_SHOWN, describe_diff
from rec_assets.resources.lake import Lake, MissingPartition
from rec_assets.settings import get_settings

DAY = dt.date(2017, 12, 3)
ROWS = {"customer_id": ["a", "b", "b"], "rank": [1, 1, 1], "vector": [[1.0], [2.0], [2.0]], "score": [0.1, 0.2, 0.2]}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.write("sales", pd.DataFrame(ROWS), DAY)
    return lake


def test_changed_rows_are_next_to_each_other_and_equal_rows_are_counted(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({**ROWS, "customer_id": ["a", "b", "c"], "score": [0.3, 0.2, 0.2]}), DAY)
    lake.write("sales", pd.DataFrame(ROWS), DAY + dt.timedelta(days=1))
    first, *table = "\n".join(describe_diff(lake, "sales", DAY)).splitlines()
    assert first == "sales of 2017-12-03, version 1 to 3: 3 rows before, 3 now; 2 removed (-), 2 added (+)"
    rows = [line.split()[:3] for line in table[2:]]
    assert rows == [["+", "a", "1"], ["-", "a", "1"], ["-", "b", "1"], ["+", "c", "1"]]


def test_a_new_a_deleted_and_an_unchanged_day(lake: Lake) -> None:
    (first, *_) = describe_diff(lake, "sales", DAY)
    assert first.endswith("version 0 to 1: 0 rows before, 3 now; 0 removed (-), 3 added (+)")
    assert next(describe_diff(lake, "sales", DAY, 1)).endswith("0 removed (-), 0 added (+)")
    lake.delete("sales", [DAY])
    assert next(describe_diff(lake, "sales", DAY)).endswith("3 rows before, 0 now; 3 removed (-), 0 added (+)")


def test_many_rows_are_cut_and_other_columns_are_named(lake: Lake) -> None:
    lake.write("sales", pd.DataFrame({"customer_id": [f"{n}" for n in range(100)], "new": range(100)}), DAY)
    lines = list(describe_diff(lake, "sales", DAY))
    assert lines[1] == "only in one version: new, rank, score, vector"
    assert lines[-1] == f"… and {103 - MAX_SHOWN} more"


def test_what_can_not_be_read_is_named(lake: Lake) -> None:
    with pytest.raises(MissingPartition, match="sales: day 2000-01-01 is not in the lake"):
        list(describe_diff(lake, "sales", dt.date(2000, 1, 1)))
    with pytest.raises(MissingPartition, match="version 99 is no longer in the lake"):
        list(describe_diff(lake, "sales", DAY, 99))
    lake.write("sales", pd.DataFrame(ROWS).head(1), DAY)
    lake.vacuum("sales", hours=0)
    with pytest.raises(MissingPartition, match="version 1 of sales can't be read any more"):
        list(describe_diff(lake, "sales", DAY))


@pytest.mark.parametrize(
    ("table", "day", "message"),
    [
        ("sale", DAY, "has no table 'sale': it has products, sales"),
        ("sales", None, f"sales is partitioned by day: name one, such as {DAY}"),
        ("products", DAY, f"products is not partitioned by day: leave out {DAY}"),
    ],
)
def test_a_wrong_table_or_day_is_explained(lake: Lake, table: str, day: dt.date | None, message: str) -> None:
    lake.write("products", pd.DataFrame(ROWS))
    with pytest.raises(MissingPartition, match=message):
        list(describe_diff(lake, table, day))


def test_the_command(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REC_LAKE", str(lake.root))
    get_settings.cache_clear()
    try:
        found = CliRunner().invoke(cli, ["diff", "sales", str(DAY), "--from", "1"])
        wrong = CliRunner().invoke(cli, ["diff", "sales", "yesterday"])
    finally:
        get_settings.cache_clear()
    assert (found.exit_code, wrong.exit_code) == (0, 2)
    assert found.output.startswith("sales of 2017-12-03, version 1 to 1")
