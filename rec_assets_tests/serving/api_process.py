"""`rec-assets serve` with two workers, as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

from rec_assets_tests.conftest import free_port


class ApiProcess:
    """The API with a home and a database. `kill` ends all its processes."""

    def __init__(self, home: Path, url: str, **environment: str) -> None:
        self.home, self.port = home, free_port()
        api = {"PORT": self.port, "WORKERS": 2, "DATABASE_URL": url, "BURST": 10**6, "REQUESTS_PER_SECOND": 10**6}
        settings = {f"REC_API__{name}": str(value) for name, value in api.items()}
        self.environment = {**os.environ, "REC_HOME": str(home), **settings, **environment}
        self.command = [sys.executable, "-m", "rec_assets.cli"]
        self.key = "rec_unknown"

    def add_key(self, *scopes: str) -> None:
        """Create a key for later requests."""
        options = [part for scope in scopes for part in ("--scope", scope)]
        self.key = subprocess.run(
            [*self.command, "keys", "add", "test", *options],
            env=self.environment, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    def start(self) -> None:
        with (self.home / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "serve"], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of a response; status 0 without a response within five seconds."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-API-Key": self.key, "Content-Type": "application/json"},
        )
        try:
            try:
                response = urllib.request.urlopen(request, timeout=5)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                return response.status, json.load(response)
        except (OSError, HTTPException):  # connection refused or reset, timeout, or killed during the response
            return 0, None

    def ask_all(self, method: str, path: str, body: Any = None) -> list[tuple[int, Any]]:
        """Send 24 requests, eight at a time, each on its own connection, so that every worker responds to some."""
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda _: self.ask(method, path, body), range(24)))

    def send(self, *ids: str) -> bool:
        """Send clicks; returns whether they were acknowledged."""
        events = [{"event_id": each, "type": "click", "product_id": "p", "customer_id": "c"} for each in ids]
        return self.ask("POST", "/v1/events", {"events": events})[0] == 200

    def wait_for(self, path: str, *statuses: int, seconds: float = 90) -> Any:
        """Wait until all workers respond with one of the statuses; returns one body."""
        deadline = time.monotonic() + seconds
        while True:
            responses = self.ask_all("GET", path)
            if {status for status, _ in responses} <= set(statuses):
                return responses[0][1]
            assert time.monotonic() < deadline, responses
            time.sleep(0.2)
