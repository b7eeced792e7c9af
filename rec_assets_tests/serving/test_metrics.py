"""Metrics of several workers, and of one worker without a disk."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rec_assets.serving.http.metrics import Metrics
from rec_assets.serving.http.shared_metrics import FOLDER_VARIABLE, SharedMetrics, shared_folder


def worker(folder: Path | str, events: int, refresh: Callable[[Metrics], None] = lambda _: None) -> SharedMetrics:
    metrics = Metrics()
    metrics.events.inc(events)
    metrics.count_request("GET", "/a", 200, 0.003)
    return SharedMetrics(metrics, lambda: refresh(metrics), {FOLDER_VARIABLE: str(folder)})


def value(text: bytes, sample: str) -> float:
    (line,) = [line for line in text.decode().splitlines() if line.startswith(f"{sample} ")]
    return float(line.split()[1])


def test_each_worker_reports_sums_of_all_workers_and_its_own_gauges(tmp_path: Path) -> None:
    one, two = worker(tmp_path, 3), worker(tmp_path, 4, lambda metrics: metrics._version.set(7))
    one.write()
    two.write()
    bucket = 'rec_assets_request_seconds_bucket{le="0.005",method="GET",route="/a"}'
    for each, version in ((one, 0), (two, 7)):
        text = each.text()
        assert value(text, "rec_assets_events_total") == 7
        assert value(text, bucket) == 2
        assert value(text, "rec_assets_model_version") == version
        assert b"this worker only" not in text


@pytest.mark.integration
def test_the_counts_of_dead_workers_stay(tmp_path: Path) -> None:
    for _ in range(3):
        code = f"import sys; from {__name__} import *; shared = worker(sys.argv[1], 2); shared.start(); shared.write()"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    alive = worker(tmp_path, 1)
    assert value(alive.text(), "rec_assets_events_total") == 7
    alive.start()
    assert value(alive.text(), "rec_assets_events_total") == 7, "taken over, and counted once"
    alive.stop()
    assert len(list(tmp_path.glob("*.prom"))) == 1
    assert value(worker(tmp_path, 1).text(), "rec_assets_events_total") == 8


def test_on_a_full_disk_a_worker_reports_its_own_metrics_and_logs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shared = worker(tmp_path, 5)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        for _ in range(3):
            shared.write()
        text = shared.text()
    assert value(text, "rec_assets_events_total") == 5 and b"# Metrics of this worker only" in text
    assert sum("No space left" in line for line in caplog.messages) == 1
    shared.write()
    assert b"this worker only" not in shared.text()


def test_without_a_folder_a_worker_reports_its_own_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with shared_folder(2) as folder:
        assert folder is None
    shared = worker("", 5)
    shared.start()
    assert value(shared.text(), "rec_assets_events_total") == 5 and b"# Metrics of this worker only" in shared.text()
    shared.stop()
    alone = SharedMetrics(Metrics(), lambda: None, {})
    assert b"this worker only" not in alone.text(), "a single worker shares nothing"


def test_a_server_deletes_its_folder_and_those_of_dead_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = tmp_path / "rec_assets-metrics-killed"
    killed.mkdir()
    (killed / "lock").touch()
    (killed / "1-a.prom").touch()
    early = tmp_path / "rec_assets-metrics-early"
    early.mkdir()
    os.utime(early, (0, 0))
    with shared_folder(2) as one, shared_folder(2) as two, shared_folder(1) as none:
        assert one and two and one != two and none is None
        assert set(tmp_path.iterdir()) == {one, two}
    assert not list(tmp_path.iterdir())
