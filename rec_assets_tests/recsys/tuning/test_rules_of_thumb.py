"""The profile of a shop, and the hyper-parameters that follow from it, for shops of different rhythm."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.tuning.rules_of_thumb import MAX_HALF_LIFE_DAYS, RULES, choose
from rec_assets.recsys.tuning.shop_profile import ShopProfile, profile_shop

GROCER = ShopProfile(customers=2454, days=41.4, interval_days=6.5, basket=11.9, repeat_share=0.39)
FASHION = ShopProfile(customers=2863, days=7.3, interval_days=24.0, basket=1.01, repeat_share=0.32)
BEAUTY = ShopProfile(customers=22363, days=4.3, interval_days=124.0, basket=1.6, repeat_share=0.0)
FURNITURE = ShopProfile(customers=400, days=1.2, interval_days=1500.0, basket=2.5, repeat_share=0.01)


def test_the_profile_of_a_few_purchases(spark: SparkSession) -> None:
    rows = [
        ("ann", "tea", 30, 1.0), ("ann", "mug", 30, 1.0), ("ann", "tea", 20, 1.0), ("ann", "tea", 20, 1.0),
        ("ann", "pot", 6, 1.0), ("bob", "tea", 9, 1.0),
        ("bob", "mug", 3, 0.2), ("bob", "tea", 2, -1.0), ("cat", "pot", 1, 0.0),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["customer_id", "product_id", "age_days", "weight"])
    found = profile_shop(spark.createDataFrame(frame))
    # ann: days 30, 20 and 6 with 2, 1 and 1 products, of which one again; bob: one day; clicks and bulk orders not.
    assert found == ShopProfile(customers=2, days=2.0, interval_days=12.0, basket=1.25, repeat_share=pytest.approx(0.2))
    nothing = profile_shop(spark.createDataFrame(frame.iloc[-3:]))
    assert nothing.customers == 0 and math.isnan(nothing.interval_days) and "Nobody" in nothing.in_words()


def values(profile: ShopProfile) -> dict[str, float]:
    chosen = choose(profile)
    defaults = Recipe().fields()
    assert (chosen["default"] == [defaults[name] for name in chosen["name"]]).all()
    assert (chosen["value"] != chosen["default"]).all() and chosen["why"].str.endswith(".").all()
    found = dict(zip(chosen["name"], chosen["value"], strict=True))
    Recipe().with_fields(found)  # all values are allowed
    return found


def test_the_defaults_suit_a_grocer() -> None:
    assert values(GROCER) == {}
    assert values(replace(GROCER, interval_days=3.0)) == {}, "nobody buys more often than at a grocer"
    assert values(replace(GROCER, interval_days=9.0)) == {}, "small differences change nothing"


def test_half_lives_grow_with_the_time_between_purchases() -> None:
    names = [rule.name for rule in RULES if rule.name.endswith("half_life_days")]
    fashion, beauty, furniture = map(values, (FASHION, BEAUTY, FURNITURE))
    assert len(names) == 4
    for name in names:
        assert Recipe().fields()[name] < fashion[name] < beauty[name] <= furniture[name] <= MAX_HALF_LIFE_DAYS
    assert (fashion["als.half_life_days"], beauty["als.half_life_days"]) == (70, 380)


def test_small_baskets_need_less_support_and_more_orders() -> None:
    for shop in (FASHION, BEAUTY):
        assert (values(shop)["co_purchase.min_support"], values(shop)["co_purchase.next_orders"]) == (1, 5)
    assert (values(FURNITURE)["co_purchase.min_support"], values(FURNITURE)["co_purchase.next_orders"]) == (2, 2)


def test_a_shop_without_a_second_purchase_keeps_the_half_lives() -> None:
    once = replace(FASHION, days=1.0, interval_days=math.nan)
    assert values(once).keys() == {"co_purchase.min_support", "co_purchase.next_orders"}
    assert "in between" not in once.in_words() and "on 1.0 day each" in once.in_words()


def test_nothing_follows_from_a_few_customers() -> None:
    assert choose(replace(FASHION, customers=49)).empty
    assert list(choose(replace(FASHION, customers=49)).dtypes) == list(choose(FASHION).dtypes)
