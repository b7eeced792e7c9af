"""Who may ask what, how often, and how much: keys with scopes, rate limits, the largest body."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

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


class BodyLimit:
    """Middleware: bodies longer than so many bytes are refused, at the first byte too many."""

    def __init__(self, app: App, limit: int, refuse: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.app, self.limit, self.refuse = app, limit, refuse

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.limit:
            await self.refuse(scope, receive, send)
            return
        body, more = b"", True
        while more:  # at most `limit` bytes are held, whatever the client announced
            message = await receive()
            if message["type"] != "http.request":
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limit:
                await self.refuse(scope, receive, send)
                return
        read = False

        async def replay() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)
