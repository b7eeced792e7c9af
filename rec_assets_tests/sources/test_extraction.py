"""Logs that are a SQL query or a Delta table, or that an asset of the shop writes."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from deltalake import write_deltalake

from rec_assets.definitions import build_definitions
from rec_assets.resources.data_versions import inputs
from rec_assets.settings import Settings
from rec_assets.sources import extraction
from rec_assets.sources.check import check_source
from rec_assets.sources.errors import SourceError
from rec_assets.sources.extraction import extract_days
from rec_assets.sources.reader import read_day
from rec_assets.sources.spec import DataSource, load_data_source

DAYS = [dt.date(2024, 3, day) for day in (1, 2, 3, 4)]
NOW = dt.datetime(2024, 3, 5, 1, tzinfo=dt.timezone.utc).timestamp()
COLUMNS = "{customer_id: who, product_id: what, time: at, unit_price: price}"
PASSWORD = "opensesame"


def orders(price: float = 2.5) -> pd.DataFrame:
    """A line on the first, second and fourth day; the last is just before midnight."""
    times = ["2024-03-01 10:00", "2024-03-02 00:00", "2024-03-04 23:59:59"]
    return pd.DataFrame({"who": ["ann", "bob", "cid"], "what": ["A", "B", "C"], "at": times, "price": price})


def source(folder: Path, extract: str, rest: str = "first_day: 2024-03-01", asset: str = "") -> DataSource:
    text = f"{rest}\npurchases:\n  extract: {extract}\n  columns: {COLUMNS}\n{asset}"
    (folder / "shop.yaml").write_text(text, encoding="utf-8")
    return load_data_source(str(folder / "shop.yaml"), folder / "home")


def query(url: str = "$SHOP_URL", where: str = "at >= :day AND at < :next_day", more: str = "") -> str:
    return f'{{url: "{url}", sql: "SELECT who, what, at, price FROM orders WHERE {where} ORDER BY at"{more}}}'


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/shop.db"
    monkeypatch.setenv("SHOP_URL", url)
    return url


def fill(url: str, frame: pd.DataFrame) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        frame.to_sql("orders", connection, index=False, if_exists="replace")
    engine.dispose()


def customers(of: DataSource, day: dt.date) -> list[str]:
    return read_day(of, day, DAYS[-1])["customer_id"].to_pylist()


def check_all_days(of: DataSource) -> None:
    assert extract_days(of, now=NOW) == [DAYS[0], DAYS[1], DAYS[3]]
    assert of.landed_days() == [DAYS[0], DAYS[1], DAYS[3]]
    assert [customers(of, day) for day in DAYS] == [["ann"], ["bob"], [], ["cid"]]
    assert extract_days(of, now=NOW) == []


def test_each_day_of_a_query_is_landed_once(tmp_path: Path, sqlite: str) -> None:
    fill(sqlite, orders())
    check_all_days(source(tmp_path, query()))


def test_a_query_of_postgresql(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", database)
    fill(database, orders().assign(at=lambda frame: pd.to_datetime(frame["at"], format="ISO8601")))
    check_all_days(source(tmp_path, query()))


def test_the_newest_days_are_read_again_and_replaced_if_they_changed(tmp_path: Path, sqlite: str) -> None:
    fill(sqlite, orders())
    of = source(tmp_path, query(more=", refresh_days: 2"))
    extract_days(of, now=NOW)
    before = {file: os.stat(file).st_mtime_ns for file in map(str, of.files())}
    fill(sqlite, pd.concat([orders(), orders().iloc[2:].assign(who="dan")]))
    fill(sqlite, pd.concat([orders(), orders().iloc[2:].assign(who="dan"), orders().iloc[:1].assign(who="eve")]))
    assert extract_days(of, now=NOW) == [DAYS[3]]
    assert customers(of, DAYS[3]) == ["cid", "dan"] and customers(of, DAYS[0]) == ["ann"]
    assert [os.stat(file).st_mtime_ns == time for file, time in before.items()] == [True, True, False]
    fill(sqlite, orders().iloc[:2])
    assert extract_days(of, now=NOW) == [DAYS[3]] and of.landed_days() == DAYS[:2]


def test_today_is_not_over(tmp_path: Path, sqlite: str) -> None:
    fill(sqlite, orders())
    evening = dt.datetime(2024, 3, 4, 23, 30, tzinfo=dt.timezone.utc).timestamp()
    assert extract_days(source(tmp_path, query()), now=evening) == DAYS[:2]
    tokyo = source(tmp_path, query(), "first_day: 2024-03-01\ntime_zone: Asia/Tokyo")
    assert extract_days(tokyo, now=evening) == [DAYS[3]]


@pytest.mark.parametrize("kind", ["date", "time", "time in UTC", "text"])
def test_a_delta_table_is_read_by_day(tmp_path: Path, kind: str) -> None:
    times = pd.to_datetime(orders()["at"], format="ISO8601")
    day = {"date": times.dt.date, "time": times, "time in UTC": times.dt.tz_localize("UTC"), "text": orders()["at"]}
    write_deltalake(str(tmp_path / "lake"), pa.Table.from_pandas(orders().assign(day=day[kind]), preserve_index=False))
    check_all_days(source(tmp_path, "{delta: lake, day_column: day}"))


@pytest.mark.parametrize("kind", ["time", "time in UTC", "text with Z", "text with an offset"])
def test_a_day_of_a_delta_table_is_one_of_the_shop(tmp_path: Path, kind: str) -> None:
    rows = orders().assign(at=["2024-02-29 23:00", "2024-03-01 22:59", "2024-03-01 23:00"])  # in UTC: 1, 1, 2 March
    times = pd.to_datetime(rows["at"])
    berlin = times.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    text = {"text with Z": rows["at"] + "Z", "text with an offset": berlin.astype(str)}
    day = {"time": times, "time in UTC": times.dt.tz_localize("UTC")} | text
    write_deltalake(str(tmp_path / "lake"), pa.Table.from_pandas(rows.assign(day=day[kind]), preserve_index=False))
    zone = "first_day: 2024-03-01\ntime_zone: Europe/Berlin"
    of = source(tmp_path, "{delta: lake, day_column: day}\n  naive_times: utc", zone)
    assert extract_days(of, now=NOW) == DAYS[:2]
    assert [customers(of, day) for day in DAYS[:2]] == [["ann", "bob"], ["cid"]]


def test_rows_in_another_order_are_no_change(tmp_path: Path, sqlite: str) -> None:
    same_day = orders().assign(at="2024-03-04 10:00")
    fill(sqlite, same_day)
    of = source(tmp_path, '{url: $SHOP_URL, sql: "SELECT * FROM orders WHERE at >= :day AND at < :next_day"}')
    assert extract_days(of, now=NOW) == [DAYS[3]]
    fill(sqlite, same_day[::-1])
    assert extract_days(of, now=NOW) == []
    fill(sqlite, same_day.assign(price=3.0))
    assert extract_days(of, now=NOW) == [DAYS[3]]


def test_a_day_without_rows_is_queried_again_for_a_month(tmp_path: Path, sqlite: str) -> None:
    fill(sqlite, orders().iloc[1:])
    of = source(tmp_path, query(more=", refresh_days: 1"))
    assert extract_days(of, now=NOW) == [DAYS[1], DAYS[3]]
    (file,) = of.files(DAYS[1])
    month = 31 * 24 * 3600
    assert extract_days(of, now=NOW + month) == []  # marks the day before it is too old
    fill(sqlite, orders())
    assert extract_days(of, now=NOW + month) == []
    (Path(file).parent / f".{DAYS[0]}.empty").unlink()
    assert extract_days(of, now=NOW + month) == [DAYS[0]]
    fill(sqlite, pd.concat([orders(), orders().iloc[:1].assign(at="2024-03-03 10:00")]))
    assert extract_days(of, now=NOW) == [DAYS[2]]


def test_columns_that_can_not_be_sorted_are_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [uuid.UUID(int=1), uuid.UUID(int=2)]
    rows = pa.table({"who": ["ann", "bob"], "what": ["A", "B"], "at": ["2024-03-01 10:00"] * 2, "id": pa.array(ids)})
    monkeypatch.setattr(extraction, "_query", lambda query, day: rows if day == DAYS[0] else rows.slice(0, 0))
    of = source(tmp_path, query(more=", refresh_days: 9"))
    assert extract_days(of, now=NOW) == [DAYS[0]] and extract_days(of, now=NOW) == []


def test_a_text_that_is_a_day_is_that_day_of_the_shop(tmp_path: Path) -> None:
    rows = orders().assign(day=["2024-03-01", "2024-03-02x", "2024-03-04"])
    write_deltalake(str(tmp_path / "lake"), pa.Table.from_pandas(rows, preserve_index=False))
    zone = "first_day: 2024-03-01\ntime_zone: America/New_York"
    of = source(tmp_path, "{delta: lake, day_column: day}\n  naive_times: utc", zone)
    assert extract_days(of, now=NOW + 24 * 3600) == [DAYS[0], DAYS[1], DAYS[3]]


def test_the_definitions_need_no_extracted_day(tmp_path: Path, sqlite: str) -> None:
    of = source(tmp_path, query())
    assert of.landed_days() == []
    settings = Settings(home=tmp_path / "home", source=str(tmp_path / "shop.yaml"))
    partitions = build_definitions(settings).resolve_assets_def("raw_purchase_logs").partitions_def
    assert partitions is not None and partitions.get_first_partition_key() == "2024-03-01"
    longer = source(tmp_path, query(more=", refresh_days: 7"))
    assert longer.version == of.version and longer.purchases.path == of.purchases.path


def test_a_partitioned_delta_table_and_a_second_commit(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(orders().assign(day=orders()["at"].str[:10]), preserve_index=False)
    write_deltalake(str(tmp_path / "lake"), table, partition_by=["day"])
    of = source(tmp_path, "{delta: lake, day_column: day}")
    check_all_days(of)
    write_deltalake(str(tmp_path / "lake"), table.slice(2), mode="append")
    assert extract_days(of, now=NOW) == [DAYS[3]] and customers(of, DAYS[3]) == ["cid", "cid"]


@pytest.mark.parametrize(
    ("extract", "rest", "message"),
    [
        (query(url=f"postgresql://u:{PASSWORD}@host/db"), "first_day: 2024-03-01", "has a password: put the URL into"),
        (query(url="the shop"), "first_day: 2024-03-01", "is not a SQLAlchemy URL"),
        (query(where="1 = 1"), "first_day: 2024-03-01", "needs the parameter :day"),
        (query(), "", "`extract` needs first_day"),
        ("{delta: lake}", "first_day: 2024-03-01", "day_column"),
    ],
)
def test_a_wrong_description_is_an_error(tmp_path: Path, extract: str, rest: str, message: str) -> None:
    with pytest.raises(SourceError) as error:
        source(tmp_path, extract, rest)
    assert message in str(error.value) and PASSWORD not in str(error.value)


def test_a_log_is_a_path_or_an_extract(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="set `extract` or `path`, not both"):
        source(tmp_path, query() + "\n  path: 'x_{date:%Y-%m-%d}.csv'")


@pytest.mark.parametrize(
    ("url", "sql", "message"),
    [
        (None, query(), "the environment variable SHOP_URL is not set"),
        ("nonsense", query(), "the environment variable SHOP_URL is not a SQLAlchemy URL"),
        ("sqlite:////no/such/folder/shop.db", query(), "the query of 2024-03-01 failed: unable to open database file"),
        (f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:1/db", query(), "the query of 2024-03-01 failed"),
        (f"nodriver://u:{PASSWORD}@host/db", query(), "failed"),
        (f"postgresql+psycopg://127.0.0.1:1/db?user=u&password={PASSWORD}", query(), "the query of 2024-03-01 failed"),
        ("sqlite://", query(), "no such table: orders"),
        ("sqlite://", '{url: $SHOP_URL, sql: "SELECT 1 AS a, 2 AS a WHERE :day > 0"}', "two columns of the same name"),
    ],
)
def test_a_query_that_fails_names_the_day_and_never_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | None, sql: str, message: str
) -> None:
    monkeypatch.delenv("SHOP_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("SHOP_URL", url)
    of = source(tmp_path, sql)
    with pytest.raises(SourceError) as error:
        extract_days(of, now=NOW)
    assert message in str(error.value) and PASSWORD not in str(error.value)
    assert PASSWORD not in of.model_dump_json() and of.landed_days() == []
    checked = check_source(of, now=NOW).to_text()
    assert message in checked and PASSWORD not in checked


def test_a_query_that_returns_other_columns_fails_the_day_by_name(tmp_path: Path, sqlite: str) -> None:
    fill(sqlite, orders().rename(columns={"who": "buyer"}))
    of = source(tmp_path, '{url: $SHOP_URL, sql: "SELECT * FROM orders WHERE at >= :day AND at < :next_day"}')
    extract_days(of, now=NOW)
    with pytest.raises(SourceError, match=r"2024-03-01\.parquet: column 'who' is missing; the file has 'buyer'"):
        read_day(of, DAYS[0])


def test_an_error_of_a_delta_table_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="lake: can't be read as a Delta table"):
        extract_days(source(tmp_path, "{delta: lake, day_column: day}"), now=NOW)
    write_deltalake(str(tmp_path / "lake"), pa.Table.from_pandas(orders(), preserve_index=False))
    with pytest.raises(SourceError, match="column 'day' is missing; the table has who, what, at, price"):
        extract_days(source(tmp_path, "{delta: lake, day_column: day}"), now=NOW)


def test_check_source_reads_some_days_and_stores_nothing(tmp_path: Path, sqlite: str) -> None:
    fill(sqlite, orders())
    (tmp_path / "home").mkdir()
    check = check_source(source(tmp_path, query()), now=NOW)
    assert check.ok, check.errors
    assert check.covered_days == (DAYS[0], DAYS[3]) and list((tmp_path / "home").iterdir()) == []


def test_an_upstream_asset_is_in_the_lineage_graph_and_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.yaml").write_text(
        "first_day: 2024-03-01\nlast_day: 2024-04-30\npurchases:\n  path: x_{date:%Y-%m-%d}.csv\n"
        f"  asset: [warehouse, products]\n  columns: {COLUMNS}\n"
    )
    settings = Settings(home=tmp_path / "home", source=str(tmp_path / "shop.yaml"))
    graph = build_definitions(settings).resolve_asset_graph()
    key, upstream = dg.AssetKey("raw_purchase_logs"), dg.AssetKey(["warehouse", "products"])
    assert graph.get(key).parent_keys == {upstream} and not graph.get(upstream).is_materializable
    assert inputs(graph, key, DAYS[0]) == {}
    assert inputs(graph, dg.AssetKey("product_embeddings"), None) == {"products": [None]}


def test_event_logs_can_be_queries_too(tmp_path: Path, sqlite: str) -> None:
    fill(sqlite, orders())
    events = (
        f"events:\n  extract: {query()}\n  type: view\n  columns: {{product_id: what, customer_id: who, time: at}}\n"
    )
    of = source(tmp_path, query(), asset=events)
    assert extract_days(of, now=NOW) == [DAYS[0], DAYS[1], DAYS[3]]
    (log,) = of.event_sources
    (file,) = log.files(DAYS[0])
    assert file.parent.name.startswith("events-")
    other = source(tmp_path, query(where="at >= :day AND at < :next_day AND price > 1"))
    assert other.landed_days() == [] and of.landed_days() != []  # days of different queries don't mix
