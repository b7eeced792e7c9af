"""`rec-assets ui` starts the servers of Dagster and MLflow, and stops all of them when it is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rec_assets_tests.conftest import Shop, free_port, wait_for
from rec_assets_tests.shops import write_giftware_shop


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_ui_leaves_no_server_behind(tmp_path: Path, stop: signal.Signals) -> None:
    ui, mlflow = free_port(), free_port()
    shop = Shop(tmp_path / "home", write_giftware_shop(tmp_path / "shop"))
    environment = {**shop.environment, "REC_UI_PORT": str(ui), "REC_MLFLOW_PORT": str(mlflow)}
    process = subprocess.Popen(
        [sys.executable, "-m", "rec_assets.cli", "ui"], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in the background of a script
    )  # fmt: skip
    try:
        wait_for(mlflow, process, 180)
        wait_for(ui, process, 180)
        started = psutil.Process(process.pid).children(recursive=True)
        # Ctrl-C in a terminal signals all processes; SIGTERM of a service manager only the first.
        os.killpg(process.pid, stop) if stop == signal.SIGINT else process.send_signal(stop)
        process.wait(60)
        _, alive = psutil.wait_procs(started, timeout=30)
        assert [process.cmdline() for process in alive] == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
