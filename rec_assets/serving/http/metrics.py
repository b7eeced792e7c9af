"""Prometheus metrics and the access log of one worker. Neither contains customer ids."""

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

from rec_assets.serving.http.security import RateLimit
from rec_assets.serving.index_files.folder import Published

_access_log = logging.getLogger("rec_assets.access")

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

disable_created_metrics()  # creation times of several workers can't be added up


class Metrics:
    """The metrics of this worker, in memory. `shared_metrics.py` adds up those of several workers."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        route = ["method", "route"]
        self._requests = Counter(
            "rec_assets_requests", "Requests by route and status.", [*route, "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "rec_assets_request_seconds", "Response time.", route, buckets=_SECONDS, registry=self.registry
        )
        self._answers = Counter(
            "rec_assets_answers",
            "Recommendation responses by what they are based on.",
            ["answered_by"],
            registry=self.registry,
        )
        self._events = Counter("rec_assets_events", "New events.", registry=self.registry)
        self._unexposed = Counter(
            "rec_assets_unexposed",
            "Responses without a planned experiment, because its model is missing or the exposure was not recorded.",
            registry=self.registry,
        )
        self._version = Gauge(
            "rec_assets_model_version", "Model version of the current index.", registry=self.registry
        )  # fmt: skip
        self._as_of = Gauge(
            "rec_assets_index_as_of_seconds", "As-of day of the current index, in seconds since 1970.",
            registry=self.registry,
        )  # fmt: skip

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request and its response time."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def count_response(self, answered_by: str) -> None:
        """Count a recommendation response."""
        self._answers.labels(answered_by).inc()

    def count_unexposed(self) -> None:
        """Count a response without a planned experiment."""
        self._unexposed.inc()

    def count_events(self, new: int) -> None:
        """Count new events."""
        self._events.inc(new)

    def set_index(self, published: Published | None) -> None:
        """Set the gauges of the current index."""
        if published is not None:
            self._version.set(published.version)
            self._as_of.set((published.as_of.toordinal() - 719_163) * 86_400)


class MetricsMiddleware:
    """Counts, times and logs requests by the route's template, because paths contain customer ids.

    Of rejected requests, it logs only some: a flood of them must not fill the disk.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self._limit, self._skipped = RateLimit(per_second=1, burst=60), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note_status)
        finally:
            seconds = time.perf_counter() - start
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.count_request(method, route, status, seconds)
            self._log(method, route, status, seconds)

    def _log(self, method: str, route: str, status: int, seconds: float) -> None:
        if 400 <= status < 500:
            if self._limit.take("rejected"):
                self._skipped += 1
                return
            if self._skipped:
                _access_log.info("%d rejected requests were not logged", self._skipped)
                self._skipped = 0
        _access_log.info("%s %s %d %.1f ms", method, route, status, 1000 * seconds)
