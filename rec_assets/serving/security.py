"""Who may ask, and how often: what a refusal says, and rate limits. Keys and their scopes are in `online.py`."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

_REMEMBERED = 20_000


class Refused(Exception):
    """A request that isn't answered: status, name of the error, and what to do about it."""

    def __init__(self, status: int, error: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.error, self.message, self.headers = status, error, message, headers or {}


@dataclass
class RateLimit:
    """A token bucket for each caller, in this worker.

    Attributes:
        per_second: Requests that a caller may make in the long run.
        burst: Requests that it may make at once.
    """

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def take(self, caller: str, now: float | None = None) -> float:
        """Take one request; returns 0, or the seconds until there is one to take."""
        now = time.monotonic() if now is None else now
        with self._lock:
            left, at = self._buckets.pop(caller, (self.burst, now))
            left = min(self.burst, left + (now - at) * self.per_second)
            wait = 0.0 if left >= 1 else (1 - left) / self.per_second
            self._buckets[caller] = (left - 1 if wait == 0 else left, now)
            while len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        return wait
