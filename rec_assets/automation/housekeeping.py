"""Housekeeping: the job that deletes old partitions and old file versions of the lake, and its schedule.

Dagster: `retention` in dagster.yaml deletes ticks of sensors and schedules, no data. `automation/retention.py` decides
which partitions to delete. Their files go with those of replaced partitions, a week later, when no reader needs them.
Dagster's records of them and the reports under `reports/` stay.
"""

from collections import Counter
from typing import Any

import dagster as dg

from rec_assets.automation import retention
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource
from rec_assets.sqlite import sqlite_file


class HousekeepingConfig(dg.Config):
    """Config of the job `housekeeping`."""

    dry_run: bool = False
    """Only report which days would be deleted."""


def build_housekeeping(settings: Settings, source: DataSource) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """The job, and its daily schedule, which is off until you turn it on."""

    @dg.op(description="Deletes the partitions and the file versions that are past their retention and not needed.")
    def delete_old_days(
        context: dg.OpExecutionContext, config: HousekeepingConfig, lake: dg.ResourceParam[Lake]
    ) -> None:
        releases = _releases(settings, lake)
        days = {table: lake.table(table).days for table in settings.retention_days}
        plan = retention.plan_retention(days, settings.retention_days, releases)
        newest, total = max(days["raw_purchase_logs"], default=None), sum(map(len, plan.delete.values()))
        verb = "would delete" if config.dry_run else "deleting"
        context.log.info(f"newest day {newest}: {verb} {total} days; {len(plan.kept)} old days are needed")
        freed: dict[str, Counter[str]] = {}
        for name, old in plan.delete.items():
            deleted = [part for day, part in lake.table(name).partitions.items() if day in old]
            freed[name] = Counter(
                days=len(deleted), rows=sum(part.rows for part in deleted), bytes=sum(part.bytes for part in deleted)
            )
            if not config.dry_run:
                lake.delete(name, old)
            context.log.info(f"{name}: {len(deleted)} days up to {old[-1]}, {freed[name]['bytes'] / 1e6:.1f} MB")
        vacuumed, in_use = 0, retention.releases_in_use(releases)
        for name in lake.tables():
            versions = [release.table_versions[name] for release in in_use if name in release.table_versions]
            files = lake.vacuum(name, versions, dry_run=config.dry_run)
            context.log.info(
                f"{name}: {len(files)} files of old versions {'to delete' if config.dry_run else 'deleted'}"
            )
            vacuumed += len(files)
        total_freed = sum(freed.values(), Counter[str]())
        context.add_output_metadata(
            {
                "newest_day": str(newest),
                "dry_run": config.dry_run,
                "days_deleted": total_freed["days"],
                "mb_deleted": round(total_freed["bytes"] / 1e6, 3),
                "files_vacuumed": vacuumed,
                "deleted": dg.MetadataValue.md(_deleted_table(settings.retention_days, freed)),
                "kept_old_days": dg.MetadataValue.md(_kept_table(plan)),
            }
        )

    @dg.job(
        executor_def=dg.in_process_executor,
        description="Delete old partitions and file versions that no release and no later run needs.",
    )
    def housekeeping() -> None:
        delete_old_days()

    schedule = dg.ScheduleDefinition(
        name="daily_housekeeping", job=housekeeping, cron_schedule=settings.housekeeping_cron,
        execution_timezone=settings.schedule_time_zone or source.time_zone,
        default_status=dg.DefaultScheduleStatus.STOPPED, description="Deletes old partitions, by default at 5:00.",
    )  # fmt: skip
    return housekeeping, schedule


def _releases(settings: Settings, lake: Lake) -> list[Release]:
    """All releases.

    Raises:
        Failure: the lake has releases and the registry has none, so it is the wrong registry.
    """
    database = sqlite_file(settings.mlflow_uri)
    missing = database is not None and not database.exists()
    releases = [] if missing else Releases(settings.mlflow_uri, settings.registered_model).versions()
    if not releases and lake.table("champion").days:
        raise dg.Failure(
            f"the lake has releases (table champion), but MLflow has no version of {settings.registered_model}. So "
            "housekeeping can't find the partitions that releases need, and deletes nothing. Check "
            "REC_MLFLOW_TRACKING_URI and REC_REGISTERED_MODEL."
        )
    return releases


def _deleted_table(keep: dict[str, int | None], freed: dict[str, Counter[str]]) -> str:
    rows = ["| table | days kept | days deleted | rows | MB |", "| --- | --- | --- | --- | --- |"]
    for table, length in keep.items():
        counts = freed.get(table, Counter[str]())
        cells: list[Any] = [table, length or "all", counts["days"], counts["rows"], f"{counts['bytes'] / 1e6:.1f}"]
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _kept_table(plan: retention.RetentionPlan) -> str:
    """One row per table and reason, with the number of days."""
    counts = Counter((table, reason) for (table, _), reason in plan.kept.items())
    rows = ["| table | why | days |", "| --- | --- | --- |"]
    return "\n".join([*rows, *(f"| {table} | {reason} | {count} |" for (table, reason), count in counts.items())])
