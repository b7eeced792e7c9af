"""What a run says on the console: steps as they end, and the assets' own words; not Dagster's every event."""

from __future__ import annotations

import logging
import sys
from typing import Any

from dagster import InitLoggerContext, logger

SHOWN = {"STEP_SUCCESS": "done", "STEP_FAILURE": "FAILED"}


class _Console(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        if event is None:
            if record.levelno < logging.INFO:
                return
            text = meta.get("orig_message", record.getMessage())
        elif event.event_type_value in SHOWN and event.step_key:
            took = getattr(event.event_specific_data, "duration_ms", None)
            seconds = f" in {took / 1000:.1f} s" if took is not None else ""
            text = f"{SHOWN[event.event_type_value]}{seconds}"
        elif event.event_type_value == "ASSET_CHECK_EVALUATION" and not event.event_specific_data.passed:
            check = event.event_specific_data
            text = f"check {check.check_name} did not pass: {check.description}"
        else:
            return
        step = event.step_key if event is not None else meta.get("step_key")
        # A resource speaks for no step; what it has to say (a run was started) is no progress.
        if step:
            print(f"    {step}: {text}", file=sys.stderr, flush=True)


@logger(config_schema={}, description="Steps as they end, and what assets say of their progress.")
def progress_logger(context: InitLoggerContext) -> logging.Logger:
    """The console logger of all runs."""
    console = logging.Logger("rec_assets", level=logging.DEBUG)
    console.addHandler(_Console())
    return console
