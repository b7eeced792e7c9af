"""Bring a lake up to its newest day, from nothing or from wherever it was, at the command line.

A second bootstrap does nothing, one after a crash does the rest, and one after a corrected file what depends on it.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from importlib import import_module

from dagster import Definitions

from rec_assets.automation.execution import open_instance, plan_lock, run_plan
from rec_assets.automation.feedback import land_feedback
from rec_assets.automation.plan import PlannedRun, plan_bootstrap, plan_training_or_refresh
from rec_assets.resources.lake import Lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import Settings
from rec_assets.sources.landing import days_with_data
from rec_assets.sources.spec import Source


def bootstrap(definitions: Definitions, settings: Settings, source: Source) -> list[PlannedRun]:
    """Materialize what the newest day needs and isn't up to date.

    Returns:
        The runs that were needed, in order.

    Raises:
        PlanError: too few days.
        ExecutionError: another plan is at work, or a run failed.
        SourceError: the source can't be used as it is.
    """
    with plan_lock(settings):
        if source.dataset:
            import_module(f"rec_assets.datasets.{source.dataset}").land(source)
        first, newest = days_with_data(source, time.time())
        land_feedback(settings, source.time_zone, _say)
        plan, started = _plan(first, newest, settings), time.monotonic()
        instance = open_instance(settings)
        done = run_plan(plan, definitions, instance, settings, source, parent=f"process {os.getpid()}", say=_say)
        if verdict := Releases(settings.mlflow_uri, settings.registered_model).verdict(newest):
            _say(verdict)
        _say(f"up to date as of {newest} after {time.monotonic() - started:.0f} s")
        return done


def _plan(first: dt.date, newest: dt.date, settings: Settings) -> list[PlannedRun]:
    """The bootstrap, up to the first release; on days after that what a new day, or new models, take."""
    lake, releases = Lake(settings.lake), Releases(settings.mlflow_uri, settings.registered_model)
    champion = releases.before(newest)
    if champion is None or champion.as_of >= newest:
        return plan_bootstrap(first, newest, settings)
    return plan_training_or_refresh(first, newest, settings, lake, champion, _say)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
