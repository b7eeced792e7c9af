"""All assets with the lake in an object store: the results are the same as on disk."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from rec_assets.resources.lake import Lake
from rec_assets_tests.conftest import SMALL, BootstrappedShop, Shop
from rec_assets_tests.test_end_to_end import RELEASE

pytestmark = pytest.mark.long

EXACT_BY_SPARK = {"co_purchase_graph", "product_statistics", "products"}
"""Tables that Spark computes. It reads the files in another order, so their rows may be in other files."""

BY_ALS = {"als_model", "candidates", "hybrid_scores", "ranker", "similar_products", "evaluation_report"}
"""Tables that depend on ALS. The last bits of its sums depend on the order in which Spark reads files of the same size,
and on a disk that order depends on the name of the folder."""


@pytest.mark.timeout(1500)
def test_a_bootstrap_on_s3_gives_the_results_of_a_disk(shop: BootstrappedShop, bucket: UPath, tmp_path: Path) -> None:
    root = bucket / "bootstrapped"
    shared = Shop(tmp_path / "home", shop.source, settings={**SMALL, "REC_LAKE": str(root)})
    made = shared.run("bootstrap", timeout=1000)
    assert made.returncode == 0, made.stderr[-3000:]
    assert not (shared.home / "lake").exists()

    lake, tables = Lake(root), set(shop.lake.tables())
    assert set(lake.tables()) == tables
    for table in sorted(tables - set(RELEASE)):
        days: list[dt.date | None] = [*shop.lake.table(table).days] or [None]
        assert ([*lake.table(table).days] or [None]) == days, table
        for day in days:
            if table not in EXACT_BY_SPARK | BY_ALS:
                assert lake.table(table).fingerprint([day]) == shop.lake.table(table).fingerprint([day]), (table, day)
                continue
            found, expected = (each.table(table).read([day] if day else None) for each in (lake, shop.lake))
            assert found.schema.types == expected.schema.types, (table, day)
            if table in EXACT_BY_SPARK:
                assert found.to_pylist() == expected.to_pylist(), (table, day)

    newest = shop.lake.table("hybrid_scores").days[-1:]
    on_s3, on_disk = (each.table("als_model").pandas(newest) for each in (lake, shop.lake))
    assert on_s3["id"].tolist() == on_disk["id"].tolist()
    assert np.allclose(np.stack(on_s3["factors"]), np.stack(on_disk["factors"]), atol=1e-4)
    keys = ["customer_id", "product_id", "list"]
    on_s3, on_disk = (each.table("hybrid_scores").pandas(newest).set_index(keys)["score"] for each in (lake, shop.lake))
    both = on_s3.index.intersection(on_disk.index)
    assert len(both) > 0.98 * max(len(on_s3), len(on_disk))
    assert np.abs(on_s3[both] - on_disk[both]).median() < 1e-4

    again = shared.run("bootstrap", timeout=300)
    steps = [line for line in again.stderr.splitlines() if line.startswith("[")]
    assert len(steps) == 12 and all(line.endswith("up to date") for line in steps), steps
    customer = lake.table("hybrid_scores").pandas(lake.table("hybrid_scores").days[-1:])["customer_id"].iloc[0]
    assert len(json.loads(shared.run("recommend", customer, "--json").stdout)) == 10
