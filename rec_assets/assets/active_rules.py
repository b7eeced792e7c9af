"""The merchandising rules that apply to a day's lists."""

import datetime as dt

from pyspark.sql import DataFrame as SparkFrame
from pyspark.sql import functions as F

from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.ranking.in_spark import with_frequency_capped
from rec_assets.recsys.rules.compiled import CompiledRules, compile_rules
from rec_assets.recsys.rules.rules_file import read_rules
from rec_assets.resources.lake import Lake
from rec_assets.settings import Settings


def active_rules(settings: Settings, snapshot: ProductSnapshot) -> CompiledRules:
    """The default rule set, compiled for the products of a day.

    Raises:
        RulesError: the file of the rules is invalid.
    """
    rules = read_rules(settings.rules)
    return compile_rules(rules, rules.default, snapshot)


def add_frequency_capped(candidates: SparkFrame, rules: CompiledRules, lake: Lake, day: dt.date) -> SparkFrame:
    """Add a boolean column to a day's candidates: which of them the frequency cap removes, by the events so far."""
    assert rules.frequency_cap is not None
    max_impressions, window = rules.frequency_cap
    days = [event_day for event_day in lake.table("raw_feedback_events").days if 0 <= (day - event_day).days < window]
    if not days:
        return candidates.withColumn(rules.frequency_cap_column, F.lit(False))
    events = lake.table("raw_feedback_events").spark(candidates.sparkSession, days)
    return with_frequency_capped(candidates, events, max_impressions, rules.frequency_cap_column)
