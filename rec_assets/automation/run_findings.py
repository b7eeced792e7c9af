"""What one ended run shows in Dagster's event log: steps, asset checks and gate decisions that failed or succeeded.

Dagster: a run failure sensor gets only the run. Which steps and checks failed, and their days, is in the event log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster_shared.error import SerializableErrorInfo

from rec_assets.automation.alert_messages import DayRange, Problem, shorten
from rec_assets.automation.plan import PARENT_TAG
from rec_assets.resources.releases import REJECTED
from rec_assets.resources.tracking import INTERRUPTIONS

READ_LANDED_FILES = {"raw_purchase_logs", "raw_product_catalog"}
"""Steps that read landed files."""


@dataclass
class RunFindings:
    """The successes and failures of one run, each with its days."""

    succeeded: list[tuple[str, DayRange]] = field(default_factory=list)
    failed: list[tuple[Problem, DayRange]] = field(default_factory=list)


FindingsReader = Callable[[dg.DagsterInstance, dg.DagsterRun, dg.EventLogRecord], RunFindings]
"""Reads a run, given the event that ended it."""


def read_steps(instance: dg.DagsterInstance, run: dg.DagsterRun, end: dg.EventLogRecord) -> RunFindings:
    """The results of the steps; for a run that failed without a failed step, the message of the run."""
    days, findings = _days_of(run), RunFindings()
    logs = instance.all_logs(run.run_id, of_type={dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE})
    events = [entry.get_dagster_event() for entry in logs]
    findings.succeeded = [(event.step_key or "", days) for event in events if event.is_step_success]
    end_event = end.event_log_entry.get_dagster_event()
    if end_event.event_type == dg.DagsterEventType.RUN_SUCCESS:
        findings.succeeded.append((f"job {run.job_name}", days))
    if end_event.event_type != dg.DagsterEventType.RUN_FAILURE or _has_failed_child(instance, run):
        return findings
    failures = [(event.step_key or "", event.step_failure_data) for event in events if event.is_step_failure]
    for step, failure in failures:
        if not is_failed_check(failure):
            findings.failed.append((_problem_of(step, failure), days))
    if not failures:
        data = end_event.job_failure_data if end_event.is_job_failure else None
        error = data.error if data else None  # a killed run has no data
        why = _clearest(error).message if error else end_event.message or "the run gives no reason"
        killed = error is None and re.search(r"kill|terminat|interrupt|crash|\bdied\b", why, re.IGNORECASE)
        problem = Problem(f"job {run.job_name}", shorten(why), "killed" if killed else "error")
        findings.failed.append((problem, days))
    return findings


def read_checks(instance: dg.DagsterInstance, run: dg.DagsterRun, end: dg.EventLogRecord) -> RunFindings:
    """The results of the asset checks."""
    findings = RunFindings()
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        check = entry.get_dagster_event().event_specific_data
        assert isinstance(check, dg.AssetCheckEvaluation)
        what = f"check {check.check_name} of {check.asset_key.to_user_string()}"
        days = _days_of(run) if _days_of(run) != DayRange() else DayRange(check.partition or "", check.partition or "")
        if check.passed:
            findings.succeeded.append((what, days))
        else:
            blocked = check.blocking and check.severity == dg.AssetCheckSeverity.ERROR
            why = shorten(check.description or "the check gives no description")
            findings.failed.append((Problem(what, why, "blocking" if blocked else "warning"), days))
    return findings


def read_gate_decisions(instance: dg.DagsterInstance, run: dg.DagsterRun, end: dg.EventLogRecord) -> RunFindings:
    """The decision of the release gate."""
    findings = RunFindings()
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        materialization = entry.get_dagster_event().step_materialization_data.materialization
        metadata = {name: str(entry.value) for name, entry in materialization.metadata.items()}
        if materialization.asset_key.path[-1] != "release_gate" or not (
            {"decision", "version", "reasons"} <= metadata.keys()
        ):
            continue
        what = f"version {metadata['version']} of the model"
        if metadata["decision"] == REJECTED:
            findings.failed.append((Problem(what, shorten(metadata["reasons"]), "rejected"), _days_of(run)))
        else:
            findings.succeeded.append((what, _days_of(run)))
    return findings


def is_failed_check(failure: StepFailureData) -> bool:
    """Whether a step failed only because a blocking asset check failed."""
    return failure.error is not None and failure.error.cls_name == "DagsterAssetCheckFailedError"


def describe_failure(failure: StepFailureData) -> str:
    """The description that the asset gave when it failed, or else the clearest error message."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return _clearest(failure.error).message.strip() if failure.error else "the step gives no reason"


def _days_of(run: dg.DagsterRun) -> DayRange:
    day = run.tags.get(PARTITION_NAME_TAG, "")
    return DayRange(
        run.tags.get(ASSET_PARTITION_RANGE_START_TAG, day), run.tags.get(ASSET_PARTITION_RANGE_END_TAG, day)
    )


def _has_failed_child(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run of this run's plan failed: that run is reported, with its failed step."""
    children = dg.RunsFilter(tags={PARENT_TAG: run.run_id}, statuses=[dg.DagsterRunStatus.FAILURE])
    return bool(instance.get_runs(children, limit=1))


def _problem_of(step: str, failure: StepFailureData) -> Problem:
    classes = {error.cls_name for error in _chain(failure.error)}
    why = shorten(describe_failure(failure))
    has_description = failure.user_failure_data is not None and bool(failure.user_failure_data.description)
    if "SourceError" in classes or (has_description and step in READ_LANDED_FILES):
        return Problem(step, why, "unreadable")
    return Problem(step, why, "killed" if classes & set(INTERRUPTIONS) else "error")


def _chain(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    while error is not None:
        yield error
        error = error.cause


def _clearest(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The first error of rec_assets in the chain of causes, because its message is for users; else the innermost."""
    *_, innermost = chain = list(_chain(error))
    return next((link for link in chain if link.message.startswith("rec_assets.")), innermost)
