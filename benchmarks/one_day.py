"""`python -m benchmarks.one_day DAY`: the part of a bootstrap that materializes each asset for one as-of day.

A full bootstrap has three as-of days. For ten times the purchases, one day gives the same information in a third of the
time. With `--ingest`, it ends after the lines were read and cleaned.
"""

from __future__ import annotations

import datetime as dt
import os
import sys

import click

from rec_assets.automation.instance import open_instance
from rec_assets.automation.plan import PlannedRun
from rec_assets.automation.plan_execution import run_plan
from rec_assets.automation.plan_lock import plan_lock
from rec_assets.definitions import defs
from rec_assets.settings import get_settings
from rec_assets.sources.spec import load_data_source


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("day", type=click.DateTime(["%Y-%m-%d"]))
@click.option("--ingest", is_flag=True, help="Only read and clean the lines of all days.")
def main(day: dt.datetime, ingest: bool) -> None:
    """Run with REC_SOURCE in REC_HOME; the log on stderr has the seconds of each step."""
    settings = get_settings()
    source = load_data_source(settings.source, settings.root)
    (first, _), last = source.bounds(), day.date()
    before = last - dt.timedelta(days=settings.horizon_days)
    plan = [
        PlannedRun("ingest_catalog"),
        PlannedRun("ingest", first, last),
    ]
    after = [
        PlannedRun("update_products"),
        PlannedRun("train_retrieval", before, before),
        PlannedRun("train_models", last, last),
        PlannedRun("score_customers", last, last),
    ]

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with plan_lock(settings):
        run_plan(
            plan if ingest else [*plan, *after],
            defs,
            open_instance(settings),
            settings,
            source,
            parent=f"process {os.getpid()}",
            log=log,
        )


if __name__ == "__main__":
    main()
