"""Housekeeping: the job that deletes days of the lake that nothing needs any more, and its schedule.

What may go is decided in `resources/retention.py`. Dagster's records of a deleted day (its runs, materializations and
checks) stay: they are small, and say what once was. So does the day's report under `reports/`.
"""

from collections import Counter
from typing import Any

from dagster import (
    Config,
    DefaultScheduleStatus,
    Failure,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    ResourceParam,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from rec_assets.resources import retention
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Release, Releases
from rec_assets.settings import Settings
from rec_assets.sources.spec import Source
from rec_assets.sqlite import sqlite_file


class HousekeepingConfig(Config):
    """How the job runs."""

    dry_run: bool = False
    """Say what would be deleted, and delete nothing."""


def build_housekeeping(settings: Settings, source: Source) -> tuple[JobDefinition, ScheduleDefinition]:
    """The job, and its daily schedule, off until turned on."""

    @op(description="Deletes the days of the lake that are older than their table's retention and not needed.")
    def delete_old_days(context: OpExecutionContext, config: HousekeepingConfig, lake: ResourceParam[Lake]) -> None:
        plan = retention.plan(
            {table: lake.days(table) for table in settings.days_to_keep}, settings.days_to_keep,
            _releases(settings, lake), horizon_days=settings.horizon_days, lookback_days=settings.lookback_days,
        )  # fmt: skip
        if not config.dry_run:
            lake.storage.sweep_deleted()
        total, done = sum(len(days) for days in plan.delete.values()), 0
        verb = "would delete" if config.dry_run else "deleting"
        context.log.info(f"newest day {plan.newest}: {verb} {total} days; {len(plan.kept)} old ones are needed")
        freed: dict[str, Counter[str]] = {}
        for table, days in plan.delete.items():
            counts = freed.setdefault(table, Counter())
            for day in days:
                manifest = lake.manifest(table, day) if config.dry_run else lake.delete(table, day)
                if manifest is not None:  # else another one was quicker
                    counts.update(days=1, rows=manifest.rows, bytes=manifest.bytes)
                done += 1
                if done % 100 == 0:
                    context.log.info(f"{done} of {total} days")
            context.log.info(f"{table}: {counts['days']} days up to {days[-1]}, {counts['bytes'] / 1e6:.1f} MB")
        context.add_output_metadata(
            {
                "newest_day": str(plan.newest),
                "dry_run": config.dry_run,
                "days_deleted": sum(counts["days"] for counts in freed.values()),
                "mb_freed": round(sum(counts["bytes"] for counts in freed.values()) / 1e6, 3),
                "freed": MetadataValue.md(_freed_table(settings.days_to_keep, freed)),
                "kept_though_old": MetadataValue.md(_kept_table(plan)),
            }
        )

    @job(executor_def=in_process_executor, description="Delete the days of the lake that nothing needs any more.")
    def housekeeping() -> None:
        delete_old_days()

    schedule = ScheduleDefinition(
        name="housekeeping_daily",
        job=housekeeping,
        cron_schedule=settings.housekeeping_cron,
        execution_timezone=settings.schedule_time_zone or source.time_zone,
        default_status=DefaultScheduleStatus.STOPPED,
        description="Runs housekeeping, by default at 5 in the morning.",
    )
    return housekeeping, schedule


def _releases(settings: Settings, lake: Lake) -> list[Release]:
    """All releases.

    Raises:
        Failure: there was one, and the registry knows of none, so it can't be the right registry.
    """
    database = sqlite_file(settings.mlflow_uri)
    missing = database is not None and not database.exists()
    releases = [] if missing else Releases(settings.mlflow_uri, settings.registered_model).all()
    if not releases and lake.days("champion"):
        raise Failure(
            f"the lake has releases (champion), and MLflow knows no version of {settings.registered_model}: what they "
            "were made from can't be told apart from what nobody needs, so nothing was deleted. Check "
            "REC_MLFLOW_TRACKING_URI and REC_REGISTERED_MODEL."
        )
    return releases


def _freed_table(keep: dict[str, int | None], freed: dict[str, Counter[str]]) -> str:
    rows = ["| table | days kept | days deleted | rows | MB |", "| --- | --- | --- | --- | --- |"]
    for table, length in keep.items():
        counts = freed.get(table, Counter[str]())
        cells: list[Any] = [table, length or "all", counts["days"], counts["rows"], f"{counts['bytes'] / 1e6:.1f}"]
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _kept_table(plan: retention.Plan) -> str:
    """One row a table and reason, with its days counted."""
    counts = Counter((kept.table, kept.reason) for kept in plan.kept)
    rows = ["| table | why | days |", "| --- | --- | --- |"]
    return "\n".join([*rows, *(f"| {table} | {reason} | {count} |" for (table, reason), count in counts.items())])
