"""The schedules: a refresh each night, a retraining each week. Both are off until turned on.

They look at what has landed, never at what day it is: on data that end in the past they do the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster import DefaultScheduleStatus, JobDefinition, ScheduleDefinition

from rec_assets.settings import Settings
from rec_assets.sources.spec import Source


def build_schedules(settings: Settings, source: Source, flows: Sequence[JobDefinition]) -> list[ScheduleDefinition]:
    """The schedules of a code location."""
    jobs = {flow.name: flow for flow in flows}
    return [
        ScheduleDefinition(
            name=name,
            job=jobs[job],
            cron_schedule=cron,
            execution_timezone=settings.schedule_time_zone or source.time_zone,
            description=description,
            default_status=DefaultScheduleStatus.STOPPED,
        )
        for name, job, cron, description in (
            ("nightly", "refresh", settings.nightly_cron, "Everybody's lists, with what has landed since yesterday."),
            ("weekly", "retrain", settings.weekly_cron, "New models, released if they are good enough."),
        )
    ]
