"""`rec-assets ui` starts Dagster's servers and MLflow's, and when it is stopped none of them stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from rec_assets_tests.conftest import Shop
from rec_assets_tests.shops import write_giftware_shop


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_ui_leaves_no_server_behind(tmp_path: Path, stop: signal.Signals) -> None:
    ui, mlflow = _free_port(), _free_port()
    shop = Shop(tmp_path / "home", write_giftware_shop(tmp_path / "shop"))
    environment = {**shop.environment, "REC_UI_PORT": str(ui), "REC_MLFLOW_PORT": str(mlflow)}
    process = subprocess.Popen(
        [sys.executable, "-m", "rec_assets.cli", "ui"], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in a script's background
    )  # fmt: skip
    started: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 180
        while not (_answers(ui) and _answers(mlflow)):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the servers don't answer"
            time.sleep(0.5)
        started = psutil.Process(process.pid).children(recursive=True)
        # A terminal's Ctrl-C reaches all of them, a service manager's SIGTERM the first.
        os.killpg(process.pid, stop) if stop == signal.SIGINT else process.send_signal(stop)
        process.wait(60)
        _, alive = psutil.wait_procs(started, timeout=30)
        assert [each.cmdline() for each in alive] == []
    finally:
        process.kill()
        for each in started:
            if each.is_running():
                each.kill()
