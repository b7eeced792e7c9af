"""From the batch to the API and back: their lists agree, and a click in the shop raises a score."""

from __future__ import annotations

import datetime as dt
import json
import urllib.request
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser

from rec_assets.resources.lake import Lake
from rec_assets.serving.database.online_state import OnlineState
from rec_assets.serving.index_files.folder import ServingFolder
from rec_assets.serving.recommender import Recommender
from rec_assets_tests.conftest import SMALL, Shop
from rec_assets_tests.serving.demo_shop import DemoShop
from rec_assets_tests.shops import write_journey_slice

LAST = dt.date(2017, 10, 15)
HOUSEHOLDS = 300


def zone_where_it_is_noon() -> zoneinfo.ZoneInfo:
    """A time zone in which it is about noon now."""
    hours = 12 - dt.datetime.now(dt.timezone.utc).hour
    return zoneinfo.ZoneInfo(f"Etc/GMT{-hours:+d}" if hours else "Etc/GMT")


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A part of the demo shop, shifted so that its last day is today, with lists and a published index."""
    folder, zone = tmp_path_factory.mktemp("loop"), zone_where_it_is_noon()
    source = write_journey_slice(
        folder / "shop", HOUSEHOLDS, LAST - dt.timedelta(days=44), LAST,
        moved=dt.datetime.now(zone).date() - LAST, time_zone=zone.key,
    )  # fmt: skip
    settings = {name: value for name, value in SMALL.items() if not name.startswith("REC_RECIPE")}
    settings |= {"REC_HORIZON_DAYS": "7", "REC_LOOKBACK_DAYS": "30"}
    shop = Shop(folder / "home", source, settings=settings)
    made = shop.run("bootstrap")
    assert made.returncode == 0, made.stderr[-3000:]
    return shop


@pytest.fixture(scope="module")
def storefront(open_shop: Shop) -> Iterator[DemoShop]:
    limits = {
        "REC_API__REQUESTS_PER_SECOND": "1000000",
        "REC_API__BURST": "1000000",
    }  # the test asks for every list at once
    with DemoShop.run(open_shop.home, {**open_shop.environment, **limits}) as running:
        yield running


def newest_lists(shop: Shop) -> pd.DataFrame:
    lake = Lake(shop.home / "lake")
    return lake.table("hybrid_scores").pandas([max(lake.table("hybrid_scores").days)])


def score_of(lists: pd.DataFrame, customer: str, product: str) -> float:
    rows = lists[(lists["customer_id"] == customer) & (lists["product_id"] == product) & (lists["list"] == "discover")]
    return float(rows["score"].iloc[0])


@pytest.mark.slow
def test_the_api_and_a_new_ranking_agree_with_the_batch(open_shop: Shop, storefront: DemoShop) -> None:
    lists = newest_lists(open_shop)
    lists = lists[lists["rank"] <= 10]
    published = ServingFolder(open_shop.home / "serving").current()
    assert published is not None
    recommender = Recommender.load(published.path)
    online = OnlineState(f"sqlite:///{open_shop.home}/serving/online.db")
    key = online.add_key("test", ["read"], dt.datetime.now(dt.timezone.utc))
    online.close()
    customers = sorted(lists["customer_id"].unique())
    assert len(customers) > 200
    for (customer, name), batch in lists.groupby(["customer_id", "list"]):
        address = f"{storefront.address}/v1/customers/{customer}/recommendations?k=10&mode={name}"
        with urllib.request.urlopen(urllib.request.Request(address, headers={"X-API-Key": key})) as response:
            body: dict[str, Any] = json.load(response)
        items, ranked = pd.DataFrame(body["items"]), recommender.recommend(str(customer), 10, str(name))
        assert body["answered_by"] == "customer"
        for found in (items, ranked):
            for column in ("product_id", "source", "reason"):
                assert found[column].to_list() == batch[column].to_list(), (customer, name, column)
            assert found["score"].to_list() == pytest.approx(batch["score"].to_list(), abs=1e-5)


@pytest.mark.long
def test_a_click_in_the_shop_raises_the_products_score(open_shop: Shop, storefront: DemoShop, browser: Browser) -> None:
    before = newest_lists(open_shop)
    page = browser.new_page()
    page.goto(f"{storefront.address}/")
    page.locator("#for-you .name").first.wait_for()
    customer = page.locator("#customer").input_value()
    page.locator("#for-you a").nth(5).click()
    (click,) = storefront.wait_for("click")
    page.close()
    product = click["product_id"]
    assert click["customer_id"] == customer

    again = open_shop.run("bootstrap")
    assert again.returncode == 0, again.stderr[-3000:]

    today = dt.datetime.fromtimestamp(click["time"], zone_where_it_is_noon()).date()
    landed = open_shop.home / "landing" / "feedback_events" / f"date={today}" / "events.jsonl"
    assert click["event_id"] in landed.read_text()
    lake = Lake(open_shop.home / "lake")
    clicks = lake.table("cleaned_interactions").pandas([today])
    clicks = clicks[clicks["event"] == "click"]
    assert clicks[["customer_id", "product_id"]].to_numpy().tolist() == [[customer, product]]
    for table in ("als_model", "candidates", "hybrid_scores"):
        assert f"{table}: done" in again.stderr, table
    assert score_of(newest_lists(open_shop), customer, product) > score_of(before, customer, product)
