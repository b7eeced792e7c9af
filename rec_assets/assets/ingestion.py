"""Asset group `ingestion`: landed files as raw tables.

An unreadable file does not affect other days: they are committed together, and the days of such files stay as they are.
"""

import datetime as dt
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa

from rec_assets.assets.plots import as_markdown, line
from rec_assets.assets.purchase_files import read_days, read_event_days, read_export
from rec_assets.partitions import DayPartitions, partition_days
from rec_assets.recsys.data.raw_lines import RAW_SCHEMA
from rec_assets.recsys.data.variants import variants_and_excluded
from rec_assets.resources.data_versions import FILES, UPSTREAM, DayWriter
from rec_assets.resources.forgotten import ForgottenFile
from rec_assets.resources.lake import Lake
from rec_assets.resources.spark import SparkResource
from rec_assets.resources.tracking import TrackingResource
from rec_assets.settings import Settings
from rec_assets.sources.catalog import read_catalog
from rec_assets.sources.errors import SourceError
from rec_assets.sources.feedback import FEEDBACK_SCHEMA, landed_files, read_feedback
from rec_assets.sources.landing import catalog_fingerprint, event_files, file_fingerprint, file_fingerprints
from rec_assets.sources.spec import DataSource
from rec_assets.sources.spec_fields import FileFormat

GROUP = "ingestion"
OWNERS = ["team:data"]

FILES_OF_LOG = 10_000
"""Numbers of files that one event log has in a day."""

DAYS_PER_JOB = 100
"""Days that one Spark job reads. The log tells the progress after each job."""


def ingestion_assets(settings: Settings, source: DataSource, days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The assets of the group."""

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark", "deltalake"}, partitions_def=days.partitions,
        backfill_policy=dg.BackfillPolicy.single_run(), code_version=f"4-{source.version}",
        deps=upstream(source.purchases),
    )  # fmt: skip
    def raw_purchase_logs(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource,
        tracking: TrackingResource,
    ) -> dg.MaterializeResult:  # fmt: skip
        """Purchase lines of the day as landed: typed, with source file, row and the original line."""
        run_days, session = partition_days(context), spark.spark_session
        writer = DayWriter(context, lake, "raw_purchase_logs", run_days)
        files = lake.day_files("raw_purchase_logs", RAW_SCHEMA, settings.staging)
        forgotten, fingerprints_of = ForgottenFile.read(settings.forgotten_file), _fingerprints_reader(source)
        rows_by_day, failed = dict[dt.date, int](), dict[dt.date, str]()
        for batch in _batches(run_days, source):
            fingerprints = dict[dt.date, Mapping[str, str]]()
            for day in batch:
                # Fingerprints first: if a file changes during the read, the next run sees the difference.
                try:
                    fingerprints[day] = fingerprints_of(day)
                except SourceError as error:
                    failed[day] = str(error)
            days_to_read = list(fingerprints)
            if source.is_daily:
                read = read_days(session, source, days_to_read, files, forgotten)
            else:
                read = read_export(session, source, days_to_read, files, forgotten, settings.staging)
            failed |= read.failed
            for day, written in read.written.items():
                about = {FILES: dg.MetadataValue.json(fingerprints[day])}
                rows_by_day[day] = writer.add_files(files, day, written, **about)
            context.log.info(f"read {len(rows_by_day)} of {len(run_days)} days")
        _raise_failed(context, writer, failed, len(run_days))
        tracking.mlflow.log_metric("raw_lines", sum(rows_by_day.values()))
        metadata = {
            "lines": sum(rows_by_day.values()),
            "days_without_lines": dg.MetadataValue.json([str(day) for day, rows in rows_by_day.items() if not rows]),
        }
        if len(rows_by_day) > 1:
            plot = line(list(rows_by_day), list(rows_by_day.values()), "Lines landed", "lines")
            metadata["lines_by_day"] = as_markdown(plot)
        return writer.result(**metadata)

    @dg.asset(
        group_name=GROUP,
        owners=OWNERS,
        kinds={"python", "deltalake"},
        code_version=f"2-{source.catalog_version}",
        deps=upstream(source.catalog),
    )
    def raw_product_catalog(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        """The newest catalog, one row per product. Empty if the data source has no catalog."""
        writer, files = DayWriter(context, lake, "raw_product_catalog", [None]), catalog_fingerprint(source)
        writer.add(None, read_catalog(source), **{FILES: dg.MetadataValue.json(files)})
        return writer.result()

    @dg.asset(group_name=GROUP, owners=OWNERS, kinds={"pandas", "deltalake"}, code_version="1")
    def catalog_ids(lake: dg.ResourceParam[Lake], raw_product_catalog: pd.DataFrame) -> pd.DataFrame:
        """What cleaning needs of the catalog: variants with their products, and what is excluded.

        A catalog with other prices or another stock, or without discontinued products, leaves it as it is, so the
        cleaned days stay up to date.
        """
        table, catalog = lake.table("catalog_ids"), source.catalog
        return variants_and_excluded(
            raw_product_catalog,
            known=table.pandas() if table.is_intact() else None,
            has_variants=catalog is not None and catalog.columns.variant_of is not None,
            has_exclusions=catalog is not None and bool(catalog.exclude or catalog.include),
        )

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"python", "deltalake"}, partitions_def=days.partitions,
        backfill_policy=dg.BackfillPolicy.single_run(), code_version=f"3-{source.events_version}",
        deps=upstream(*source.events),
    )  # fmt: skip
    def raw_feedback_events(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake], spark: SparkResource
    ) -> dg.MaterializeResult:
        """Events of the day that the API received, and those of the shop's event logs."""
        read = read_feedback
        if not source.events:
            return write_landed_days(context, lake, settings, "raw_feedback_events", read)
        run_days, session = partition_days(context), spark.spark_session
        writer = DayWriter(context, lake, "raw_feedback_events", run_days)
        files = lake.day_files("raw_feedback_events", FEEDBACK_SCHEMA, settings.staging)
        forgotten = ForgottenFile.read(settings.forgotten_file)
        rows, failed = 0, dict[dt.date, str]()
        for batch in _batches(run_days, source):
            fingerprints = _event_fingerprints(source, settings, batch)
            written = {
                day: [files.write([forgotten.without(read(settings.feedback_landing, day), day)], day, 0)]
                for day in batch
            }
            for log_number, log in enumerate(source.event_sources):
                if log.is_daily:
                    first = FILES_OF_LOG * log_number + 1
                    found = read_event_days(session, log, batch, files, forgotten, first_number=first)
                else:
                    found = read_export(session, log, batch, files, forgotten, settings.staging, events=True)
                failed |= found.failed
                for day, of_log in found.written.items():
                    written[day] += of_log
            for day in batch:
                if day not in failed:
                    about = {FILES: dg.MetadataValue.json(fingerprints[day])}
                    rows += writer.add_files(files, day, [file for file in written[day] if file.rows], **about)
            context.log.info(f"read {sum(day not in failed for day in batch)} of {len(run_days)} days")
        _raise_failed(context, writer, failed, len(run_days))
        return writer.result(rows=rows)

    return [raw_purchase_logs, raw_product_catalog, catalog_ids, raw_feedback_events]


def upstream(*logs: FileFormat | None) -> list[dg.AssetKey]:
    """The shop's own assets that write these files."""
    return list(dict.fromkeys(dg.AssetKey(log.asset) for log in logs if log is not None and log.asset))


def upstream_specs(source: DataSource) -> list[dg.AssetSpec]:
    """The shop's own assets, for the lineage graph. They are made outside of this code location."""
    keys = upstream(source.purchases, *source.events, source.catalog)
    return [dg.AssetSpec(key, description="An asset of the shop.", tags={UPSTREAM: "true"}) for key in keys]


def _raise_failed(
    context: dg.AssetExecutionContext, writer: DayWriter, failed: Mapping[dt.date, str], days: int
) -> None:
    """If days could not be read, commit the others, and raise Failure."""
    if not failed:
        return
    for done, metadata in writer.commit().items():
        context.log_event(dg.AssetMaterialization(context.asset_key, partition=str(done), metadata=metadata))
    listing = "\n".join(f"{day}: {error}" for day, error in failed.items())
    raise dg.Failure(
        f"{len(failed)} of {days} days could not be read and were not changed; the others are done:\n{listing}",
        metadata={str(day): error for day, error in list(failed.items())[:20]},
    )


def _event_fingerprints(
    source: DataSource, settings: Settings, days: Sequence[dt.date]
) -> dict[dt.date, dict[str, str]]:
    """Day → name and fingerprint of the API's file and of the files of all event logs. Each file is read once."""
    fingerprint = functools.cache(file_fingerprint)
    files = {day: event_files(source, settings.feedback_landing, day) for day in days}
    return {day: {name: fingerprint(file) for name, file in each.items()} for day, each in files.items()}


def write_landed_days(
    context: dg.AssetExecutionContext, lake: Lake, settings: Settings, table: str,
    read: Callable[[Path, dt.date], pa.Table],
) -> dg.MaterializeResult:  # fmt: skip
    """Write the days of a table that the API landed, without forgotten customers."""
    run_days, rows = partition_days(context), 0
    writer = DayWriter(context, lake, table, run_days)
    forgotten = ForgottenFile.read(settings.forgotten_file)
    for day in run_days:
        landed = landed_files(settings.feedback_landing, table, day)
        files = {name: file_fingerprint(file) for name, file in landed.items()}
        about = {FILES: dg.MetadataValue.json(files)}
        rows += writer.add(day, forgotten.without(read(settings.feedback_landing, day), day), **about)
    return writer.result(rows=rows)


def _fingerprints_reader(source: DataSource) -> Callable[[dt.date], Mapping[str, str]]:
    """A function: day → its files with fingerprints. A whole export belongs to every day."""
    if source.is_daily:
        return lambda day: file_fingerprints(source, day)
    files = file_fingerprints(source, None)
    return lambda day: files


def _batches(days: Sequence[dt.date], source: DataSource) -> Iterator[Sequence[dt.date]]:
    """The days that one Spark job reads. A whole export is read once."""
    size = DAYS_PER_JOB if source.is_daily else len(days)
    return (days[first : first + size] for first in range(0, len(days), size))
