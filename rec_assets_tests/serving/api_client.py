"""A client of the API in this process, and helpers for its tests."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from rec_assets.serving.runtime import ServingRuntime

ANN = "c00"


@dataclass
class Client:
    """A client whose key has every scope except `simulate`."""

    http: TestClient
    runtime: ServingRuntime
    home: Path

    def get(self, path: str, **parameters: Any) -> Any:
        return self.http.get(path, params=parameters)

    def recommend(self, **body: Any) -> list[str]:
        response = self.http.post("/v1/recommendations", json=body)
        assert response.status_code == 200, response.text
        return [item["product_id"] for item in response.json()["items"]]

    def send(self, *events: dict[str, Any]) -> Any:
        return self.http.post("/v1/events", json={"events": list(events)})


def event(number: int, kind: str = "click", product: str = "p31", **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "type": kind, "product_id": product, "customer_id": ANN, **more}


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
