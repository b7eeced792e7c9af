"""The schedules: a daily update each night and a retraining each week. They are off until you turn them on.

Dagster: `build_schedule_from_partitioned_job` requests a calendar day. These jobs find the newest landed day.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster import DefaultScheduleStatus, JobDefinition, ScheduleDefinition

from rec_assets.settings import Settings
from rec_assets.sources.spec import DataSource


def build_schedules(
    settings: Settings, source: DataSource, plan_jobs: Sequence[JobDefinition]
) -> list[ScheduleDefinition]:
    """The schedules of a code location."""
    jobs = {job.name: job for job in plan_jobs}
    return [
        ScheduleDefinition(
            name=name,
            job=jobs[job],
            cron_schedule=cron,
            description=description,
            execution_timezone=settings.schedule_time_zone or source.time_zone,
            default_status=DefaultScheduleStatus.STOPPED,
        )
        for name, job, cron, description in (
            ("nightly_update", "daily_update", settings.nightly_cron, "Makes new lists from the files landed so far."),
            ("weekly_retraining", "retrain", settings.weekly_cron, "Trains models; releases them if the gate passes."),
        )
    ]
