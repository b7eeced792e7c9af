"""The console logger of all runs: finished steps, failed checks, and messages of the assets.

Dagster: its console loggers print every event of the framework.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import dagster as dg

STEP_RESULTS = {"STEP_SUCCESS": "done", "STEP_FAILURE": "FAILED"}


class _Console(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        if event is None:
            if record.levelno < logging.INFO:
                return
            text = meta.get("orig_message", record.getMessage())
        elif event.event_type_value in STEP_RESULTS and event.step_key:
            duration = getattr(event.event_specific_data, "duration_ms", None)
            seconds = f" in {duration / 1000:.1f} s" if duration is not None else ""
            text = f"{STEP_RESULTS[event.event_type_value]}{seconds}"
        elif event.event_type_value == "ASSET_CHECK_EVALUATION" and not event.event_specific_data.passed:
            check = event.event_specific_data
            text = f"check {check.check_name} did not pass: {check.description}"
        else:
            return
        step = event.step_key if event is not None else meta.get("step_key")
        # Messages without a step come from resources, and are no progress.
        if step:
            print(f"    {step}: {text}", file=sys.stderr, flush=True)


@dg.logger(config_schema={}, description="Prints finished steps and the messages of assets.")
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """The console logger of all runs."""
    console = logging.Logger("rec_assets", level=logging.DEBUG)
    console.addHandler(_Console())
    return console
