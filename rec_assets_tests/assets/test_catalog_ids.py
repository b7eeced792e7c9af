"""A new catalog: which of its changes make cleaned days stale."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import dagster as dg
import pytest

from rec_assets.automation.plan import PlannedRun
from rec_assets.automation.plan_execution import day_range_tags
from rec_assets.automation.staleness import StalenessChecker
from rec_assets.definitions import build_definitions
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import Settings
from rec_assets.sources.spec import load_data_source

pytestmark = pytest.mark.integration

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 2)
YAML = """
purchases: {path: "{date:%Y-%m-%d}.csv", columns: {customer_id: buyer, product_id: sku, time: at}}
catalog:
  path: catalog.csv
  exclude: {group: [service]}
  columns: {product_id: sku, variant_of: style, stock: units, price: price}
"""
CATALOG = """sku,style,group,units,price
A-M,A,shirts,5,10
A-L,A,shirts,0,10
B,,service,1,3
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "is_stale"),
    [
        ((",5,10", ",0,12"), False),  # stock and price
        (("A-M,A,shirts,5,10\nA-L,A,shirts,0,10", "A-L,A,shirts,0,10\nA-M,A,shirts,5,10\nC,,shirts,1,1"), False),
        (("A-L,A,shirts,0,10\nB,,service,1,3\n", ""), False),  # discontinued
        (("A-L,A,", "A-L,,"), True),
        (("B,,service", "B,,shirts"), True),
    ],
)
def test_cleaned_days_are_stale_after_changes_that_cleaning_sees(
    tmp_path: Path, change: tuple[str, str], is_stale: bool
) -> None:
    (tmp_path / "shop.yaml").write_text(YAML, encoding="utf-8")
    (tmp_path / "catalog.csv").write_text(CATALOG, encoding="utf-8")
    for day in (FIRST, LAST):
        (tmp_path / f"{day}.csv").write_text(
            f"buyer,sku,at\nann,A-M,{day} 10:00\nann,B,{day} 10:00\n", encoding="utf-8"
        )
    settings = Settings(home=tmp_path / "home", source=str(tmp_path / "shop.yaml"))
    definitions, instance = build_definitions(settings), dg.DagsterInstance.ephemeral()
    lake, ingest = Lake(settings.home / "lake"), PlannedRun("ingest", FIRST, LAST)

    def run(job: str, tags: dict[str, str] | None = None) -> None:
        definitions.resolve_job_def(job).execute_in_process(instance=instance, tags=tags)

    def stale() -> bool:
        releases, source = (
            Releases(settings.mlflow_uri, settings.registered_model), load_data_source(settings.source, settings.root)
        )  # fmt: skip
        checker = StalenessChecker(definitions, instance, lake, releases, source, settings.feedback_landing)
        return bool(checker.stale_partitions(ingest))

    run("ingest_catalog")
    run("ingest", day_range_tags(FIRST, LAST))
    assert lake.table("cleaned_interactions").pandas([LAST])["product_id"].to_list() == ["A"] and not stale()
    assert change[0] in CATALOG
    (tmp_path / "catalog.csv").write_text(CATALOG.replace(*change), encoding="utf-8")
    run("ingest_catalog")
    assert stale() is is_stale
    (file,) = lake.table("catalog_ids").partitions[None].files
    Path(lake.path("catalog_ids", file.path)).unlink()
    run("ingest_catalog")
    assert lake.table("catalog_ids").is_intact()
