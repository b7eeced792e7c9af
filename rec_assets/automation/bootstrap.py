"""`rec-assets bootstrap`: bring a lake up to its newest day, from an empty lake or from any earlier state.

Dagster: `dagster asset materialize` runs one selection. It doesn't plan several days, and runs up-to-date assets again.
"""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module

import dagster as dg

from rec_assets.automation.instance import open_instance
from rec_assets.automation.land_and_forget import find_other_runs, land_and_forget
from rec_assets.automation.plan import PlannedRun, plan_bootstrap, plan_retraining
from rec_assets.automation.plan_execution import run_plan
from rec_assets.automation.plan_lock import plan_lock
from rec_assets.resources.lake import open_lake
from rec_assets.resources.releases import Releases
from rec_assets.settings import Settings
from rec_assets.sources.extraction import extract_days
from rec_assets.sources.landing import covered_days
from rec_assets.sources.spec import DataSource


def bootstrap(
    definitions: dg.Definitions, settings: Settings, source: DataSource, *, keep: bool = False
) -> list[PlannedRun]:
    """Materialize the stale partitions that the newest day needs; returns the runs that this took.

    With `keep`, what an earlier code version made counts as up to date.

    Raises:
        PlanError: there are too few days.
        ExecutionError: another plan is running, or a run failed.
        SourceError: the data source can't be used.
    """
    with plan_lock(settings):
        if source.dataset:
            import_module(f"rec_assets.datasets.{source.dataset}").land(source)
        extract_days(source, now=time.time(), log=_log)
        first, newest = covered_days(source, time.time())
        instance = open_instance(settings)
        land_and_forget(settings, source.time_zone, _log, other_runs=find_other_runs(instance))
        started, releases = time.monotonic(), Releases(settings.mlflow_uri, settings.registered_model)
        champion = releases.active_before(newest)
        if champion is None or champion.as_of >= newest:  # no release yet, or the first one is of this day
            plan = plan_bootstrap(first, newest, settings)
        else:
            plan = plan_retraining(first, newest, settings, open_lake(settings.lake), champion, _log)
        executed = run_plan(
            plan, definitions, instance, settings, source, parent=f"process {os.getpid()}", log=_log, keep=keep
        )
        if verdict := releases.decision_summary(newest):
            _log(verdict)
        _log(f"up to date as of {newest} after {time.monotonic() - started:.0f} s")
        return executed


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
