"""Group `ingestion`: what landed, as it landed.

A day is written the moment it is read, so that a day whose file can't be read leaves the others done.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    Failure,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)

from rec_assets.assets.plots import as_markdown, line
from rec_assets.partitions import DayPartitions
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.lake import Lake
from rec_assets.resources.lake_io import partition_metadata
from rec_assets.resources.storage import Manifest
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.errors import SourceError
from rec_assets.sources.feedback import landed_fingerprints, read_feedback
from rec_assets.sources.landing import catalog_fingerprint, file_fingerprints
from rec_assets.sources.reader import RAW_SCHEMA, read_catalog, read_day, read_export
from rec_assets.sources.spec import Source

GROUP = "ingestion"
OWNERS = ["team:data"]


def ingestion_assets(settings: Settings, source: Source, days: DayPartitions) -> list[AssetsDefinition]:
    """The assets of the group."""

    @asset(
        group_name=GROUP, owners=OWNERS, kinds={"python", "parquet"}, partitions_def=days.partitions,
        backfill_policy=BackfillPolicy.single_run(), code_version=f"2-{source.version}",
    )  # fmt: skip
    def raw_purchase_logs(
        context: AssetExecutionContext, lake: ResourceParam[Lake], tracking: TrackingResource
    ) -> MaterializeResult:
        """The day's purchase lines as landed: typed, with source file and row, and the whole line beside it."""
        wanted = run_days(context)
        table_of, files_of = _day_tables(source), _day_files(source)
        forgotten = ForgottenFile.read(settings.forgotten_file)
        done: dict[dt.date, Manifest] = {}
        broken: dict[dt.date, str] = {}
        for number, day in enumerate(wanted, start=1):
            try:
                # Fingerprints first: of a file that changes while it is read, the lake then has the older one.
                files = files_of(day)
                manifest = lake.write("raw_purchase_logs", forgotten.without(table_of(day), day), day, files)
                done[day] = manifest
                context.add_asset_metadata(
                    {"dagster/row_count": manifest.rows, "fingerprint": manifest.fingerprint,
                     "files": len(files)},
                    partition_key=day.isoformat(),
                )  # fmt: skip
            except SourceError as error:
                broken[day] = str(error)
            if number % 100 == 0:
                context.log.info(f"read {number} of {len(wanted)} days")
        if broken:
            for day, manifest in done.items():
                rows = {"dagster/row_count": manifest.rows}
                context.log_event(AssetMaterialization(context.asset_key, partition=day.isoformat(), metadata=rows))
            listing = "\n".join(f"{day}: {error}" for day, error in broken.items())
            raise Failure(
                f"{len(broken)} of {len(wanted)} days could not be read; the others are done, and these are as they "
                f"were before:\n{listing}",
                metadata={str(day): error for day, error in list(broken.items())[:20]},
            )
        rows_by_day = {day: manifest.rows for day, manifest in done.items()}
        tracking.mlflow.log_metric("raw_lines", sum(rows_by_day.values()))
        metadata = {
            **partition_metadata(lake, "raw_purchase_logs", wanted[-1], done[wanted[-1]]),
            "lines": sum(rows_by_day.values()),
            "closed_days": MetadataValue.json([str(day) for day, rows in rows_by_day.items() if not rows]),
        }
        if len(done) > 1:
            plot = line(list(rows_by_day), list(rows_by_day.values()), "Lines landed", "lines")
            metadata["lines_by_day"] = as_markdown(plot)
        return MaterializeResult(metadata=metadata)

    @asset(group_name=GROUP, owners=OWNERS, kinds={"python", "parquet"}, code_version=f"1-{source.version}")
    def raw_product_catalog(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult:
        """The newest catalog feed, one row a product; empty where the source has none."""
        sources = catalog_fingerprint(source)
        manifest = lake.write("raw_product_catalog", read_catalog(source), sources=sources)
        return MaterializeResult(metadata=partition_metadata(lake, "raw_product_catalog", None, manifest))

    @asset(
        group_name=GROUP, owners=OWNERS, kinds={"python", "parquet"}, partitions_def=days.partitions,
        backfill_policy=BackfillPolicy.single_run(), code_version="1",
    )  # fmt: skip
    def raw_feedback_events(context: AssetExecutionContext, lake: ResourceParam[Lake]) -> MaterializeResult:
        """Impressions, clicks, carts, purchases and returns that visitors' browsers reported to the API on the day."""
        return read_landed(context, lake, settings, "raw_feedback_events", read_feedback)

    return [raw_purchase_logs, raw_product_catalog, raw_feedback_events]


def read_landed(
    context: AssetExecutionContext,
    lake: Lake,
    settings: Settings,
    table: str,
    read: Callable[[Path, dt.date], pa.Table],
) -> MaterializeResult:
    """Write the days of a table that the API landed, without who is forgotten."""
    wanted, rows = run_days(context), 0
    forgotten = ForgottenFile.read(settings.forgotten_file)
    for day in wanted:
        files = landed_fingerprints(settings.feedback_landing, table, day)
        manifest = lake.write(table, forgotten.without(read(settings.feedback_landing, day), day), day, files)
        context.add_asset_metadata({"dagster/row_count": manifest.rows}, partition_key=day.isoformat())
        rows += manifest.rows
    return MaterializeResult(metadata={**partition_metadata(lake, table, wanted[-1], manifest), "rows": rows})


def run_days(context: AssetExecutionContext) -> list[dt.date]:
    """The days that this run materializes."""
    return [dt.date.fromisoformat(key) for key in context.partition_keys]


def _day_files(source: Source) -> Callable[[dt.date], Mapping[str, str]]:
    """A function that gives the files of a day, each with its fingerprint; an export's are those of every day."""
    if source.is_daily:
        return lambda day: file_fingerprints(source, day)
    files = file_fingerprints(source, None)
    return lambda day: files


def _day_tables(source: Source) -> Callable[[dt.date], pa.Table]:
    """A function that gives the raw lines of a day; an export is read once for all of them."""
    if source.is_daily:
        newest = max(source.landed_days(), default=None)
        return lambda day: read_day(source, day, newest)
    export = read_export(source)
    return lambda day: export.get(day, RAW_SCHEMA.empty_table())
