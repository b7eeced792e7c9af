"""`python -m benchmarks.one_day DAY`: the part of a bootstrap that makes each asset of one as-of day once.

A whole bootstrap looks at three as-of days. Of ten times the purchases, one says as much in a third of the time.
"""

from __future__ import annotations

import datetime as dt
import os
import sys

import click

from benchmarks.speed_data import one_day_runs
from rec_assets.automation.execution import open_instance, plan_lock, run_plan
from rec_assets.automation.plan import PlannedRun
from rec_assets.definitions import defs
from rec_assets.settings import get_settings
from rec_assets.sources.spec import load_source


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("day", type=click.DateTime(["%Y-%m-%d"]))
def main(day: dt.datetime) -> None:
    """Run it on REC_SOURCE in REC_HOME; the log on stderr tells the seconds of each step."""
    settings = get_settings()
    source = load_source(settings.source, settings.root)
    first, _ = source.bounds()
    plan = []
    for job, on in one_day_runs(day.date()):
        days = (first, day.date()) if job == "ingest" else (on, on)
        plan.append(PlannedRun(job, *days))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with plan_lock(settings):
        run_plan(plan, defs, open_instance(settings), settings, source, parent=f"process {os.getpid()}", say=say)


if __name__ == "__main__":
    main()
