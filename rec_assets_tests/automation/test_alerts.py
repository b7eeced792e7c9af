"""Alerts: what is said, when, and when not; on real runs of a real instance, to a real web server."""

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

from rec_assets.automation.alerts import build_alert_sensors
from rec_assets.automation.execution import PARENT_TAG
from rec_assets.automation.messages import DayRange, FailureCause, Ledger, normalized
from rec_assets.settings import Settings
from rec_assets.sources.errors import SourceError

DAYS = DailyPartitionsDefinition("2017-12-01", end_date="2018-01-01")
SLACK_SECRET = "T0/B0/secret"


class Webhook:
    """A web server that keeps what is posted, and answers as told."""

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
class World:
    """An instance, the sensors with their cursors, and assets that end as told."""

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
                define_asset_job("train", selection=[als_model, co_purchase_graph, candidates]),
            ],
            executor=in_process_executor,
        )

    def run(self, job_name: str, day: str | None = None, tags: dict[str, str] | None = None) -> str:
        """Execute a job, come what may; returns the run's id."""
        found = self.definitions().resolve_job_def(job_name)
        result = found.execute_in_process(
            instance=self.instance, partition_key=day, tags=tags or {}, raise_on_error=False
        )
        return result.run_id

    def train(self, error: str | None = None) -> str:
        self.raises["als_model"] = ValueError(error) if error else None
        return self.run("train")

    def ingest(self, day: str, error: str | None = None) -> str:
        self.raises["raw_purchase_logs"] = Failure(error) if error else None
        return self.run("ingest", day)

    def decide(self, version: int, decision: str, reasons: str = "every rule holds") -> str:
        self.verdict = {"version": version, "decision": decision, "reasons": reasons}
        return self.run("release")

    def judge(self, passed: bool, description: str = "") -> str:
        self.check = (passed, description)
        return self.run("train")

    def nested(self, error: str) -> str:
        """A run of a job that executes `train` inside, which fails, and so does the outer one."""

        @op
        def run_train(context: OpExecutionContext) -> None:
            self.raises["als_model"] = ValueError(error)
            self.run("train", tags={PARENT_TAG: context.run_id})
            raise Failure(f"train failed: {error}")

        @job(executor_def=in_process_executor)
        def nightly() -> None:
            run_train()

        return nightly.execute_in_process(instance=self.instance, raise_on_error=False).run_id

    def kill(self) -> str:
        """A run whose process was killed, as bootstrap ends it."""
        run = self.instance.create_run_for_job(self.definitions().resolve_job_def("train"))
        self.instance.report_run_failed(run, "the process was killed")
        return run.run_id

    def tick(self, *names: str) -> str:
        """A tick of the sensors (of all, by default); returns what they skipped for."""
        reasons = []
        for sensor in build_alert_sensors(self.settings):
            if names and sensor.name not in names:
                continue
            context = build_sensor_context(instance=self.instance, cursor=self.cursors.get(sensor.name))
            context.log.addHandler(_Recorder(self.logged))
            found = sensor(context)
            assert isinstance(found, SkipReason) and found.skip_message
            self.cursors[sensor.name] = context.cursor
            reasons.append(found.skip_message)
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
def world(webhook: Webhook) -> Iterator[World]:
    with DagsterInstance.ephemeral() as instance:
        yield World(instance, Settings(alerts_webhook=webhook.url), webhook)


TRAIN = "als_model failed in job train"
REJECTED = "version {} of the model was rejected in job release"
CHECK = "check factors_are_finite of als_model failed in job train"
KILLED = "job train failed"

CASES: dict[str, tuple[Callable[[World], object], list[str]]] = {
    "nothing happens": (lambda w: (w.tick(), w.tick()), []),
    "all goes well": (lambda w: (w.tick(), w.train(), w.tick()), []),
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
    "the success of another step ends nothing": (
        lambda w: (w.tick(), w.train("bad"), w.ingest("2017-12-01"), w.train("bad"), w.tick()),
        [TRAIN],
    ),
    "a day that goes on failing between days that go well": (
        lambda w: (w.tick(), w.ingest("2017-12-01", "torn"), w.tick(), w.ingest("2017-12-02"), w.tick(),
                   w.ingest("2017-12-01", "torn"), w.tick()),
        ["raw_purchase_logs failed for 2017-12-01 in job ingest"],
    ),
    "a later day that fails likewise after a day that went well": (
        lambda w: (w.tick(), w.ingest("2017-12-01", "torn"), w.ingest("2017-12-02"),
                   w.ingest("2017-12-03", "torn"), w.tick()),
        ["raw_purchase_logs failed for 2017-12-01 in job ingest",
         "raw_purchase_logs failed for 2017-12-03 in job ingest"],
    ),
    "two steps of one run are one message": (
        lambda w: (w.tick(), w.raises.update(co_purchase_graph=ValueError("no Spark")), w.train("no Spark"), w.tick()),
        ["als_model and 1 more failed in job train"],
    ),
    "a blocking check fails, and with it its run": (
        lambda w: (w.tick(), w.judge(False, "3 not finite"), w.tick(), w.judge(False, "5 not finite"), w.tick()),
        [CHECK],
    ),
    "a check fails again after it passed": (
        lambda w: (w.tick(), w.judge(False, "bad"), w.judge(True), w.judge(False, "bad"), w.tick()),
        [CHECK, CHECK],
    ),
    "a blocking check and, apart from it, a step": (
        lambda w: (w.tick(), w.raises.update(co_purchase_graph=ValueError("bad")), w.judge(False, "bad"), w.tick()),
        ["co_purchase_graph failed in job train", CHECK],
    ),
    "a run inside another one": (lambda w: (w.tick(), w.nested("bad"), w.tick(), w.tick()), [TRAIN]),
    "a challenger that passes": (lambda w: (w.tick(), w.decide(2, "may be promoted"), w.tick()), []),
    "a challenger that is rejected, and judged again": (
        lambda w: (w.tick(), w.decide(2, "rejected", "NDCG@10 fell"), w.tick(), w.decide(2, "rejected", "NDCG@10 fell"),
                   w.tick()),
        [REJECTED.format(2)],
    ),
    "two challengers that are rejected for one reason": (
        lambda w: (w.tick(), w.decide(2, "rejected", "worse"), w.decide(3, "rejected", "worse"), w.tick()),
        [REJECTED.format(2), REJECTED.format(3)],
    ),
    "another code location's release_gate": (lambda w: (w.tick(), w.run("release"), w.tick()), []),
    "killed": (lambda w: (w.tick(), w.kill(), w.tick(), w.kill(), w.tick()), [KILLED]),
    "killed again after a success": (lambda w: (w.tick(), w.kill(), w.train(), w.kill(), w.tick()), [KILLED, KILLED]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_messages_sent(world: World, name: str) -> None:
    story, expected = CASES[name]
    story(world)
    assert world.titles == expected
    assert len(world.logged) == len(expected)


@pytest.mark.parametrize("name", ["another cause", "a check fails again after it passed", "a run inside another one"])
def test_messages_sent_on_the_storage_of_a_deployment(webhook: Webhook, tmp_path: Path, name: str) -> None:
    """SQLite with a file a run, whose events have numbers of their own."""
    story, expected = CASES[name]
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        world = World(instance, Settings(alerts_webhook=webhook.url), webhook)
        story(world)
    assert world.titles == expected


def test_the_message_says_what_failed_when_why_where_and_what_to_do(world: World) -> None:
    world.tick()
    run = world.ingest("2017-12-01", "1 of 1 days could not be read:\n2017-12-01: no column `SKU`")
    reason = world.tick("alert_on_run_failure")
    assert reason == "sent 1 message: raw_purchase_logs failed for 2017-12-01 in job ingest"
    (posted,) = world.webhook.posted
    assert posted["kind"] == "run_failure" and posted["job"] == "ingest" and posted["days"] == "2017-12-01"
    assert posted["run_id"] == run and posted["url"] == f"http://localhost:3000/runs/{run}"
    assert posted["problems"][0]["why"].endswith("no column `SKU`")
    title, *_, last = posted["text"].splitlines()
    assert title == posted["title"] and posted["url"] in last
    assert "What to do: fix the landed file, or land it again" in posted["text"]
    assert world.logged == [posted["text"]]


def test_a_rejection_is_told_as_such_by_its_own_sensor(world: World) -> None:
    world.tick()
    run = world.decide(3, "rejected", "NDCG@10 of 40 customers fell")
    assert world.tick("alert_on_run_failure", "alert_on_check_failure") == "nothing failed | nothing failed"
    assert world.tick("alert_on_rejection") == f"sent 1 message: {REJECTED.format(3)}"
    (posted,) = world.webhook.posted
    assert (posted["kind"], posted["run_id"]) == ("rejection", run)
    assert "Why: NDCG@10 of 40 customers fell" in posted["text"] and "the champion stays" in posted["text"]
    assert posted["text"].splitlines()[-1].startswith("Was rejected at ")


def test_a_range_of_days_is_named(world: World) -> None:
    world.tick()
    world.raises["raw_purchase_logs"] = Failure("torn")
    tags = {ASSET_PARTITION_RANGE_START_TAG: "2017-12-01", ASSET_PARTITION_RANGE_END_TAG: "2017-12-05"}
    world.run("ingest", tags=tags)
    world.tick()
    assert world.titles == ["raw_purchase_logs failed for 2017-12-01 to 2017-12-05 in job ingest"]


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
    ids=["the innermost error", "our own before its cause", "what a Failure says", "interrupted", "too long"],
)
def test_why_and_what_to_do(world: World, error: BaseException, why: str, advice: str) -> None:
    world.tick()
    world.raises["als_model"] = error
    with contextlib.suppress(DagsterExecutionInterruptedError):
        world.run("train")
    world.tick()
    (problem,) = world.webhook.posted[0]["problems"]
    assert why in problem["why"] and len(problem["why"]) <= 500
    assert problem["advice"] == advice


@pytest.mark.parametrize(
    ("severity", "advice"),
    [(AssetCheckSeverity.ERROR, "nothing downstream was made, and the champion stays"),
     (AssetCheckSeverity.WARN, "only warns")],
)  # fmt: skip
def test_a_check_says_its_description_and_whether_it_stopped_anything(
    world: World, severity: AssetCheckSeverity, advice: str
) -> None:
    world.tick()
    world.severity = severity
    run = world.judge(False, "3 factors are not finite")
    world.tick()
    (posted,) = world.webhook.posted
    assert posted["kind"] == "check_failure" and posted["run_id"] == run
    assert "Why: 3 factors are not finite" in posted["text"] and advice in posted["text"]


def test_repeats_are_counted_and_told_when_the_time_has_come(world: World) -> None:
    for _ in range(2):
        world.tick()
        world.train("bad")
    world.train("bad")
    assert "2 repeats held back" in world.tick("alert_on_run_failure")
    world.settings = world.settings.model_copy(update={"alerts_repeat_hours": 1e-9})
    world.train("bad")
    world.tick("alert_on_run_failure")
    assert "3 more times since 20" in world.webhook.posted[-1]["text"]
    assert len(world.titles) == 2


def test_a_webhook_that_is_down_loses_nothing_and_repeats_nothing(world: World) -> None:
    world.tick()
    world.webhook.status = 503
    world.train("bad")
    assert "1 message not delivered yet (the webhook answered HTTP 503)" in world.tick("alert_on_run_failure")
    world.train("bad")
    world.train("worse")
    assert "2 messages not delivered yet" in world.tick("alert_on_run_failure")
    assert world.titles == [] and len(world.logged) == 2
    world.webhook.status = 200
    assert world.tick("alert_on_run_failure").startswith("sent 2 messages")
    assert world.tick("alert_on_run_failure") == "nothing failed"
    assert ["worse" in posted["text"] for posted in world.webhook.posted] == [False, True]
    assert len(world.logged) == 2


@pytest.mark.parametrize("status", [301, 404])
def test_only_success_counts_as_delivered(world: World, status: int) -> None:
    world.tick()
    world.webhook.status = status
    world.train("bad")
    assert f"not delivered yet (the webhook answered HTTP {status})" in world.tick()


def test_a_webhook_that_cannot_be_reached_is_no_leak_of_its_url(world: World) -> None:
    world.tick()
    world.webhook.close()
    world.train("bad")
    reason = world.tick("alert_on_run_failure")
    assert "1 message not delivered yet (the webhook can't be reached: ConnectionError)" in reason
    assert SLACK_SECRET not in reason + "".join(world.logged) + repr(world.settings)


def test_slack_gets_a_text_without_markup(world: World) -> None:
    world.settings = world.settings.model_copy(update={"alerts_format": "slack"})
    world.tick()
    world.train("<b> & more")
    world.tick()
    (posted,) = world.webhook.posted
    assert list(posted) == ["text"]
    assert "&lt;b&gt; &amp; more" in posted["text"]


def test_without_a_webhook_the_log_has_it(world: World) -> None:
    world.settings = Settings(ui_url="https://dagster.example/")
    world.tick()
    run = world.train("bad")
    assert world.tick("alert_on_run_failure") == f"logged 1 message: {TRAIN}"
    assert len(world.logged) == 1 and f"https://dagster.example/runs/{run}" in world.logged[0]
    assert world.tick("alert_on_run_failure") == "nothing failed"


def test_more_ends_than_a_tick_takes_are_taken_in_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs went well between, or how few of them a page holds: failure, success, failure is two."""
    monkeypatch.setattr("rec_assets.automation.alerts.RUNS_A_TICK", 2)
    world.tick()
    for error in ("bad", None, None, None, "bad", "bad"):
        world.train(error)
    for _ in range(4):
        world.tick("alert_on_run_failure")
    assert world.titles == [TRAIN, TRAIN]
    assert world.tick("alert_on_run_failure") == "nothing failed"


def test_the_sensors_are_off_until_turned_on() -> None:
    sensors: list[SensorDefinition] = build_alert_sensors(Settings())
    assert {each.name for each in sensors} == {"alert_on_run_failure", "alert_on_check_failure", "alert_on_rejection"}
    assert {each.default_status for each in sensors} == {DefaultSensorStatus.STOPPED}
    Definitions.validate_loadable(Definitions(sensors=sensors))


def test_the_webhook_must_be_a_url_and_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
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
    "how many days are listed": (
        "1 of 1 days could not be read:\n2017-12-01: torn",
        "2 of 9 days could not be read:\n2017-12-01: torn\n2017-12-02: torn",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_these_are_the_same_cause(name: str) -> None:
    one, other = SAME[name]
    assert normalized(one) == normalized(other)


def test_words_make_another_cause() -> None:
    assert normalized("no column SKU") != normalized("no column Qty")


HOUR = 3600.0


def test_the_ledger_reports_again_by_the_clock_with_what_was_held_back() -> None:
    ledger, problem = Ledger(24), FailureCause("als_model", "bad", "error")
    found = [ledger.failed(problem, DayRange(), at * HOUR) for at in (0, 1, 23, 25, 26, 49)]
    assert found == ["", None, None, "3 more times since 1970-01-01 00:00 UTC", None,
                     "2 more times since 1970-01-02 01:00 UTC"]  # fmt: skip


def test_the_ledger_survives_the_cursor_and_forgets_what_is_long_gone() -> None:
    ledger = Ledger(24)
    ledger.failed(FailureCause("als_model", "bad", "error"), DayRange("2017-12-01", "2017-12-01"), 0)
    copy = Ledger.from_dict(24, json.loads(json.dumps(ledger.to_dict())))
    assert copy.causes == ledger.causes
    copy.forget(29 * 24 * HOUR)
    assert copy.causes
    copy.forget(32 * 24 * HOUR)
    assert copy.causes == {}
