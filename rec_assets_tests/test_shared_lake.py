"""The whole graph with its lake in an object store: what comes out is what comes out on a disk."""

import datetime as dt
from pathlib import Path

import pytest
from upath import UPath

from rec_assets.resources.lake import Lake
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop
from rec_assets_tests.test_end_to_end import RELEASE

BY_SPARK = {
    "als_model", "candidates", "co_purchase_graph", "hybrid_scores", "product_statistics", "products",
    "similar_products",
}  # fmt: skip
"""Tables whose files Spark writes on a disk, and Arrow in a store: the same rows, in other bytes."""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_bootstrap_on_s3_makes_what_it_makes_on_a_disk(shop: BootstrappedShop, bucket: UPath, tmp_path: Path) -> None:
    root = bucket / "bootstrapped"
    shared = Shop(tmp_path / "home", shop.source, settings={**SMALL, "REC_LAKE": str(root)})
    made = shared.run("bootstrap", timeout=1000)
    assert made.returncode == 0, made.stderr[-3000:]
    assert not (shared.home / "lake").exists()

    lake, tables = Lake(root), {path.name for path in shop.lake.root.iterdir() if path.name[0] != "."}
    assert {path.name for path in root.iterdir()} == tables
    for table in sorted(tables - set(RELEASE)):
        days: list[dt.date | None] = [*shop.lake.days(table)] or [None]
        assert ([*lake.days(table)] or [None]) == days, table
        for day in days:
            if table not in BY_SPARK:
                assert lake.fingerprint(table, [day]) == shop.lake.fingerprint(table, [day]), (table, day)
                continue
            found, expected = (each.read(table, [day] if day else None) for each in (lake, shop.lake))
            assert found.schema.types == expected.schema.types, (table, day)
            assert found.to_pylist() == expected.to_pylist(), (table, day)

    again = shared.run("bootstrap", timeout=300)
    steps = [line for line in again.stderr.splitlines() if line.startswith("[")]
    assert len(steps) == 11 and all(line.endswith("up to date") for line in steps), steps
    customer = lake.pandas("hybrid_scores", lake.days("hybrid_scores")[-1:])["customer_id"].iloc[0]
    assert shared.run("recommend", customer, "--json").stdout == shop.run("recommend", customer, "--json").stdout
