"""The merchandiser's rules on one day of the graph: made into arrays, and joined with what customers have seen."""

import datetime as dt

import pandas as pd
from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from rec_assets.assets.state import unlearned_state
from rec_assets.recsys.rules.rulebook import Rulebook, rulebook_of
from rec_assets.recsys.rules.spec import read_rules
from rec_assets.recsys.scoring import with_resting
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings


def default_book(
    settings: Settings, day: dt.date, products: pd.DataFrame, product_statistics: pd.DataFrame
) -> Rulebook:
    """The rule set that counts, over the products known on a day.

    Raises:
        RulesError: the rules' file can't be used as it is.
    """
    rules = read_rules(settings.rules)
    return rulebook_of(rules, rules.default, unlearned_state(day, products, product_statistics))


def with_cap(candidates: SparkFrame, book: Rulebook, lake: Lake, day: dt.date) -> SparkFrame:
    """The candidates of a day with which of them rest (`Rulebook.rests`), by the events up to that day."""
    assert book.frequency_cap is not None
    most, last = book.frequency_cap
    days = [each for each in lake.days("raw_feedback_events") if 0 <= (day - each).days < last]
    if not days:
        return candidates.withColumn(book.rests, F.lit(False))
    events = lake.spark(candidates.sparkSession, "raw_feedback_events", days)
    return with_resting(candidates, events, most, book.rests)
