"""Alerts: which messages are sent and when, for real runs of a real instance, to a real web server."""

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    DagsterInstance,
    DailyPartitionsDefinition,
    DefaultSensorStatus,
    Definitions,
    Failure,
    OpExecutionContext,
    SensorDefinition,
    SkipReason,
    asset,
    asset_check,
    build_sensor_context,
    define_asset_job,
    in_process_executor,
    job,
    op,
)
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from rec_assets.automation.alert_ledger import AlertLedger, normalize_reason
from rec_assets.automation.alert_messages import DayRange, Problem
from rec_assets.automation.alert_sensors import AlertCursor, build_alert_sensors
from rec_assets.automation.plan import PARENT_TAG
from rec_assets.settings import Settings
from rec_assets.sources.errors import SourceError

pytestmark = pytest.mark.integration  # each test has a Dagster instance

DAYS = DailyPartitionsDefinition("2017-12-01", end_date="2018-01-01")
SLACK_SECRET = "T0/B0/secret"


class Webhook:
    """A web server that stores posted messages and responds with a given status."""

    def __init__(self) -> None:
        self.status = 200
        self.posted: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.status == 200:
                    hook.posted.append(body)
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{SLACK_SECRET}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Scenario:
    """An instance, the sensors with their cursors, and assets that succeed or fail as configured."""

    instance: DagsterInstance
    settings: Settings
    webhook: Webhook
    raises: dict[str, BaseException | None] = field(default_factory=dict)
    check: tuple[bool, str] = (True, "")
    severity: AssetCheckSeverity = AssetCheckSeverity.ERROR
    verdict: dict[str, Any] = field(default_factory=dict)
    cursors: dict[str, str | None] = field(default_factory=dict)
    logged: list[str] = field(default_factory=list)

    def definitions(self) -> Definitions:
        def end(name: str) -> None:
            if (error := self.raises.get(name)) is not None:
                raise error

        @asset(partitions_def=DAYS)
        def raw_purchase_logs() -> None:
            end("raw_purchase_logs")

        @asset
        def als_model() -> None:
            end("als_model")

        @asset
        def co_purchase_graph() -> None:
            end("co_purchase_graph")

        @asset_check(asset=als_model, blocking=True)
        def factors_are_finite() -> AssetCheckResult:
            return AssetCheckResult(passed=self.check[0], description=self.check[1], severity=self.severity)

        @asset(deps=[als_model])
        def candidates() -> None:
            pass

        @asset
        def release_gate(context: OpExecutionContext) -> None:
            context.add_output_metadata(self.verdict)

        return Definitions(
            assets=[raw_purchase_logs, als_model, co_purchase_graph, candidates, release_gate],
            asset_checks=[factors_are_finite],
            jobs=[
                define_asset_job("ingest", selection=[raw_purchase_logs]),
                define_asset_job("release", selection=[release_gate]),
                define_asset_job("train_models", selection=[als_model, co_purchase_graph, candidates]),
            ],
            executor=in_process_executor,
        )

    def run(self, job_name: str, day: str | None = None, tags: dict[str, str] | None = None) -> str:
        """Execute a job, also if it fails; returns the id of the run."""
        result = (
            self.definitions()
            .resolve_job_def(job_name)
            .execute_in_process(instance=self.instance, partition_key=day, tags=tags or {}, raise_on_error=False)
        )
        return result.run_id

    def train(self, error: str | None = None) -> str:
        self.raises["als_model"] = ValueError(error) if error else None
        return self.run("train_models")

    def ingest(self, day: str, error: str | None = None) -> str:
        self.raises["raw_purchase_logs"] = Failure(error) if error else None
        return self.run("ingest", day)

    def run_gate(self, version: int, decision: str, reasons: str = "all gate checks pass") -> str:
        self.verdict = {"version": version, "decision": decision, "reasons": reasons}
        return self.run("release")

    def run_check(self, passed: bool, description: str = "") -> str:
        self.check = (passed, description)
        return self.run("train_models")

    def nested(self, error: str) -> str:
        """A run that executes a run of `train_models`. The inner run fails, and so does the outer one."""

        @op
        def run_train(context: OpExecutionContext) -> None:
            self.raises["als_model"] = ValueError(error)
            self.run("train_models", tags={PARENT_TAG: context.run_id})
            raise Failure(f"train_models failed: {error}")

        @job(executor_def=in_process_executor)
        def outer() -> None:
            run_train()

        return outer.execute_in_process(instance=self.instance, raise_on_error=False).run_id

    def kill(self) -> str:
        """A run whose process was killed, as the next bootstrap marks it."""
        run = self.instance.create_run_for_job(self.definitions().resolve_job_def("train_models"))
        self.instance.report_run_failed(run, "the process was killed")
        return run.run_id

    def tick(self, *names: str) -> str:
        """A tick of the sensors, by default of all; returns their skip reasons."""
        reasons = []
        for sensor in build_alert_sensors(self.settings):
            if names and sensor.name not in names:
                continue
            context = build_sensor_context(instance=self.instance, cursor=self.cursors.get(sensor.name))
            context.log.addHandler(_Recorder(self.logged))
            result = sensor(context)
            assert isinstance(result, SkipReason) and result.skip_message
            self.cursors[sensor.name] = context.cursor
            reasons.append(result.skip_message)
        return " | ".join(reasons)

    @property
    def titles(self) -> list[str]:
        return [posted["title"] for posted in self.webhook.posted]


class _Recorder(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.close()


@pytest.fixture
def scenario(webhook: Webhook) -> Iterator[Scenario]:
    with DagsterInstance.ephemeral() as instance:
        yield Scenario(instance, Settings(alerts_webhook=webhook.url), webhook)


TRAIN = "als_model failed in job train_models"
REJECTED = "version {} of the model was rejected in job release"
CHECK = "check factors_are_finite of als_model failed in job train_models"
KILLED = "job train_models failed"

CASES: dict[str, tuple[Callable[[Scenario], object], list[str]]] = {
    "nothing happens": (lambda w: (w.tick(), w.tick()), []),
    "all runs succeed": (lambda w: (w.tick(), w.train(), w.tick()), []),
    "the first tick, on an instance with failures": (lambda w: (w.train("bad"), w.kill(), w.tick(), w.tick()), []),
    "one failure": (lambda w: (w.tick(), w.train("bad"), w.tick(), w.tick()), [TRAIN]),
    "the same cause three times, with other numbers": (
        lambda w: (w.tick(), w.train("3 of 40 bad at 2017-12-01"), w.tick(), w.train("12 of 7 bad at 2018-02-03"),
                   w.tick(), w.train("4 of 40 bad at 2017-12-02"), w.tick()),
        [TRAIN],
    ),
    "the same cause three times between two ticks": (
        lambda w: (w.tick(), w.train("bad"), w.train("bad"), w.train("bad"), w.tick()),
        [TRAIN],
    ),
    "the same cause after a success": (
        lambda w: (w.tick(), w.train("bad"), w.tick(), w.train(), w.tick(), w.train("bad"), w.tick()),
        [TRAIN, TRAIN],
    ),
    "failure, success and failure between two ticks": (
        lambda w: (w.tick(), w.train("bad"), w.train(), w.train("bad"), w.tick()),
        [TRAIN, TRAIN],
    ),
    "another cause": (lambda w: (w.tick(), w.train("bad"), w.tick(), w.train("worse"), w.tick()), [TRAIN, TRAIN]),
    "the success of another step doesn't resolve the cause": (
        lambda w: (w.tick(), w.train("bad"), w.ingest("2017-12-01"), w.train("bad"), w.tick()),
        [TRAIN],
    ),
    "a day that fails repeatedly between successful days": (
        lambda w: (w.tick(), w.ingest("2017-12-01", "torn"), w.tick(), w.ingest("2017-12-02"), w.tick(),
                   w.ingest("2017-12-01", "torn"), w.tick()),
        ["raw_purchase_logs failed for 2017-12-01 in job ingest"],
    ),
    "a later day that fails the same way after a successful day": (
        lambda w: (w.tick(), w.ingest("2017-12-01", "torn"), w.ingest("2017-12-02"),
                   w.ingest("2017-12-03", "torn"), w.tick()),
        ["raw_purchase_logs failed for 2017-12-01 in job ingest",
         "raw_purchase_logs failed for 2017-12-03 in job ingest"],
    ),
    "two steps of one run are one message": (
        lambda w: (w.tick(), w.raises.update(co_purchase_graph=ValueError("no Spark")), w.train("no Spark"), w.tick()),
        ["als_model and 1 more failed in job train_models"],
    ),
    "a blocking check fails, and so does its run": (
        lambda w: (w.tick(), w.run_check(False, "3 infinite"), w.tick(), w.run_check(False, "5 infinite"), w.tick()),
        [CHECK],
    ),
    "a check fails again after it passed": (
        lambda w: (w.tick(), w.run_check(False, "bad"), w.run_check(True), w.run_check(False, "bad"), w.tick()),
        [CHECK, CHECK],
    ),
    "a blocking check and an unrelated step fail": (
        lambda w: (w.tick(), w.raises.update(co_purchase_graph=ValueError("bad")), w.run_check(False, "bad"), w.tick()),
        ["co_purchase_graph failed in job train_models", CHECK],
    ),
    "a run inside another one": (lambda w: (w.tick(), w.nested("bad"), w.tick(), w.tick()), [TRAIN]),
    "a challenger that passes": (lambda w: (w.tick(), w.run_gate(2, "may be promoted"), w.tick()), []),
    "a challenger that is rejected twice": (
        lambda w: (w.tick(), w.run_gate(2, "rejected", "bad"), w.tick(), w.run_gate(2, "rejected", "bad"), w.tick()),
        [REJECTED.format(2)],
    ),
    "two challengers that are rejected for the same reason": (
        lambda w: (w.tick(), w.run_gate(2, "rejected", "worse"), w.run_gate(3, "rejected", "worse"), w.tick()),
        [REJECTED.format(2), REJECTED.format(3)],
    ),
    "another code location's release_gate": (lambda w: (w.tick(), w.run("release"), w.tick()), []),
    "killed": (lambda w: (w.tick(), w.kill(), w.tick(), w.kill(), w.tick()), [KILLED]),
    "killed again after a success": (lambda w: (w.tick(), w.kill(), w.train(), w.kill(), w.tick()), [KILLED, KILLED]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_sent_messages(scenario: Scenario, name: str) -> None:
    story, expected = CASES[name]
    story(scenario)
    assert scenario.titles == expected
    assert len(scenario.logged) == len(expected)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["another cause", "a check fails again after it passed", "a run inside another one"])
def test_sent_messages_on_sqlite_storage(webhook: Webhook, tmp_path: Path, name: str) -> None:
    """SQLite storage has one file per run, each with its own event numbers."""
    story, expected = CASES[name]
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        scenario = Scenario(instance, Settings(alerts_webhook=webhook.url), webhook)
        story(scenario)
    assert scenario.titles == expected


def test_a_message_contains_the_failure_days_reason_url_and_advice(scenario: Scenario) -> None:
    scenario.tick()
    run = scenario.ingest("2017-12-01", "1 of 1 days could not be read:\n2017-12-01: no column `SKU`")
    reason = scenario.tick("alert_on_run_failure")
    assert reason == "sent 1 message: raw_purchase_logs failed for 2017-12-01 in job ingest"
    (posted,) = scenario.webhook.posted
    assert posted["kind"] == "run_failure" and posted["job"] == "ingest" and posted["days"] == "2017-12-01"
    assert posted["run_id"] == run and posted["url"] == f"http://localhost:3000/runs/{run}"
    assert posted["problems"][0]["why"].endswith("no column `SKU`")
    title, *_, last = posted["text"].splitlines()
    assert title == posted["title"] and posted["url"] in last
    assert "What to do: fix the landed file, or land it again" in posted["text"]
    assert scenario.logged == [posted["text"]]


def test_a_rejected_challenger_has_its_own_sensor_and_message(scenario: Scenario) -> None:
    scenario.tick()
    run = scenario.run_gate(3, "rejected", "NDCG@10 of 40 customers fell")
    assert scenario.tick("alert_on_run_failure", "alert_on_check_failure") == "nothing failed | nothing failed"
    assert scenario.tick("alert_on_rejection") == f"sent 1 message: {REJECTED.format(3)}"
    (posted,) = scenario.webhook.posted
    assert (posted["kind"], posted["run_id"]) == ("rejection", run)
    assert "Why: NDCG@10 of 40 customers fell" in posted["text"] and "the champion stays" in posted["text"]
    assert posted["text"].splitlines()[-1].startswith("Was rejected at ")


def test_a_message_names_the_range_of_days(scenario: Scenario) -> None:
    scenario.tick()
    scenario.raises["raw_purchase_logs"] = Failure("torn")
    tags = {ASSET_PARTITION_RANGE_START_TAG: "2017-12-01", ASSET_PARTITION_RANGE_END_TAG: "2017-12-05"}
    scenario.run("ingest", tags=tags)
    scenario.tick()
    assert scenario.titles == ["raw_purchase_logs failed for 2017-12-01 to 2017-12-05 in job ingest"]


def _raised(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "why", "advice"),
    [
        (_raised(ValueError("outside"), KeyError("inside")), "KeyError: 'inside'", "error"),
        (_raised(SourceError("line 3 is torn"), KeyError("x")), "SourceError: line 3 is torn", "unreadable"),
        (Failure("no lists"), "no lists", "error"),
        (DagsterExecutionInterruptedError(), "Interrupted", "killed"),
        (ValueError("x" * 5000), "…", "error"),
    ],
    ids=[
        "the innermost error",
        "the rec_assets error before its cause",
        "the description of a Failure",
        "interrupted",
        "too long",
    ],
)
def test_reason_and_advice(scenario: Scenario, error: BaseException, why: str, advice: str) -> None:
    scenario.tick()
    scenario.raises["als_model"] = error
    with contextlib.suppress(DagsterExecutionInterruptedError):
        scenario.run("train_models")
    scenario.tick()
    (problem,) = scenario.webhook.posted[0]["problems"]
    assert why in problem["why"] and len(problem["why"]) <= 500
    assert problem["advice"] == advice


@pytest.mark.parametrize(
    ("severity", "advice"),
    [(AssetCheckSeverity.ERROR, "Nothing downstream was materialized, and the champion stays"),
     (AssetCheckSeverity.WARN, "only warns: ")],
)  # fmt: skip
def test_a_check_message_contains_its_description_and_whether_it_blocked(
    scenario: Scenario, severity: AssetCheckSeverity, advice: str
) -> None:
    scenario.tick()
    scenario.severity = severity
    run = scenario.run_check(False, "3 factors are not finite")
    scenario.tick()
    (posted,) = scenario.webhook.posted
    assert posted["kind"] == "check_failure" and posted["run_id"] == run
    assert "Why: 3 factors are not finite" in posted["text"] and advice in posted["text"]


def test_suppressed_repeats_are_counted_in_the_next_message(scenario: Scenario) -> None:
    for _ in range(2):
        scenario.tick()
        scenario.train("bad")
    scenario.train("bad")
    assert "suppressed 2 repeats" in scenario.tick("alert_on_run_failure")
    scenario.settings = scenario.settings.model_copy(update={"alerts_repeat_hours": 1e-9})
    scenario.train("bad")
    scenario.tick("alert_on_run_failure")
    assert "3 more times since 20" in scenario.webhook.posted[-1]["text"]
    assert len(scenario.titles) == 2


def test_if_the_webhook_is_down_messages_are_neither_lost_nor_repeated(scenario: Scenario) -> None:
    scenario.tick()
    scenario.webhook.status = 503
    scenario.train("bad")
    assert "1 message not delivered yet (the webhook returned HTTP 503)" in scenario.tick("alert_on_run_failure")
    scenario.train("bad")
    scenario.train("worse")
    assert "2 messages not delivered yet" in scenario.tick("alert_on_run_failure")
    assert scenario.titles == [] and len(scenario.logged) == 2
    scenario.webhook.status = 200
    assert scenario.tick("alert_on_run_failure").startswith("sent 2 messages")
    assert scenario.tick("alert_on_run_failure") == "nothing failed"
    assert ["worse" in posted["text"] for posted in scenario.webhook.posted] == [False, True]
    assert len(scenario.logged) == 2


@pytest.mark.parametrize("status", [301, 404])
def test_only_a_success_status_counts_as_delivered(scenario: Scenario, status: int) -> None:
    scenario.tick()
    scenario.webhook.status = status
    scenario.train("bad")
    assert f"not delivered yet (the webhook returned HTTP {status})" in scenario.tick()


def test_an_unreachable_webhook_does_not_leak_its_url(scenario: Scenario) -> None:
    scenario.tick()
    scenario.webhook.close()
    scenario.train("bad")
    reason = scenario.tick("alert_on_run_failure")
    assert "1 message not delivered yet (can't reach the webhook: ConnectionError)" in reason
    assert SLACK_SECRET not in reason + "".join(scenario.logged) + repr(scenario.settings)


def test_slack_messages_escape_markup(scenario: Scenario) -> None:
    scenario.settings = scenario.settings.model_copy(update={"alerts_format": "slack"})
    scenario.tick()
    scenario.train("<b> & more")
    scenario.tick()
    (posted,) = scenario.webhook.posted
    assert list(posted) == ["text"]
    assert "&lt;b&gt; &amp; more" in posted["text"]


def test_without_a_webhook_messages_are_logged(scenario: Scenario) -> None:
    scenario.settings = Settings(ui_url="https://dagster.example/")
    scenario.tick()
    run = scenario.train("bad")
    assert scenario.tick("alert_on_run_failure") == f"logged 1 message: {TRAIN}"
    assert len(scenario.logged) == 1 and f"https://dagster.example/runs/{run}" in scenario.logged[0]
    assert scenario.tick("alert_on_run_failure") == "nothing failed"


def test_run_ends_beyond_the_limit_of_a_tick_are_read_in_order(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failure, success, failure gives two messages, whatever the number of runs between them and per page."""
    monkeypatch.setattr("rec_assets.automation.alert_sensors.RUNS_PER_TICK", 2)
    scenario.tick()
    for error in ("bad", None, None, None, "bad", "bad"):
        scenario.train(error)
    for _ in range(4):
        scenario.tick("alert_on_run_failure")
    assert scenario.titles == [TRAIN, TRAIN]
    assert scenario.tick("alert_on_run_failure") == "nothing failed"


def test_the_sensors_are_off_by_default() -> None:
    sensors: list[SensorDefinition] = build_alert_sensors(Settings())
    assert {sensor.name for sensor in sensors} == {
        "alert_on_run_failure",
        "alert_on_check_failure",
        "alert_on_rejection",
    }
    assert {sensor.default_status for sensor in sensors} == {DefaultSensorStatus.STOPPED}
    Definitions.validate_loadable(Definitions(sensors=sensors))


def test_the_webhook_must_be_a_url_or_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="http://") as error:
        Settings(alerts_webhook=f"hooks/{SLACK_SECRET}")
    assert SLACK_SECRET not in str(error.value)
    monkeypatch.setenv("REC_ALERTS_WEBHOOK", "")
    assert Settings().alerts_webhook is None


SAME = {
    "numbers": ("3 of 40 lines", "12 of 7 lines"),
    "dates and times": ("at 2017-12-01 08:00:12", "at 2018-02-03T09:30:00"),
    "run ids": ("run 1f0e2b3c-1111-2222-3333-444455556666", "run aaaaaaaa-1111-2222-3333-bbbbccccdddd"),
    "hashes and addresses": ("file 0a1b2c3d4e5f-0.parquet at 0x7fa0", "file 9f8e7d6c5b4a-1.parquet at 0xbeef"),
    "paths of days": ("no file in landing/date=2017-12-01/", "no file in landing/date=2017-12-02/"),
    "the number of listed days": (
        "1 of 1 days could not be read:\n2017-12-01: torn",
        "2 of 9 days could not be read:\n2017-12-01: torn\n2017-12-02: torn",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_variable_parts_do_not_make_another_cause(name: str) -> None:
    one, other = SAME[name]
    assert normalize_reason(one) == normalize_reason(other)


def test_other_words_make_another_cause() -> None:
    assert normalize_reason("no column SKU") != normalize_reason("no column Qty")


HOUR = 3600.0


def test_the_ledger_reports_again_after_a_time_with_the_suppressed_count() -> None:
    ledger, problem = AlertLedger(24, {}), Problem("als_model", "bad", "error")
    histories = [ledger.record_failure(problem, DayRange(), at * HOUR) for at in (0, 1, 23, 25, 26, 49)]
    assert histories == ["", None, None, "3 more times since 1970-01-01 00:00 UTC", None,
                     "2 more times since 1970-01-02 01:00 UTC"]  # fmt: skip


def test_the_ledger_survives_the_cursor_and_deletes_expired_causes() -> None:
    ledger = AlertLedger(24, {})
    ledger.record_failure(Problem("als_model", "bad", "error"), DayRange("2017-12-01", "2017-12-01"), 0)
    cursor = AlertCursor(position=0, causes=ledger.causes).model_dump_json()
    copy = AlertLedger(24, AlertCursor.model_validate_json(cursor).causes)
    assert copy.causes == ledger.causes
    copy.delete_expired(29 * 24 * HOUR)
    assert copy.causes
    copy.delete_expired(32 * 24 * HOUR)
    assert copy.causes == {}
