"""The product catalog of a data source."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.sources.catalog import CATALOG_SCHEMA, read_catalog
from rec_assets.sources.errors import SourceError
from rec_assets_tests.sources.reading import shop, write

# The catalog

FIELDS = "{product_id: sku, title: name, price: price}"
CATALOG = f"catalog: {{path: products.csv, columns: {FIELDS}, exclude: {{kind: x}}}}"


def products(folder: Path, content: str | bytes, catalog: str = CATALOG) -> pd.DataFrame:
    write(folder, content, "products.csv")
    table = read_catalog(shop(folder, rest=catalog))
    assert table.schema.equals(CATALOG_SCHEMA)
    return table.to_pandas()


def test_the_catalog_has_one_row_per_product(tmp_path):
    result = products(
        tmp_path, f"sku,name,price,kind\n007,Tea,2.5,a\n008,Fee,,x\n,nothing,1,a\n007,Tea,2.5,a\n{'x' * 513},Long,1,a\n"
    )
    assert result["product_id"].to_list() == ["007", "008"]
    assert result["title"].to_list() == ["Tea", "Fee"]
    assert result["text"].to_list() == ["tea", "fee"]
    assert result["price"].iloc[0] == 2.5 and pd.isna(result["price"].iloc[1])
    assert result["excluded"].to_list() == [False, True]
    assert result["source_row"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "sku,name,price,kind\n7,Tea,1,a\n8,Fee,1,a\n7,Coffee,1,a\n",
            "product '7' is in rows 1, 3 with different",
        ),
        ("sku,name,price,kind\n7,Tea,dear,a\n", "column 'price': 1 of 1 values are not numbers"),
        ("sku,title,price,kind\n", "column 'name' is missing"),
        ("", "the file is empty"),
        ("sku,name,price,kind\n7,Käse,1,a\n".encode("latin-1"), "column 'name': not utf-8 text"),
    ],
)
def test_the_error_for_an_unusable_catalog_has_the_file_and_the_column(tmp_path, content, message):
    with pytest.raises(SourceError, match=r"products\.csv: ") as error:
        products(tmp_path, content)
    assert message in str(error.value)


def test_a_catalog_can_have_the_date_from_which_a_product_is_available(tmp_path):
    catalog = "catalog: {path: products.csv, columns: {product_id: sku, available_from: since}}"
    content = "sku,since\n1,2017-01-05\n2,2017-01-06T23:30:00-05:00\n3,\n4,2017-1\n"
    result = products(tmp_path, content, catalog)["available_from"]
    assert result.to_list()[:3] == [dt.date(2017, 1, 5), dt.date(2017, 1, 6), None]
    with pytest.raises(SourceError, match="column 'since': 1 of 1 values are not ISO dates"):
        products(tmp_path, "sku,since\n1,5.1.2017\n", catalog)


def test_without_a_catalog_the_table_is_empty(tmp_path):
    assert read_catalog(shop(tmp_path)).equals(CATALOG_SCHEMA.empty_table())
