"""The export of lists: the same products and variants as the answers of the API."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from rec_assets.automation.plan import plan_bootstrap
from rec_assets.definitions import build_definitions
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.shown_lists import shown_lists
from rec_assets.recsys.rules.rules_file import EMPTY_RULE_SETS
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.serving.engine import Engine
from rec_assets.serving.index_files.index import Index
from rec_assets.serving.index_files.stored import StoredHistories
from rec_assets.serving.recommendation import RecommendationRequest
from rec_assets.settings import Settings
from rec_assets_tests.serving import shop
from rec_assets_tests.serving.conftest import index  # noqa: F401 - a fixture

SIZE = 8


def with_returns(reason_is_size: bool) -> pd.DataFrame:
    """Histories in which a customer sent back all that has sizes."""
    bought = shop.histories()
    is_large = (bought["customer_id"] == shop.LARGE) & bought["variant_id"].notna()
    return pd.concat([bought, bought[is_large].assign(weight=-1.0, wrong_size=reason_is_size)], ignore_index=True)


def exported(
    spark: SparkSession, snapshot: ProductSnapshot, made: pd.DataFrame, bought: pd.DataFrame
) -> dict[str, dict[str, list[str]]]:
    scores = spark.createDataFrame(made[["customer_id", "list", "rank", "product_id"]])
    histories = spark.createDataFrame(bought[["customer_id", "product_id", "variant_id", "weight", "wrong_size"]])
    rows = shown_lists(*(LazyArrowRows.from_frame(frame) for frame in (scores, histories)), snapshot, SIZE).to_spark()
    return {
        row.customer_id: {"all": json.loads(row.products), "discover": json.loads(row.discover)}
        for row in rows.collect()
    }


@pytest.mark.parametrize("stock", ["all", "some"])
@pytest.mark.parametrize("reason_is_size", [True, False])
def test_the_export_has_what_the_api_shows(
    spark: SparkSession,
    tmp_path: Path,
    index: Index,  # noqa: F811
    reason_is_size: bool,
    stock: str,
) -> None:
    snapshot, histories = index.snapshot, with_returns(reason_is_size)
    if stock == "some":
        without = [each.replace('-M"', '-M", "in_stock": false') for each in snapshot.variants_json]
        in_stock = ~pd.Index(snapshot.product_ids).isin(["p00", "p03", "p07"])
        snapshot = replace(snapshot, in_stock=in_stock, variants_json=np.array(without, object))
    stored = StoredHistories.from_lines(histories, snapshot)
    published = shop.publish(tmp_path / "serving", replace(index, snapshot=snapshot, histories=stored))
    engine = Engine(published, EMPTY_RULE_SETS)
    found = exported(spark, snapshot, shop.lists(snapshot, index.ranker), histories)
    customers = [each.decode() for each in stored.customers]
    assert sorted(found) == customers
    for customer in customers:
        for mode in ("all", "discover"):
            answer = engine.respond(RecommendationRequest(k=SIZE, customer_id=customer, mode=mode), frozenset()).items
            shown = [item.variant_id or item.product_id for item in answer]
            of_export = found[customer][mode]
            # The API fills a list that is cut by stock; the export ends.
            assert of_export == shown[: len(of_export)] and len(of_export) >= SIZE - 4
    sizes = {each.partition("-")[2] for shown in found[shop.LARGE].values() for each in shown} - {""}
    if stock == "all":
        assert sizes == ({"M"} if reason_is_size else {"L"}), "the best seller, or the size that only the reason saves"


def test_the_export_is_there_if_the_settings_name_a_database(tmp_path: Path) -> None:
    days = dt.date(2017, 1, 1), dt.date(2017, 12, 31)
    with_url = Settings(home=tmp_path, export={"url": "sqlite:///shop.db"})  # type: ignore[arg-type]
    for settings, is_there in ((Settings(home=tmp_path), False), (with_url, True)):
        jobs = [run.job for run in plan_bootstrap(*days, settings)]
        assert (jobs[-1] == "export") == is_there
        names = {key.path[-1] for key in build_definitions(settings).resolve_asset_graph().get_all_asset_keys()}
        assert ("recommendations_export" in names) == is_there
        assert "shop.db" not in repr(settings)
