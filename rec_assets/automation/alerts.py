"""Alerts: sensors that say what failed, for which day, why, where to look and what to do; off until turned on.

`alert_on_run_failure` speaks of steps and killed runs, `alert_on_check_failure` of asset checks, `alert_on_rejection`
of challengers that the release gate rejected, which is no failure. All follow the ends of runs in Dagster's event log
by its own numbers, so none is seen twice or left out. What has been said, and what a webhook that was down hasn't got
yet, is in the sensor's cursor.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import requests
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    EventLogRecord,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.event_api import EventLogCursor
from dagster._core.events import JobFailureData
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster_shared.error import SerializableErrorInfo

from rec_assets.automation.execution import PARENT_TAG
from rec_assets.automation.messages import DayRange, FailureCause, Ledger, Message, in_words, shorten
from rec_assets.resources.releases import REJECTED
from rec_assets.resources.tracking import INTERRUPTIONS
from rec_assets.settings import Settings

TIMEOUT_SECONDS = 10
# A tick may take 60 s, by Dagster's default.
DELIVERY_SECONDS = 30
RUNS_A_TICK = 50
WAITING = 200

ENDS = (DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_CANCELED)
LANDED = {"raw_purchase_logs", "raw_product_catalog"}
"""Steps that read what landed."""


@dataclass
class Findings:
    """What one ended run tells: what went well, and what didn't, with its days."""

    succeeded: list[tuple[str, DayRange]] = field(default_factory=list)
    failed: list[tuple[FailureCause, DayRange]] = field(default_factory=list)


Reader = Callable[[DagsterInstance, DagsterRun, EventLogRecord], Findings]


def build_alert_sensors(settings: Settings) -> list[SensorDefinition]:
    """The sensors, off until turned on."""

    def alert_on(kind: str, read: Reader, description: str) -> SensorDefinition:
        @sensor(
            name=f"alert_on_{kind}", minimum_interval_seconds=30, default_status=DefaultSensorStatus.STOPPED,
            description=description,
        )  # fmt: skip
        def alert(context: SensorEvaluationContext) -> SkipReason:
            return _tick(context, settings, kind, read)

        return alert

    return [
        alert_on(
            "run_failure", read_steps,
            "Says which step of a run failed, or that the run was killed; one message a cause. Blocking checks that "
            "fail are left to alert_on_check_failure.",
        ),
        alert_on("check_failure", read_checks, "Says which asset check did not pass; one message a cause."),
        alert_on(
            "rejection", read_verdicts, "Says which challenger the release gate rejected, and why; the champion stays."
        ),
    ]  # fmt: skip


@dataclass
class _State:
    """What a sensor remembers from tick to tick.

    Attributes:
        position: Number in the event log of the last end of a run that was looked at.
        ledger: Which causes were reported.
        outbox: Messages that the webhook hasn't got yet, oldest first.
    """

    position: int
    ledger: Ledger
    outbox: list[Message]

    @classmethod
    def load(cls, cursor: str, settings: Settings) -> _State:
        stored = json.loads(cursor)
        return cls(
            position=stored["position"],
            ledger=Ledger.from_dict(settings.alerts_repeat_hours, stored["causes"]),
            outbox=[Message.from_dict(each) for each in stored["outbox"]],
        )

    def dump(self) -> str:
        outbox = [asdict(message) for message in self.outbox]
        return json.dumps({"position": self.position, "causes": self.ledger.to_dict(), "outbox": outbox})


def _tick(context: SensorEvaluationContext, settings: Settings, kind: str, read: Reader) -> SkipReason:
    instance = context.instance
    if not context.cursor:
        context.update_cursor(_State(_newest_end(instance), Ledger(settings.alerts_repeat_hours), []).dump())
        return SkipReason("watching from now on; what failed before is not reported")
    state = _State.load(context.cursor, settings)
    said, held = [], 0
    for record in _ends_after(instance, state.position):
        state.position = record.storage_id
        run = instance.get_run_by_id(record.run_id)
        if run is None:  # deleted since
            continue
        findings = read(instance, run, record)
        for what, days in findings.succeeded:
            state.ledger.succeeded(what, days)
        due: list[tuple[FailureCause, DayRange]] = []
        histories: list[str] = []
        for problem, days in findings.failed:
            if (history := state.ledger.failed(problem, days, record.timestamp)) is None:
                held += 1
            else:
                due.append((problem, days))
                histories.append(history)
        if due:
            message = Message(
                kind=kind, job=run.job_name, days=str(due[0][1]), problems=[problem for problem, _ in due],
                run_id=run.run_id, url=f"{settings.ui_base_url}/runs/{run.run_id}",
                failed_at=in_words(record.timestamp), history="; ".join(dict.fromkeys(filter(None, histories))),
            )  # fmt: skip
            context.log.error(message.text)
            said.append(message)
    state.ledger.forget(time.time())
    if settings.alerts_webhook is None:
        state.outbox, sent, trouble = [], said, None
    else:
        state.outbox = [*state.outbox, *said][-WAITING:]
        sent, trouble = _deliver(settings, state.outbox)
        state.outbox = state.outbox[len(sent) :]
    # Now, not by raising where the webhook is down: Dagster keeps no cursor of a tick that raised, and what was
    # delivered or logged would be so again.
    context.update_cursor(state.dump())
    return SkipReason(_summary(settings, sent, state.outbox, held, trouble))


def _summary(settings: Settings, sent: list[Message], waiting: list[Message], held: int, trouble: str | None) -> str:
    parts = []
    if sent:
        verb = "sent" if settings.alerts_webhook else "logged"
        titles = "; ".join(message.title for message in sent)
        parts.append(f"{verb} {_counted(len(sent), 'message')}: {titles}")
    if held:
        parts.append(f"{_counted(held, 'repeat')} held back")
    if waiting:
        parts.append(f"{_counted(len(waiting), 'message')} not delivered yet ({trouble or 'no time left'}), next tick")
    return ", ".join(parts) or "nothing failed"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _deliver(settings: Settings, messages: list[Message]) -> tuple[list[Message], str | None]:
    """Post in order, up to the first that can't be; returns those that were, and what the trouble is."""
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
            # Only the kind of error: its message holds the URL, and that is a secret.
            return sent, f"the webhook can't be reached: {type(error).__name__}"
        if not 200 <= response.status_code < 300:
            return sent, f"the webhook answered HTTP {response.status_code}"
        sent.append(message)
    return sent, None


# ---- what happened, from Dagster's records ----


def _newest_end(instance: DagsterInstance) -> int:
    newest = [record.storage_id for end in ENDS for record in instance.fetch_run_status_changes(end, limit=1).records]
    return max(newest, default=-1)


def _ends_after(instance: DagsterInstance, position: int) -> list[EventLogRecord]:
    """The next ends of runs, in the order they happened."""
    cursor = EventLogCursor.from_storage_id(position).to_string()
    pages = [
        instance.fetch_run_status_changes(end, limit=RUNS_A_TICK, cursor=cursor, ascending=True).records for end in ENDS
    ]
    # The first so many of all kinds are among the first so many of each.
    found = (record for page in pages for record in page)
    return sorted(found, key=lambda record: record.storage_id)[:RUNS_A_TICK]


def read_steps(instance: DagsterInstance, run: DagsterRun, end: EventLogRecord) -> Findings:
    """What a run's steps tell; of a run that failed without any step, what the run itself tells."""
    days, findings = _days(run), Findings()
    logs = instance.all_logs(run.run_id, of_type={DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE})
    events = [entry.get_dagster_event() for entry in logs]
    findings.succeeded = [(event.step_key or "", days) for event in events if event.is_step_success]
    ended = end.event_log_entry.get_dagster_event()
    if ended.event_type == DagsterEventType.RUN_SUCCESS:
        findings.succeeded.append((f"job {run.job_name}", days))
    if ended.event_type != DagsterEventType.RUN_FAILURE or _has_failed_child(instance, run):
        return findings
    failures = [(event.step_key or "", event.step_failure_data) for event in events if event.is_step_failure]
    for step, failure in failures:
        if not (failure.error and failure.error.cls_name == "DagsterAssetCheckFailedError"):
            findings.failed.append((_step_problem(step, failure), days))
    if not failures:
        data = ended.event_specific_data
        error = data.error if isinstance(data, JobFailureData) else None
        why = _telling(error).message if error else ended.message or "no reason was given"
        killed = error is None and re.search(r"kill|terminat|interrupt|crash|\bdied\b", why, re.IGNORECASE)
        problem = FailureCause(f"job {run.job_name}", shorten(why), "killed" if killed else "error")
        findings.failed.append((problem, days))
    return findings


def read_checks(instance: DagsterInstance, run: DagsterRun, end: EventLogRecord) -> Findings:
    """What a run's asset checks tell."""
    findings = Findings()
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
        check = entry.get_dagster_event().event_specific_data
        assert isinstance(check, AssetCheckEvaluation)
        what = f"check {check.check_name} of {check.asset_key.to_user_string()}"
        days = _days(run) if _days(run) != DayRange() else DayRange(check.partition or "", check.partition or "")
        if check.passed:
            findings.succeeded.append((what, days))
        else:
            blocked = check.blocking and check.severity == AssetCheckSeverity.ERROR
            why = shorten(check.description or "the check gives no description")
            findings.failed.append((FailureCause(what, why, "blocking" if blocked else "warning"), days))
    return findings


def read_verdicts(instance: DagsterInstance, run: DagsterRun, end: EventLogRecord) -> Findings:
    """What the release gate decided in a run."""
    findings = Findings()
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION):
        made = entry.get_dagster_event().step_materialization_data.materialization
        told = {name: str(value.value) for name, value in made.metadata.items()}
        if made.asset_key.path[-1] != "release_gate" or not {"decision", "version", "reasons"} <= told.keys():
            continue
        what = f"version {told['version']} of the model"
        if told["decision"] == REJECTED:
            findings.failed.append((FailureCause(what, shorten(told["reasons"]), "rejected"), _days(run)))
        else:
            findings.succeeded.append((what, _days(run)))
    return findings


def _days(run: DagsterRun) -> DayRange:
    day = run.tags.get(PARTITION_NAME_TAG, "")
    return DayRange(
        run.tags.get(ASSET_PARTITION_RANGE_START_TAG, day), run.tags.get(ASSET_PARTITION_RANGE_END_TAG, day)
    )


def _has_failed_child(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether a run inside this one failed: that one is reported, with the step that did."""
    children = RunsFilter(tags={PARENT_TAG: run.run_id}, statuses=[DagsterRunStatus.FAILURE])
    return bool(instance.get_runs(children, limit=1))


def _step_problem(step: str, failure: StepFailureData) -> FailureCause:
    said = failure.user_failure_data.description if failure.user_failure_data else None
    classes = {error.cls_name for error in _chain(failure.error)}
    why = said or (_telling(failure.error).message if failure.error else "no reason was given")
    if "SourceError" in classes or (said and step in LANDED):
        return FailureCause(step, shorten(why), "unreadable")
    return FailureCause(step, shorten(why), "killed" if classes & set(INTERRUPTIONS) else "error")


def _chain(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    while error is not None:
        yield error
        error = error.cause


def _telling(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Of an error and its causes the one to show: our own, which is written for people, or else the innermost."""
    *_, innermost = chain = list(_chain(error))
    return next((each for each in chain if each.message.startswith("rec_assets.")), innermost)
