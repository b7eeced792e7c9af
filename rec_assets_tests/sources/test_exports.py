"""The examples of docs/exports.md, with small exports."""

import datetime as dt
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rec_assets.recsys.data.cleaning import CleaningSettings, clean_day
from rec_assets.sources.check import check_source
from rec_assets.sources.reader import read_day, read_export
from rec_assets.sources.spec import load_data_source

pytestmark = pytest.mark.integration

DOC = Path(__file__).resolve().parents[2] / "docs" / "exports.md"


def example(name: str) -> str:
    blocks = re.findall(r"^```\w+\n(.*?)^```", DOC.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if block.startswith(f"# {name}"))


def purchases(folder: Path, name: str) -> list[tuple[str, str, str, float]]:
    """Purchases that are not returned, read with an example of the docs."""
    (folder / name).write_text(example(name), encoding="utf-8")
    source = load_data_source(str(folder / name), folder)
    assert check_source(source).ok
    day = dt.date(2024, 2, 1)
    days = {day: read_day(source, day)} if source.is_daily else read_export(source)
    rules = CleaningSettings(source.time_zone, source.has_price)
    lines = pd.concat([clean_day(table.to_pandas(), day, rules).cleaned for day, table in days.items()])
    lines = lines[(lines["event"] == "purchase") & (lines["net_quantity"] > 0)]
    return list(lines[["order_id", "customer_id", "product_id", "unit_price"]].itertuples(index=False, name=None))


def test_shopify(tmp_path: Path) -> None:
    (tmp_path / "orders_export.csv").write_text(
        "Name,Email,Financial Status,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Vendor\n"
        "#1,a@x.com,paid,2024-01-05 10:00:00 -0500,1,Tee,20.00,T1,Acme\n"
        "#1,a@x.com,,2024-01-05 10:00:00 -0500,1,Hat,9.00,H1,Acme\n"
        "#2,a@x.com,refunded,2024-01-06 10:00:00 -0500,1,Tee,20.00,T1,Acme\n"
        "#2,a@x.com,,2024-01-06 10:00:00 -0500,1,Hat,9.00,H1,Acme\n"
    )
    assert purchases(tmp_path, "shopify.yaml") == [("#1", "a@x.com", "T1", 20), ("#1", "a@x.com", "H1", 9)]


def test_woocommerce(tmp_path: Path) -> None:
    orders = [
        {"id": number, "status": status, "date_created_gmt": "2024-01-05T10:00:00", "customer_id": 0,
         "billing": {"email": "a@x.com"},
         "line_items": [{"id": 1, "name": "Tee", "product_id": 93, "quantity": 1, "price": 20.5}]}
        for number, status in enumerate(("completed", "refunded", "failed"))
    ]  # fmt: skip
    (tmp_path / "orders.jsonl").write_text("\n".join(map(json.dumps, orders)))
    assert purchases(tmp_path, "woocommerce.yaml") == [("0", "a@x.com", "93", 20.5)]


def test_ga4(tmp_path: Path) -> None:
    micros = int(dt.datetime(2024, 2, 1, 12, tzinfo=dt.timezone.utc).timestamp() * 1_000_000) + 123_456
    item = {"item_id": "T1", "item_name": "Tee", "item_brand": "Acme", "item_category": "Tops", "price": 20.5,
            "quantity": "1"}  # fmt: skip
    events = [
        {"event_date": "20240201", "event_timestamp": str(micros), "event_name": name, "user_id": "ann",
         "user_pseudo_id": "1.2", "ecommerce": {"transaction_id": "t1"}, "items": [item]}
        for name in ("view_item", "purchase")
    ]  # fmt: skip
    (tmp_path / "ga4").mkdir()
    (tmp_path / "ga4" / "events_20240201.jsonl").write_text("\n".join(map(json.dumps, events)))
    assert purchases(tmp_path, "ga4.yaml") == [("t1", "ann", "T1", 20.5)]


def test_joined_tables(tmp_path: Path) -> None:
    tables = {
        "orders": "order_id,customer_id,order_status,order_purchase_timestamp\no1,c1,delivered,2017-01-05 10:00:00\n"
        "o2,c2,canceled,2017-01-06 10:00:00\n",
        "order_items": "order_id,order_item_id,product_id,price\no1,1,p1,9.90\no1,2,p1,9.90\no2,1,p1,9.90\n",
        "customers": "customer_id,customer_unique_id\nc1,ann\nc2,ann\n",
        "products": "product_id,product_category_name\np1,perfumaria\n",
    }
    for name, content in tables.items():
        (tmp_path / f"olist_{name}_dataset.csv").write_text(content)
    subprocess.run([sys.executable, "-c", example("join.py")], cwd=tmp_path, check=True, timeout=60)
    assert purchases(tmp_path, "olist.yaml") == [("o1", "ann", "p1", 9.9)] * 2


@pytest.mark.parametrize("name", ["shopify.yaml", "woocommerce.yaml", "ga4.yaml", "olist.yaml"])
def test_each_example_is_valid(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(example(name), encoding="utf-8")
    load_data_source(str(tmp_path / name), tmp_path)
