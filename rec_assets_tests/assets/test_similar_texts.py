"""The asset `similar_texts`: what it keeps from run to run, and that the product snapshot uses it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from rec_assets.definitions import build_definitions
from rec_assets.recsys.data import similar_texts as module
from rec_assets.recsys.data.snapshot_table import from_table
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings
from rec_assets_tests.shops import write_giftware_shop
from rec_assets_tests.two_tastes import FIRST

pytestmark = pytest.mark.integration

TEXTS, DAY = 300, FIRST + dt.timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", source=str(write_giftware_shop(tmp_path)))


def write_products(lake: Lake, numbers: range) -> None:
    """One text per product, in 20 clusters."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 8))[np.arange(TEXTS) % 20] + 0.2 * rng.normal(size=(TEXTS, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"p{number:03}" for number in range(TEXTS)]
    frame = pd.DataFrame({"product_id": ids, "title": ids, "category": "a", "brand": "b", "text": ids, "price": 1.0})
    frame = frame.assign(content_hash=ids, first_seen=FIRST, in_catalog=True, excluded=False)
    lake.write("products", frame.iloc[numbers.start : numbers.stop].reset_index(drop=True))
    lake.write("product_embeddings", pd.DataFrame({"content_hash": ids, "vector": list(vectors)}))


def materialize(settings: Settings, job: str, asset: str, day: dt.date | None = None) -> dict[str, object]:
    resolved = build_definitions(settings).resolve_job_def(job)
    with dg.DagsterInstance.ephemeral() as instance:
        result = resolved.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(asset)], partition_key=str(day) if day else None
        )
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_few_texts_are_not_kept(settings: Settings) -> None:
    lake = Lake(settings.lake)
    write_products(lake, range(TEXTS))
    assert materialize(settings, "update_products", "similar_texts")["texts"] == 0
    assert materialize(settings, "update_products", "similar_texts")["texts"] == 0
    assert lake.table("similar_texts").pandas().empty


def test_what_is_kept_is_updated_and_used_by_the_snapshot(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(settings.lake)
    monkeypatch.setattr(module, "MAX_EXACT_TEXTS", 100)
    write_products(lake, range(TEXTS - 6))
    first = materialize(settings, "update_products", "similar_texts")
    assert (first["texts"], first["changed"]) == (TEXTS - 6, 0)
    monkeypatch.setattr(module, "_by_index", lambda *_: pytest.fail("all texts are looked up"))
    write_products(lake, range(4, TEXTS))
    second = materialize(settings, "update_products", "similar_texts")
    assert (second["texts"], second["changed"]) == (TEXTS - 4, 10)
    kept = module.SimilarTexts.from_table(lake.table("similar_texts").read())
    assert kept is not None
    ids = [f"p{number:03}" for number in range(5)]
    counts = ("order_lines", "recent_order_lines", "recent_buyers", "new_buyers", "buyers", "returns")
    statistics = pd.DataFrame({"product_id": ids, **dict.fromkeys(counts, 1), "repeat_share": 0.0})
    lake.write("product_statistics", statistics.assign(interval_days=np.nan, price=1.0), DAY)
    factors = pd.DataFrame({"kind": "product", "id": ids, "factors": list(np.ones((5, 2), np.float32))})
    lake.write("als_model", factors, DAY)
    edges = {"kind": "ease", "product_id": ids[:1], "neighbor_id": ids[1:2], "weight": 1.0, "support": 3}
    lake.write("co_purchase_graph", pd.DataFrame(edges), DAY)
    materialize(settings, "generate_candidates", "product_snapshot", DAY)
    snapshot = from_table(lake.table("product_snapshot").read([DAY]), DAY)
    assert len(snapshot) == TEXTS - 4 and (snapshot.text_neighbors != kept.neighbors).nnz == 0
