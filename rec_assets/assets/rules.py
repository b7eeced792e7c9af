"""The merchandiser's rules on one day of the graph: made into arrays, and joined with what customers have seen."""

import datetime as dt

import pandas as pd
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from rec_assets.assets.models_of_day import snapshot_without_models
from rec_assets.recsys.ranking.scoring import with_frequency_capped
from rec_assets.recsys.rules.compiled import CompiledRules, compile_rules
from rec_assets.recsys.rules.spec import read_rules
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings


def default_rules(
    settings: Settings, day: dt.date, products: pd.DataFrame, product_statistics: pd.DataFrame
) -> CompiledRules:
    """The rule set that counts, over the products known on a day.

    Raises:
        RulesError: the rules' file can't be used as it is.
    """
    rules = read_rules(settings.rules)
    return compile_rules(rules, rules.default, snapshot_without_models(day, products, product_statistics))


def with_frequency_cap(candidates: SparkFrame, book: CompiledRules, lake: Lake, day: dt.date) -> SparkFrame:
    """The candidates of a day with which of them rest (`Rulebook.rests`), by the events up to that day."""
    assert book.frequency_cap is not None
    most, last = book.frequency_cap
    days = [each for each in lake.days("raw_feedback_events") if 0 <= (day - each).days < last]
    if not days:
        return candidates.withColumn(book.rests, F.lit(False))
    events = lake.spark(candidates.sparkSession, "raw_feedback_events", days)
    return with_frequency_capped(candidates, events, most, book.rests)
