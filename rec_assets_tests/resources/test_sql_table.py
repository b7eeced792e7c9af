"""The SQL table of recommendations: all rows are replaced, or none."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from rec_assets.resources.sql_table import ExportError, replace_lists

DAY = dt.date(2024, 3, 1)
PASSWORD = "opensesame"


def lists(*customers: str) -> pa.Table:
    products = json.dumps(["A", "B-M"])
    return pa.table(
        {"customer_id": customers, "products": [products] * len(customers), "discover": ["[]"] * len(customers)}
    )


def rows(url: str, name: str = "recommendations") -> list[tuple[str, str]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(sa.text(f"SELECT customer_id, as_of FROM {name} ORDER BY customer_id")).all()
    engine.dispose()
    return [(customer, str(day)) for customer, day in found]


def check_replacement(url: str) -> None:
    assert replace_lists(url, "recommendations", DAY, [lists("ann", "bob"), lists("cid")]) == 3
    assert rows(url) == [("ann", "2024-03-01"), ("bob", "2024-03-01"), ("cid", "2024-03-01")]
    next_day = DAY + dt.timedelta(days=1)

    def fails() -> Iterator[pa.Table]:
        yield lists("dan")
        assert rows(url) == [("ann", "2024-03-01"), ("bob", "2024-03-01"), ("cid", "2024-03-01")]  # readers see the old
        yield lists("dan")  # the primary key is there already

    with pytest.raises(
        ExportError, match=r"the table recommendations can't be written, and is as it was: .*dan|UNIQUE"
    ):
        replace_lists(url, "recommendations", next_day, fails())
    assert len(rows(url)) == 3
    assert replace_lists(url, "recommendations", next_day, [lists("eve")]) == 1
    assert rows(url) == [("eve", "2024-03-02")]


def test_rows_are_replaced_all_at_once(tmp_path: Path) -> None:
    check_replacement(f"sqlite:///{tmp_path}/shop.db")


def test_rows_of_postgresql_are_replaced_all_at_once(database: str) -> None:
    check_replacement(database)


def test_many_rows_are_inserted_in_batches(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    assert replace_lists(url, "lists", DAY, [lists(*(f"c{number:05}" for number in range(12_000)))]) == 12_000
    assert len(rows(url, "lists")) == 12_000


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "REC_EXPORT__URL is not a SQLAlchemy URL"),
        (f"nodriver://u:{PASSWORD}@host/shop", r"nodriver://u:\*\*\*@host/shop"),
        (f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:1/shop", r"psycopg://u:\*\*\*@127.0.0.1:1/shop"),
        (f"postgresql+psycopg://127.0.0.1:1/shop?user=u&password={PASSWORD}", "psycopg://127.0.0.1:1/shop"),
        ("sqlite:////no/such/folder/shop.db", "unable to open database file"),
    ],
)
def test_an_error_never_has_the_password(url: str, message: str) -> None:
    with pytest.raises(ExportError, match=message) as error:
        replace_lists(url, "recommendations", DAY, [lists("ann")])
    assert PASSWORD not in str(error.value)


def test_a_table_with_other_columns_stays_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE recommendations (customer_id TEXT, as_of TEXT)"))
        connection.execute(sa.text("INSERT INTO recommendations VALUES ('ann', '2024-01-01')"))
    engine.dispose()
    with pytest.raises(ExportError, match="no column named products"):
        replace_lists(url, "recommendations", DAY, [lists("bob")])
    assert rows(url) == [("ann", "2024-01-01")]
