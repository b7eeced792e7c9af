"""Alert sensors: report failed runs, failed asset checks and rejected challengers, in the log or to a webhook.

Dagster: run status sensors keep their own cursor, and a tick that raises loses its state. So they can't keep a ledger
of reported causes, nor an outbox for a webhook that is down.
"""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
import requests
from dagster._core.event_api import EventLogCursor
from pydantic import BaseModel

from rec_assets.automation.alert_ledger import AlertLedger, Causes
from rec_assets.automation.alert_messages import DayRange, Message, Problem, format_time
from rec_assets.automation.run_findings import FindingsReader, read_checks, read_gate_decisions, read_steps
from rec_assets.settings import Settings
from rec_assets.sources.check_result import pluralize

TIMEOUT_SECONDS = 10
DELIVERY_SECONDS = 30
"""Time to deliver messages in one tick. Dagster's default limit for a tick is 60 s."""
RUNS_PER_TICK = 50
MAX_OUTBOX = 200

RUN_END_EVENTS = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_CANCELED)


def build_alert_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The alert sensors. They are off until you turn them on."""

    def alert_on(kind: str, read: FindingsReader, description: str) -> dg.SensorDefinition:
        @dg.sensor(
            name=f"alert_on_{kind}", minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.STOPPED,
            description=description,
        )  # fmt: skip
        def alert(context: dg.SensorEvaluationContext) -> dg.SkipReason:
            return _tick(context, settings, kind, read)

        return alert

    return [
        alert_on(
            "run_failure", read_steps,
            "Reports the step of a run that failed, or that the run was killed, once per cause. "
            "alert_on_check_failure reports blocking checks.",
        ),
        alert_on("check_failure", read_checks, "Reports the asset check that did not pass, once per cause."),
        alert_on(
            "rejection", read_gate_decisions,
            "Reports the challenger that the release gate rejected, and why. The champion stays.",
        ),
    ]  # fmt: skip


class AlertCursor(BaseModel):
    """The state of a sensor between ticks.

    Attributes:
        position: Storage id in the event log of the last run end that was read.
        causes: The reported causes, for `AlertLedger`.
        outbox: Messages to deliver to the webhook, oldest first.
    """

    position: int
    causes: Causes = {}
    outbox: list[Message] = []


def _tick(context: dg.SensorEvaluationContext, settings: Settings, kind: str, read: FindingsReader) -> dg.SkipReason:
    instance = context.instance
    if not context.cursor:
        context.update_cursor(AlertCursor(position=_newest_end(instance)).model_dump_json())
        return dg.SkipReason("alerts start now; earlier failures are not reported")
    cursor = AlertCursor.model_validate_json(context.cursor)
    ledger = AlertLedger(settings.alerts_repeat_hours, cursor.causes)
    new_messages, suppressed = [], 0
    for record in _ends_after(instance, cursor.position):
        cursor.position = record.storage_id
        run = instance.get_run_by_id(record.run_id)
        if run is None:  # deleted since
            continue
        findings = read(instance, run, record)
        for what, days in findings.succeeded:
            ledger.record_success(what, days)
        due: list[tuple[Problem, DayRange]] = []
        histories: list[str] = []
        for problem, days in findings.failed:
            if (history := ledger.record_failure(problem, days, record.timestamp)) is None:
                suppressed += 1
            else:
                due.append((problem, days))
                histories.append(history)
        if due:
            message = Message(
                kind=kind, job=run.job_name, days=str(due[0][1]), problems=[problem for problem, _ in due],
                run_id=run.run_id, url=f"{settings.ui_base_url}/runs/{run.run_id}",
                failed_at=format_time(record.timestamp), history="; ".join(dict.fromkeys(filter(None, histories))),
            )  # fmt: skip
            context.log.error(message.text)
            new_messages.append(message)
    ledger.delete_expired(time.time())
    if settings.alerts_webhook is None:
        cursor.outbox, sent, error = [], new_messages, None
    else:
        cursor.outbox = [*cursor.outbox, *new_messages][-MAX_OUTBOX:]
        sent, error = _deliver(settings, cursor.outbox)
        cursor.outbox = cursor.outbox[len(sent) :]
    # Don't raise if the webhook is down: Dagster drops the cursor of a tick that raises, and the next tick would
    # deliver and log the same messages again.
    context.update_cursor(cursor.model_dump_json())
    return dg.SkipReason(_summary(settings, sent, cursor.outbox, suppressed, error))


def _summary(
    settings: Settings, sent: list[Message], waiting: list[Message], suppressed: int, error: str | None
) -> str:
    parts = []
    if sent:
        verb = "sent" if settings.alerts_webhook else "logged"
        titles = "; ".join(message.title for message in sent)
        parts.append(f"{verb} {pluralize(len(sent), 'message')}: {titles}")
    if suppressed:
        parts.append(f"suppressed {pluralize(suppressed, 'repeat')}")
    if waiting:
        parts.append(f"{pluralize(len(waiting), 'message')} not delivered yet ({error or 'no time left'}), next tick")
    return ", ".join(parts) or "nothing failed"


def _deliver(settings: Settings, messages: list[Message]) -> tuple[list[Message], str | None]:
    """Post in order until a post fails; returns the delivered messages, and the error."""
    assert settings.alerts_webhook is not None
    sent: list[Message] = []
    started = time.monotonic()
    for message in messages:
        if time.monotonic() - started > DELIVERY_SECONDS:
            break
        try:
            response = requests.post(
                settings.alerts_webhook.get_secret_value(), json=message.payload(settings.alerts_format),
                timeout=TIMEOUT_SECONDS, allow_redirects=False,
            )  # fmt: skip
        except requests.RequestException as error:
            # Only the type of the error: its message holds the URL, which is a secret.
            return sent, f"can't reach the webhook: {type(error).__name__}"
        if not 200 <= response.status_code < 300:
            return sent, f"the webhook returned HTTP {response.status_code}"
        sent.append(message)
    return sent, None


def _newest_end(instance: dg.DagsterInstance) -> int:
    pages = (instance.fetch_run_status_changes(end, limit=1) for end in RUN_END_EVENTS)
    return max((record.storage_id for page in pages for record in page.records), default=-1)


def _ends_after(instance: dg.DagsterInstance, position: int) -> list[dg.EventLogRecord]:
    """The next run ends in the event log, in order."""
    cursor = EventLogCursor.from_storage_id(position).to_string()
    options: dict[str, Any] = {"limit": RUNS_PER_TICK, "cursor": cursor, "ascending": True}
    pages = (instance.fetch_run_status_changes(end, **options) for end in RUN_END_EVENTS)
    records = (record for page in pages for record in page.records)
    return sorted(records, key=lambda record: record.storage_id)[:RUNS_PER_TICK]
