"""The day partitions, and the windows of days that one day's assets read.

Partition D means "knowing all days up to and including D, and nothing later". A model, its training labels and its
judgment are told apart by these mappings alone; no asset splits its own data.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from dagster import DailyPartitionsDefinition, TimeWindowPartitionMapping

from rec_assets.recsys.evaluation.kpis import ATTRIBUTION_DAYS, PERIOD_DAYS
from rec_assets.recsys.experiments.spec import COVARIATE_DAYS, LONGEST_DAYS
from rec_assets.settings import Settings


@dataclass(frozen=True)
class DayPartitions:
    """Partitions and mappings for one source and one set of settings.

    Attributes:
        partitions: One partition a day.
        lookback: (D − lookback, D]: what models learn from.
        model_window: (D − reuse_days, D]: of which the newest that is there is used.
        horizon_ago: D − horizon: candidates and scores whose outcome is known on D.
        label_window: (D − horizon, D]: the purchases that label and judge them.
        challenger_window: (D − gate_days − reuse_days, D]: the models that may become a challenger.
        gate_window: (D − gate_days − lookback, D]: what a challenger and the champion know, and what judges them.
        served_window: (D − 1 − reuse_days, D − 1]: the lists that customers saw on D, of which the newest counts.
        kpi_window: (D − lookback, D], but at least a period of key figures: what these are counted in.
        kpi_events_window: A period of key figures and the days before it whose clicks count for it.
        experiment_window: The days of traffic that an experiment on D may count, late events included.
        covariate_window: These and the days before, whose purchases foretell those of an experiment.
        first: First day of data.
        lookback_length: Days in `lookback`.
    """

    partitions: DailyPartitionsDefinition
    lookback: TimeWindowPartitionMapping
    model_window: TimeWindowPartitionMapping
    horizon_ago: TimeWindowPartitionMapping
    label_window: TimeWindowPartitionMapping
    challenger_window: TimeWindowPartitionMapping
    gate_window: TimeWindowPartitionMapping
    served_window: TimeWindowPartitionMapping
    kpi_window: TimeWindowPartitionMapping
    kpi_events_window: TimeWindowPartitionMapping
    experiment_window: TimeWindowPartitionMapping
    covariate_window: TimeWindowPartitionMapping
    first: dt.date
    lookback_length: int

    def lookback_days(self, day: dt.date) -> list[dt.date]:
        """The days of `lookback` for a partition, none before the first day."""
        window = (day - dt.timedelta(days=i) for i in range(self.lookback_length - 1, -1, -1))
        return [past for past in window if past >= self.first]


def build_day_partitions(settings: Settings, first: dt.date, last: dt.date | None) -> DayPartitions:
    """The days from `first` to `last`, both included; open-ended without `last`."""
    end = (last + dt.timedelta(days=1)).isoformat() if last else None
    observed = LONGEST_DAYS + settings.api.keep_event_days
    return DayPartitions(
        # Up to tomorrow (Dagster's default ends with yesterday, by UTC): files may land in the evening, and east of
        # Greenwich tomorrow is today.
        partitions=DailyPartitionsDefinition(start_date=first.isoformat(), end_date=end, end_offset=0 if end else 2),
        lookback=TimeWindowPartitionMapping(start_offset=1 - settings.lookback_days, end_offset=0),
        model_window=TimeWindowPartitionMapping(start_offset=1 - settings.reuse_days, end_offset=0),
        horizon_ago=TimeWindowPartitionMapping(start_offset=-settings.horizon_days, end_offset=-settings.horizon_days),
        label_window=TimeWindowPartitionMapping(start_offset=1 - settings.horizon_days, end_offset=0),
        challenger_window=TimeWindowPartitionMapping(
            start_offset=1 - settings.gate_days - settings.reuse_days, end_offset=0
        ),
        gate_window=TimeWindowPartitionMapping(
            start_offset=1 - settings.gate_days - settings.lookback_days, end_offset=0
        ),
        served_window=TimeWindowPartitionMapping(start_offset=-settings.reuse_days, end_offset=-1),
        kpi_window=TimeWindowPartitionMapping(start_offset=1 - max(settings.lookback_days, PERIOD_DAYS), end_offset=0),
        experiment_window=TimeWindowPartitionMapping(start_offset=1 - observed, end_offset=0),
        covariate_window=TimeWindowPartitionMapping(start_offset=1 - observed - COVARIATE_DAYS, end_offset=0),
        kpi_events_window=TimeWindowPartitionMapping(start_offset=1 - PERIOD_DAYS - ATTRIBUTION_DAYS, end_offset=0),
        first=first,
        lookback_length=settings.lookback_days,
    )
