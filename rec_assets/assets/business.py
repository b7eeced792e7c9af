"""Group `experiments`: what recommendations are worth to the shop. Here its key figures."""

import datetime as dt

import numpy as np
import pandas as pd
from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    BackfillPolicy,
    Failure,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rec_assets.assets.ingestion import run_days
from rec_assets.assets.plots import as_markdown
from rec_assets.partitions import DayPartitions
from rec_assets.recsys.evaluation.kpis import ATTRIBUTION_DAYS, KPIS, PERIOD_DAYS
from rec_assets.recsys.evaluation.kpis import business_kpis as work_out
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import partition_metadata
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings

GROUP = "experiments"
OWNERS = ["team:recommendations"]

_DRAWN_DAYS = 365


def business_assets(settings: Settings, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets of the group."""

    @asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark", "parquet"}, partitions_def=days.partitions, code_version="1",
        backfill_policy=BackfillPolicy.single_run(),
        deps=[
            AssetDep("cleaned_interactions", partition_mapping=days.kpi_window),
            AssetDep("raw_feedback_events", partition_mapping=days.kpi_events_window),
            "products",
        ],
    )  # fmt: skip
    def business_kpis(
        context: AssetExecutionContext, lake: ResourceParam[Lake], spark: SparkResource
    ) -> MaterializeResult:
        """Order value, repeat purchases, returns, catalog use, the long tail: of the four weeks up to the day."""
        wanted, session = run_days(context), spark.spark_session
        least = days.first + dt.timedelta(days=PERIOD_DAYS - 1)
        if wanted[0] < least:
            raise Failure(
                f"key figures are of {PERIOD_DAYS} days, and {days.first} is the first day of data: materialize "
                f"business_kpis from {least} on"
            )
        lookback = max(settings.lookback_days, PERIOD_DAYS)
        lines = lake.spark(session, "cleaned_interactions", _window(wanted, lookback, days.first)).persist()
        heard = set(_window(wanted, PERIOD_DAYS + ATTRIBUTION_DAYS, days.first))
        events = lake.spark(session, "raw_feedback_events", sorted(heard & set(lake.days("raw_feedback_events"))))
        products = lake.spark(session, "products")
        for number, day in enumerate(wanted, start=1):
            begin = day - dt.timedelta(days=lookback - 1)
            known = lines.where(lines["date"].between(begin, day))
            figures = work_out(known, events.where(events["date"] <= day), products, day)
            manifest = lake.write("business_kpis", figures, day)
            values = figures.set_index("kpi")["value"].dropna()
            context.add_asset_metadata(
                {str(name): float(value) for name, value in values.items()}, partition_key=day.isoformat()
            )
            context.log.info(f"{day}, {number} of {len(wanted)}: {values['orders']:,.0f} orders in {PERIOD_DAYS} days")
        lines.unpersist()
        past = [day for day in lake.days("business_kpis") if day <= wanted[-1]][-_DRAWN_DAYS:]
        return MaterializeResult(
            metadata={
                **partition_metadata(lake, "business_kpis", wanted[-1], manifest),
                "figures": MetadataValue.md(kpi_table(figures)),
                "over_time": as_markdown(kpi_figure(lake.pandas("business_kpis", past))),
            }
        )

    return [business_kpis]


def kpi_table(figures: pd.DataFrame) -> str:
    """Figures of a day as Markdown: value, and what it divides by what."""

    def count(value: float) -> str:
        return "–" if np.isnan(value) else f"{value:,.0f}"

    rows = [
        f"| {KPIS[row['kpi']].title} | {_shown(row['kpi'], row['value'])} | {count(row['numerator'])} "
        f"| {count(row['denominator'])} |"
        for row in figures.to_dict("records")
    ]
    return "\n".join(
        [f"| {PERIOD_DAYS} days | value | numerator | denominator |", "| --- | ---: | ---: | ---: |", *rows]
    )


def kpi_figure(figures: pd.DataFrame) -> Figure:
    """Each figure over time: small plots side by side, of `date`, `kpi`, `value`."""
    columns = 3
    figure = Figure(figsize=(11, 1.7 * -(-len(KPIS) // columns)), layout="constrained")
    plots = figure.subplots(-(-len(KPIS) // columns), columns, squeeze=False, sharex=True).ravel()
    for axes, (name, kpi) in zip(plots, KPIS.items(), strict=False):
        rows = figures[figures["kpi"] == name].sort_values("date")
        days = pd.DatetimeIndex(rows["date"])
        axes.plot(days, rows["value"], linewidth=1, marker="." if len(rows) < 40 else None)
        axes.set_title(f"{kpi.title}, {kpi.unit}" if kpi.unit != "number" else kpi.title, loc="left", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
        axes.set_xticks(days[:: -(-len(days) // 4) or 1])
        if kpi.unit == "share":
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    figure.autofmt_xdate(rotation=0, ha="center")
    return figure


def _shown(name: str, value: float) -> str:
    if np.isnan(value):
        return "unknown"
    return f"{value:.2%}" if KPIS[name].unit == "share" else f"{value:,.2f}".removesuffix(".00")


def _window(wanted: list[dt.date], length: int, first: dt.date) -> list[dt.date]:
    """The days up to the last one wanted, from so many before the first one on."""
    begin = max(first, wanted[0] - dt.timedelta(days=length - 1))
    return [begin + dt.timedelta(days=i) for i in range((wanted[-1] - begin).days + 1)]
