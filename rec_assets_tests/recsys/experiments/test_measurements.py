"""Measurements of units, compared with counts by hand."""

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from rec_assets.recsys.experiments.experiment_metrics import MEASUREMENTS, Totals
from rec_assets.recsys.experiments.experiments_file import Experiment
from rec_assets.recsys.experiments.measurements import (
    measure_units,
    moments_by_variant,
    totals_by_variant,
    versions_by_variant,
)
from rec_assets.recsys.experiments.moments import Moments

EXPOSURES = (
    "experiment string, variant string, recommendation_id string, time timestamp, customer_id string, "
    "session_id string, products array<string>, teams array<string>, simulated boolean, model_version int"
)
EVENTS = (
    "event_id string, type string, customer_id string, session_id string, product_id string, time timestamp, "
    "order_id string, quantity double, unit_price double, recommendation_id string, date date, "
    "sender string, received double"
)
BEFORE = "customer_id string, value double"


def at(day: int, hour: int = 12) -> dt.datetime:
    return dt.datetime(2026, 3, day, hour, tzinfo=dt.timezone.utc)


def experiment(**more: Any) -> Experiment:
    variants = {"a": {"share": 0.5}, "b": {"share": 0.5}}
    fields = {"name": "test", "start": "2026-03-02", "end": "2026-03-20", "attribution_days": 7, "variants": variants}
    return Experiment.model_validate({**fields, **more})


def shown(
    who: str, variant: str, answer: str, day: int, *, name: str = "test", teams: str = "", session: str | None = None
) -> tuple[Any, ...]:
    return (name, variant, answer, at(day), who, session, ["tea", "mug"], list(teams), False, day)


class Log:
    """Events, each with a new id."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def add(self, kind: str, who: str | None, product: str, day: int, hour: int = 13, **more: Any) -> None:
        time = at(day, hour)
        quantity = float(more["quantity"]) if "quantity" in more else None
        about = [more.get("order"), quantity, more.get("price"), more.get("answer")]
        self.rows.append(
            (
                f"e{len(self.rows)}",
                kind,
                who,
                more.get("session"),
                product,
                time,
                *about,
                time.date(),
                more.get("sender"),
                more.get("received", 1.0),
            )
        )


def found(
    spark: SparkSession,
    exposures: list[tuple[Any, ...]],
    log: Log,
    before: list[tuple[str, float]] | None = None,
    max_products: int = 300,
    **more: Any,
) -> DataFrame:
    return measure_units(
        experiment(**more),
        spark.createDataFrame(exposures, EXPOSURES),
        spark.createDataFrame(log.rows, EVENTS),
        spark.createDataFrame(before or [], BEFORE),
        max_products,
    )


def by_unit(units: DataFrame) -> pd.DataFrame:
    return units.toPandas().set_index("unit").sort_index()


def test_events_count_for_their_response_and_purchases_for_the_days_after_it(spark: SparkSession) -> None:
    exposures = [shown("ann", "a", "r1", 2), shown("ann", "a", "r2", 10), shown("bob", "b", "r3", 5),
                 shown("bob", "x", "r9", 5, name="other")]  # fmt: skip
    log = Log()
    for product in ("tea", "mug"):
        log.add("impression", "ann", product, 2, answer="r1")
    log.add("click", "ann", "tea", 2, answer="r1")
    log.add("click", "ann", "tea", 2)  # not in a response
    log.add("click", "bob", "tea", 5, answer="r9")  # in a response of another experiment
    log.add("cart", "ann", "tea", 2, answer="r1")
    log.add("purchase", "ann", "tea", 2, 11, order="o0", quantity=1, price=5.0)  # before the first response
    log.add("purchase", "ann", "tea", 9, 12, order="o1", quantity=2, price=5.0)  # the last moment of seven days
    log.add("purchase", "ann", "jam", 9, 12, order="o1", price=3.0)  # the same order
    log.add("purchase", "ann", "tea", 9, 13, order="o2", quantity=1, price=5.0)  # too late for r1, too early for r2
    log.add("purchase", "ann", "mug", 11, order="o3", quantity=1)  # without a price
    log.add("purchase", "cleo", "mug", 11, order="o4", quantity=1, price=1.0)  # never exposed
    log.add("return", "ann", "tea", 30, order="o1", quantity=1, price=5.0)  # late return of a purchase that counts
    log.add("return", "ann", "tea", 30, order="o2", quantity=1, price=5.0)  # return of a purchase that does not count
    log.add("return", "ann", "jam", 30)  # without order, quantity and price
    units = found(spark, exposures, log, [("ann", 20.0), ("ann", 5.0), ("cleo", 9.0)])
    rows = by_unit(units)
    assert rows["variant"].to_dict() == {"ann": "a", "bob": "b"}
    ann = {"impressions": 2, "clicks": 1, "carts": 1, "orders": 2, "revenue": 13, "returned": 8, "buyer": 1,
           "repeater": 1, "prior_spend": 25}  # fmt: skip
    assert rows.loc["ann", list(MEASUREMENTS)].to_dict() == ann
    assert (rows.loc["bob", list(MEASUREMENTS)] == 0).all()
    assert totals_by_variant(units) == {
        "a": Totals(
            exposures=2, units=1, impressions=2, clicks=1, carts=1, purchases=3, returns=2, revenue=13.0, returned=8.0,
            unpriced=1,
        ),
        "b": Totals(exposures=1, units=1),
    }  # fmt: skip


def test_an_event_without_a_customer_belongs_to_the_unit_of_its_response(spark: SparkSession) -> None:
    log = Log()
    log.add("purchase", None, "tea", 3, session="s1", order="o1", price=5.0, answer="r1")
    log.add("return", None, "tea", 4, session="s1", order="o1", answer="r1")
    row = by_unit(found(spark, [shown("ann", "a", "r1", 2)], log)).loc["ann"]
    assert (row["orders"], row["revenue"], row["returned"]) == (1, 5, 5)


def test_purchases_and_returns_from_a_public_key_do_not_count(spark: SparkSession) -> None:
    log = Log()
    for product in ("tea", "mug"):
        log.add("click", "ann", product, 3, answer="r1", sender="of ann")
    log.add("purchase", "ann", "tea", 3, order="o1", price=5.0)
    log.add("purchase", "ann", "mug", 3, order="o2", price=1e9, answer="r1", sender="of ann")
    log.add("return", "ann", "tea", 4, order="o1", price=1e9, sender="of ann")
    units = found(spark, [shown("ann", "a", "r1", 2)], log)
    row = by_unit(units).loc["ann"]
    assert (row["clicks"], row["orders"], row["revenue"], row["returned"]) == (2, 1, 5, 0)
    assert (totals_by_variant(units)["a"].purchases, totals_by_variant(units)["a"].returns) == (1, 0)


def test_sessions_can_be_units(spark: SparkSession) -> None:
    exposures = [shown("ann", "a", "r1", 2, session="s1"), shown("ann", "b", "r2", 3, session="s2"),
                 shown("ann", "b", "r3", 3)]  # fmt: skip
    log = Log()
    log.add("purchase", "ann", "tea", 3, session="s2", order="o1", price=5.0)
    log.add("purchase", "ann", "tea", 3, order="o2", price=7.0)  # without a session
    rows = by_unit(found(spark, exposures, log, [("ann", 9.0)], unit="session"))
    assert rows["revenue"].to_dict() == {"s1": 0, "s2": 5}
    assert (rows["prior_spend"] == 0).all()


def test_robots_and_units_with_two_variants_are_excluded_from_comparisons(spark: SparkSession) -> None:
    exposures = [shown(who, "a", f"r{who}", 2) for who in ("ann", "bob", "bot", "both")]
    exposures += [shown("both", "b", "r9", 3), shown("cleo", "b", "r10", 2)]
    log = Log()
    for number in range(5):
        log.add("click", "bot", f"p{number}", 2, answer="rbot")
        log.add("click", "ann", f"p{number}", 2 + number, answer="rann")  # the same number, on several days
    units = found(spark, exposures, log, max_products=3)
    assert by_unit(units)["robot"].to_dict() == {"ann": False, "bob": False, "bot": True, "both": False, "cleo": False}
    totals = sum(totals_by_variant(units).values(), Totals())
    assert (totals.units, totals.robots, totals.switched, totals.clicks) == (5, 1, 1, 10)
    moments = moments_by_variant(units)
    assert {name: each.units for name, each in moments.items()} == {"a": 2, "b": 1}
    assert moments["a"].total("clicks") == 5


def test_sums_in_spark_agree_with_the_units(spark: SparkSession) -> None:
    exposures, log = [shown(f"c{n}", "ab"[n % 2], f"r{n}", 2) for n in range(40)], Log()
    rng = np.random.default_rng(1)
    for n in range(40):
        for _ in range(rng.integers(0, 4)):
            log.add("click", f"c{n}", "tea", 2, answer=f"r{n}")
            log.add("purchase", f"c{n}", "tea", 3, price=float(rng.integers(1, 9)))
    units = found(spark, exposures, log, [(f"c{n}", float(n)) for n in range(40)])
    rows = by_unit(units)
    for name, moments in moments_by_variant(units).items():
        expected = Moments.from_units(rows.loc[rows["variant"] == name, list(moments.names)])
        np.testing.assert_allclose(moments.gram, expected.gram)


def test_clicks_in_interleaved_responses_count_for_the_ranking_that_added_the_product(spark: SparkSession) -> None:
    exposures = [shown("ann", "a", "r1", 2, teams="ab"), shown("bob", "b", "r2", 2, teams="ba")]
    log = Log()
    log.add("click", "ann", "tea", 2, answer="r1")
    log.add("click", "ann", "mug", 2, answer="r1")
    log.add("click", "bob", "tea", 2, answer="r2")
    log.add("click", "bob", "jam", 2, answer="r2")  # not in the response
    rows = by_unit(found(spark, exposures, log, design="interleave"))
    assert rows["treatment_clicks"].to_dict() == {"ann": 1, "bob": 1}
    assert rows["interleaved_clicks"].to_dict() == {"ann": 2, "bob": 1}
    assert rows["clicks"].to_dict() == {"ann": 2, "bob": 2}


def test_model_versions_are_those_that_made_responses(spark: SparkSession) -> None:
    exposures = [shown("ann", "a", "r1", 3), shown("bob", "a", "r2", 2), shown("cleo", "b", "r3", 2),
                 shown("dan", "a", "r4", 9, name="other")]  # fmt: skip
    assert versions_by_variant(experiment(), spark.createDataFrame(exposures, EXPOSURES)) == {"a": [2, 3], "b": [2]}


def test_an_experiment_without_responses_has_no_totals(spark: SparkSession) -> None:
    units = found(spark, [], Log())
    assert totals_by_variant(units) == {} and moments_by_variant(units) == {}
