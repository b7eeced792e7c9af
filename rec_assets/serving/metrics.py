"""What Prometheus is told: how many requests, how long they took, what answers rested on. No customer is named."""

from __future__ import annotations

import logging
import time

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rec_assets.serving.folder import Published
from rec_assets.serving.security import RateLimit

_access = logging.getLogger("rec_assets.access")

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

disable_created_metrics()  # the sum of two workers' times of birth is none


class Metrics:
    """The metrics of this worker, in its memory; `shared_metrics.py` adds up those of several workers."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        routes = ["method", "route"]
        self._requests = Counter(
            "rec_assets_requests", "Requests by route and status.", [*routes, "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "rec_assets_request_seconds", "How long they took.", routes, buckets=_SECONDS, registry=self.registry
        )
        self._answers = Counter(
            "rec_assets_answers", "Answers by what they rest on.", ["answered_by"], registry=self.registry
        )
        self._events = Counter("rec_assets_events", "Events recorded, each once.", registry=self.registry)
        self._unexposed = Counter(
            "rec_assets_unexposed",
            "Answers that an experiment was to be part of and could not.",
            registry=self.registry,
        )
        self._version = Gauge(
            "rec_assets_model_version", "Version of the model that answers.", registry=self.registry
        )  # fmt: skip
        self._as_of = Gauge(
            "rec_assets_index_as_of_seconds", "Last day that the index knows, in seconds since 1970.",
            registry=self.registry,
        )  # fmt: skip

    def seen(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def answered(self, rests_on: str) -> None:
        """A shopper was answered."""
        self._answers.labels(rests_on).inc()

    def unexposed(self) -> None:
        """An experiment's model isn't there, or the answer could not be written down: it was given as ever."""
        self._unexposed.inc()

    def recorded(self, events: int) -> None:
        """Events were written."""
        self._events.inc(events)

    def answers_from(self, published: Published | None) -> None:
        """Which index answers now."""
        if published is not None:
            self._version.set(published.version)
            self._as_of.set((published.as_of.toordinal() - 719_163) * 86_400)


class Observe:
    """Middleware: counts and times every request, and logs it by its route's template: paths hold customers' ids.

    Of requests that are refused only some are logged: whoever floods the API must not fill the disk, too.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self._lines, self._left_out = RateLimit(per_second=1, burst=60), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            seconds = time.perf_counter() - started
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.seen(method, route, status, seconds)
            self._log(method, route, status, seconds)

    def _log(self, method: str, route: str, status: int, seconds: float) -> None:
        if 400 <= status < 500:
            if self._lines.take("refused"):
                self._left_out += 1
                return
            if self._left_out:
                _access.info("%d refused requests were not logged one by one", self._left_out)
                self._left_out = 0
        _access.info("%s %s %d %.1f ms", method, route, status, 1000 * seconds)
