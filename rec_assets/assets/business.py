"""Asset group `business`: key performance indicators (KPIs) of the shop."""

import datetime as dt

import dagster as dg
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rec_assets.assets.plots import as_markdown
from rec_assets.partitions import DayPartitions, partition_days
from rec_assets.recsys.evaluation.kpis import ATTRIBUTION_DAYS, KPIS, LINE_COLUMNS, PERIOD_DAYS
from rec_assets.recsys.evaluation.kpis import business_kpis as compute_kpis
from rec_assets.resources.data_versions import DayWriter
from rec_assets.resources.lake import Lake
from rec_assets.resources.spark import SparkResource
from rec_assets.settings import Settings

GROUP = "business"
OWNERS = ["team:recommendations"]

_PLOTTED_DAYS = 365


def business_assets(settings: Settings, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"}, partitions_def=days.partitions, code_version="1",
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[
            dg.AssetDep("cleaned_interactions", partition_mapping=days.kpi_window),
            dg.AssetDep("raw_feedback_events", partition_mapping=days.kpi_events_window),
            "products",
        ],
    )  # fmt: skip
    def business_kpis(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource
    ) -> dg.MaterializeResult:
        """KPIs of the four weeks up to the day, such as order value, repeat purchases, returns and catalog coverage."""
        run_days, session = partition_days(context), spark.spark_session
        earliest = days.first + dt.timedelta(days=PERIOD_DAYS - 1)
        if run_days[0] < earliest:
            raise dg.Failure(
                f"a KPI needs {PERIOD_DAYS} days, and the first day of data is {days.first}: materialize business_kpis "
                f"from {earliest} on"
            )
        writer = DayWriter(context, lake, "business_kpis", run_days)
        lookback = max(settings.lookback_days, PERIOD_DAYS)
        all_lines = lake.table("cleaned_interactions")
        event_days = set(_window(run_days, PERIOD_DAYS + ATTRIBUTION_DAYS, days.first))
        all_events = lake.table("raw_feedback_events")
        known_days = sorted(event_days & set(all_events.days))
        events = all_events.spark(session, known_days) if all_events.rows(known_days) else None
        products = lake.table("products").pandas(columns=["product_id", "first_seen", "excluded"])
        for number, day in enumerate(run_days, start=1):
            lines = all_lines.lazy_rows(session, _window([day], lookback, days.first)).select(*LINE_COLUMNS)
            since = None if events is None else events.where(events["date"] <= day)
            kpis = compute_kpis(lines, since, products, day)
            values = kpis.set_index("kpi")["value"].dropna()
            writer.add(day, kpis, **{str(name): float(value) for name, value in values.items()})
            context.log.info(f"{day}, {number} of {len(run_days)}: {values['orders']:,.0f} orders")
        writer.commit()
        past = [day for day in lake.table("business_kpis").days if day <= run_days[-1]][-_PLOTTED_DAYS:]
        return writer.result(
            kpis=dg.MetadataValue.md(kpi_table(kpis)),
            over_time=as_markdown(kpi_figure(lake.table("business_kpis").pandas(past))),
        )

    return [business_kpis]


def kpi_table(kpis: pd.DataFrame) -> str:
    """KPIs of a day as a Markdown table with numerators and denominators."""

    def count(value: float) -> str:
        return "–" if np.isnan(value) else f"{value:,.0f}"

    table = [f"| {PERIOD_DAYS} days | value | numerator | denominator |", "| --- | ---: | ---: | ---: |"]
    for row in kpis.to_dict("records"):
        value, fraction = _format(row["kpi"], row["value"]), f"{count(row['numerator'])} | {count(row['denominator'])}"
        table.append(f"| {KPIS[row['kpi']].title} | {value} | {fraction} |")
    return "\n".join(table)


def kpi_figure(kpis: pd.DataFrame) -> Figure:
    """One small plot per KPI over time, from the columns `date`, `kpi` and `value`."""
    columns = 3
    figure = Figure(figsize=(11, 1.7 * -(-len(KPIS) // columns)), layout="constrained")
    plots = figure.subplots(-(-len(KPIS) // columns), columns, squeeze=False, sharex=True).ravel()
    for axes, (name, kpi) in zip(plots, KPIS.items(), strict=False):
        rows = kpis[kpis["kpi"] == name].sort_values("date")
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


def _format(name: str, value: float) -> str:
    if np.isnan(value):
        return "unknown"
    return f"{value:.2%}" if KPIS[name].unit == "share" else f"{value:,.2f}".removesuffix(".00")


def _window(run_days: list[dt.date], length: int, first: dt.date) -> list[dt.date]:
    """All days that the windows of `length` days before each day of a run contain."""
    begin = max(first, run_days[0] - dt.timedelta(days=length - 1))
    return [begin + dt.timedelta(days=i) for i in range((run_days[-1] - begin).days + 1)]
