"""The daily partitions, and the windows of days that the assets of one day read.

Partition D holds the knowledge of all days up to and including D; only the catalog data of products are the current
ones. These mappings separate a model, its labels and its evaluation. Two assets split their own data by day:
`release_gate`, at the training day, and `tuned_recipe`, which tests recipes on past days.
"""

from __future__ import annotations

import datetime as dt

import dagster as dg

from rec_assets.recsys.evaluation.kpis import ATTRIBUTION_DAYS, PERIOD_DAYS
from rec_assets.recsys.experiments.experiments_file import COVARIATE_DAYS, MAX_EXPERIMENT_DAYS
from rec_assets.settings import Settings


class DayPartitions:
    """Partitions and partition mappings for one data source and one set of settings.

    Args:
        settings: The lengths of the windows.
        first, last: First and last day of data; without a last day, there is no end.

    Attributes:
        partitions: One partition per day.
        lookback: (D − lookback, D]: the interactions that models train on.
        model_window: (D − model_reuse_days, D]: before the first release, D uses the newest model of these days. Later,
            it uses the models of the active release, of any age.
        horizon_ago: D − horizon: the candidates and lists that are labeled and evaluated on D.
        label_window: (D − horizon, D]: the purchases that label and evaluate them.
        challenger_window: (D − gate_days − model_reuse_days, D]: the models that may become a challenger.
        gate_state_window: (D − gate_days − model_reuse_days, D − gate_days]: products and customers as of then. The
            first release, which has no purchases to compare models by, uses those of D.
        gate_window: (D − gate_days − model_reuse_days, D]: the purchases by which champion and challenger compare.
        served_window: (D − 1 − model_reuse_days, D − 1]: the newest lists of these days are what D's customers saw.
        kpi_window: (D − lookback, D], but at least one KPI period: the interactions that KPIs count.
        kpi_events_window: One KPI period, and the earlier days whose clicks it attributes purchases to.
        experiment_window: The days of traffic that an experiment report of D may count, with late events.
        covariate_window: experiment_window and the days before it, whose purchases are the covariate (CUPED).
        first: First day of data.
    """

    def __init__(self, settings: Settings, first: dt.date, last: dt.date | None) -> None:
        def window(start: int, end: int = 0) -> dg.TimeWindowPartitionMapping:
            return dg.TimeWindowPartitionMapping(start_offset=start, end_offset=end)

        end_date = (last + dt.timedelta(days=1)).isoformat() if last else None
        lookback, horizon = settings.lookback_days, settings.horizon_days
        reuse, gate = settings.model_reuse_days, settings.gate_days
        experiment_days = MAX_EXPERIMENT_DAYS + settings.api.event_retention_days
        # End with tomorrow in UTC, not with yesterday as by default: files may land in the evening, and east of
        # Greenwich a new day starts before it does in UTC.
        self.partitions = dg.DailyPartitionsDefinition(
            first.isoformat(), end_date=end_date, end_offset=0 if end_date else 2
        )
        self.lookback = window(1 - lookback)
        self.model_window = window(1 - reuse)
        self.horizon_ago = window(-horizon, -horizon)
        self.label_window = window(1 - horizon)
        self.challenger_window = window(1 - gate - reuse)
        self.gate_state_window = window(1 - gate - reuse, -gate)
        self.gate_window = window(1 - gate - reuse)
        self.served_window = window(-reuse, -1)
        self.kpi_window = window(1 - max(lookback, PERIOD_DAYS))
        self.kpi_events_window = window(1 - PERIOD_DAYS - ATTRIBUTION_DAYS)
        self.experiment_window = window(1 - experiment_days)
        self.covariate_window = window(1 - experiment_days - COVARIATE_DAYS)
        self.first, self._lookback_days, self._horizon_days = first, lookback, horizon

    def days_of_lookback(self, day: dt.date) -> list[dt.date]:
        """The days of `lookback` of a partition, from the first day of data on."""
        return self._days(self._lookback_days, day)

    def days_of_training(self, day: dt.date) -> list[dt.date]:
        """The days that the models of a day are trained on: its lookback, and that of the ranker's candidates."""
        return self._days(self._lookback_days + self._horizon_days, day)

    def _days(self, length: int, last: dt.date) -> list[dt.date]:
        return [day for age in reversed(range(length)) if (day := last - dt.timedelta(days=age)) >= self.first]


def as_of_day(context: dg.AssetExecutionContext) -> dt.date:
    """The as-of day of the partition that a step materializes."""
    return dt.date.fromisoformat(context.partition_key)


def partition_days(context: dg.AssetExecutionContext) -> list[dt.date]:
    """The days that a step materializes, if it may be a range of days."""
    return [dt.date.fromisoformat(key) for key in context.partition_keys]
