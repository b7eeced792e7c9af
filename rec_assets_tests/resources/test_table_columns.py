"""Every column that the UI shows has a description."""

from rec_assets.resources.data_versions import column_schema
from rec_assets_tests.conftest import BootstrappedShop


def test_every_column_of_every_table_has_a_description(shop: BootstrappedShop) -> None:
    tables = shop.lake.tables()
    assert len(tables) > 15
    missing = []
    for table in tables:
        rows = shop.lake.table(table).head(max(shop.lake.table(table).days, default=None), rows=1)
        missing += [
            f"{table}.{column.name}" for column in column_schema(table, rows.schema).columns if not column.description
        ]
    assert missing == []
